/**
 * The path of a blob trigger: `container`, `container/{name}`, `container/in/{name}.{extension}`. Pure.
 *
 * As in the real host, `{x}` stands for any text, slashes included, as long as possible; `{{` and `}}` stand for the
 * braces themselves.
 */
import { FirnError } from '../errors.ts';

export interface BlobPath {
  readonly container: string;
  /** What every matching blob's name begins with; it narrows the listing. */
  readonly prefix: string;
  /** The values of `{x}` for a matching name, undefined for another. */
  match(blob: string): Readonly<Record<string, string>> | undefined;
}

/** FIRN_FUNCTION_INVALID. */
export function parseBlobPath(path: string, functionName: string): BlobPath {
  const refuse = (problem: string): never => {
    throw new FirnError('FIRN_FUNCTION_INVALID', { function: functionName, problem: `its path «${path}» ${problem}` });
  };
  const slash = path.indexOf('/');
  const container = slash < 0 ? path : path.slice(0, slash);
  if (!/^(\$root|[a-z0-9](?:-?[a-z0-9])+)$/.test(container)) refuse('does not begin with the name of a container');
  const pattern = slash < 0 ? '' : path.slice(slash + 1);
  if (pattern === '') return { container, prefix: '', match: () => ({}) };

  const names: string[] = [];
  let expression = '';
  let prefix = '';
  for (let at = 0; at < pattern.length; ) {
    const rest = pattern.slice(at);
    const variable = /^\{([A-Za-z_][A-Za-z0-9_]*)\}/.exec(rest);
    const literal = /^(?:\{\{|\}\}|[^{}])/.exec(rest)?.[0];
    if (variable?.[1] !== undefined && !rest.startsWith('{{')) {
      if (names.includes(variable[1])) refuse(`has {${variable[1]}} twice`);
      names.push(variable[1]);
      expression += '([^]*)';
      at += variable[0].length;
    } else if (literal !== undefined) {
      const text = literal.length === 2 ? literal.slice(1) : literal;
      expression += text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
      if (names.length === 0) prefix += text;
      at += literal.length;
    } else {
      refuse('has a brace that is not closed');
    }
  }
  const compiled = new RegExp(`^${expression}$`);
  return {
    container,
    prefix,
    match(blob) {
      const found = compiled.exec(blob);
      if (found === null) return undefined;
      return Object.fromEntries(names.map((name, index) => [name, found[index + 1] ?? '']));
    },
  };
}
