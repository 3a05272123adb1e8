/** Passphrases from files, for options that name one. */
import { readFile } from 'node:fs/promises';
import { FirnError, problemOf } from '../errors.ts';

/**
 * The content of the file without the newline at its end.
 * @param option that named the file, for the message.
 * @throws FIRN_SETTING_INVALID when it cannot be read or is empty.
 */
export async function readPassphrase(option: string, file: string): Promise<string> {
  const invalid = (problem: string, cause?: unknown) =>
    new FirnError('FIRN_SETTING_INVALID', { name: `--${option}`, problem }, { cause });
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw invalid(problemOf(error), error);
  }
  const passphrase = text.replace(/\r?\n$/, '');
  if (passphrase === '') throw invalid(`${file} is empty`);
  return passphrase;
}
