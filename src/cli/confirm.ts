/** Asks the person at the terminal. */
import { once } from 'node:events';
import { createInterface } from 'node:readline/promises';
import type { CliIo } from './command.ts';

/**
 * Asks on stderr, and reads a line; only «y» and «yes» are a yes, and an end of the input is a no.
 * @returns undefined where nobody can be asked. Throws when the signal fires.
 */
export async function confirm(
  { stdin, stderr }: CliIo,
  question: string,
  signal: AbortSignal,
): Promise<boolean | undefined> {
  if (!stdin?.isTTY || !stderr.isTTY) return undefined;
  // Not as a terminal: the line is edited, and Ctrl-C turned into a signal, as everywhere else.
  const lines = createInterface({ input: stdin, output: stderr, terminal: false });
  try {
    const answer = await Promise.race([lines.question(`${question} [y/N] `), once(lines, 'close', { signal })]);
    return typeof answer === 'string' && /^y(es)?$/i.test(answer.trim());
  } finally {
    lines.close();
  }
}
