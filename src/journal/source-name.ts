/** Names of sources: a name is a segment of blob names and of messages, so it holds nothing that would need escaping. */
import { FirnError } from '../errors.ts';

const SOURCE_NAME_CHARS_MAX = 63;
const sourceNamePattern = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

/** Says why a source cannot have this name, or undefined when it can. */
export function sourceNameProblem(name: string): string | undefined {
  if (name === '') return 'it is empty';
  if (name.length > SOURCE_NAME_CHARS_MAX) return `it has more than ${SOURCE_NAME_CHARS_MAX} characters`;
  if (!sourceNamePattern.test(name)) {
    return 'it must begin with a letter or a digit and hold only letters, digits, dots, dashes and underscores';
  }
  return undefined;
}

/** @throws FIRN_SOURCE_NAME_INVALID. */
export function checkSourceName(name: string): void {
  const problem = sourceNameProblem(name);
  if (problem !== undefined) throw new FirnError('FIRN_SOURCE_NAME_INVALID', { source: name, problem });
}
