/**
 * What a command says, and where. Results go to stdout: for a person as text, with `--json` as one JSON value a line and
 * nothing else. Messages, warnings and progress go to stderr; progress only to a terminal, on one line, a few times a
 * second. Whoever reads stdout may stop reading (`firn ls | head`): then `result` throws `OutputClosed`, and the
 * command line ends quietly.
 */
import type { Writable } from 'node:stream';
import { type FirnError, isFirnError } from '../errors.ts';
import { printable, printableLines } from './format.ts';

const PROGRESS_MS_MIN = 100;
const CLEAR_LINE = '\r\u001b[K';
const BUFFERED_CHARS_MAX = 32 * 1024;

export type OutputStream = Writable & { readonly isTTY?: boolean | undefined; readonly columns?: number | undefined };

export class OutputClosed extends Error {
  override readonly name = 'OutputClosed';
}

export interface OutputOptions {
  readonly json: boolean;
  readonly quiet: boolean;
  /** Print stack traces. */
  readonly debug: boolean;
}

export class Output {
  readonly json: boolean;
  readonly #stdout: OutputStream;
  readonly #stderr: OutputStream;
  readonly #options: OutputOptions;
  #buffered: string[] = [];
  #bufferedChars = 0;
  #closed = false;
  #progressShown = false;
  #progressAt = Number.NEGATIVE_INFINITY;

  constructor(stdout: OutputStream, stderr: OutputStream, options: OutputOptions) {
    this.#stdout = stdout;
    this.#stderr = stderr;
    this.#options = options;
    this.json = options.json;
    stdout.on('error', () => {
      this.#closed = true;
    });
    // A closed stderr must not end the work; there is nobody left to tell.
    stderr.on('error', () => undefined);
  }

  /** One result: the value with `--json`, else the text, which may be made of several lines. */
  async result(value: object, text: () => string): Promise<void> {
    await this.#line(this.json ? JSON.stringify(value) : printableLines(text()));
  }

  /** A result that exists only as JSON. */
  async jsonLine(value: object): Promise<void> {
    if (this.json) await this.#line(JSON.stringify(value));
  }

  /** A line for a person; nothing with `--json`. */
  async line(text: string): Promise<void> {
    if (!this.json) await this.#line(printableLines(text));
  }

  /** Content of a file, as it is. */
  async bytes(bytes: Uint8Array): Promise<void> {
    await this.flush();
    await this.#write(bytes);
  }

  async #line(line: string): Promise<void> {
    this.#buffered.push(line, '\n');
    this.#bufferedChars += line.length;
    if (this.#bufferedChars >= BUFFERED_CHARS_MAX) await this.flush();
  }

  /** Hands over what is held back; to be called before the command ends, and before it waits for long. */
  async flush(): Promise<void> {
    const text = this.#buffered.join('');
    this.#buffered = [];
    this.#bufferedChars = 0;
    if (text !== '') await this.#write(text);
  }

  async #write(chunk: string | Uint8Array): Promise<void> {
    this.#clearProgress();
    if (this.#closed || this.#stdout.destroyed) throw new OutputClosed();
    await new Promise<void>((resolve, reject) => {
      this.#stdout.write(chunk, (error) => (error ? reject(new OutputClosed('', { cause: error })) : resolve()));
    });
  }

  /** What a person should know now; not with `--quiet`. */
  message(text: string): void {
    if (!this.#options.quiet && !this.json) this.#say(printableLines(text));
  }

  /** That a lock is waited for, and who holds it. */
  waiting(busy: FirnError): void {
    this.message(`${busy.message} Waiting for it.`);
  }

  /** Something that went wrong without ending the work. With `--json` it is a line of JSON on stderr. */
  warning(text: string, details: { readonly code?: string; readonly path?: string } = {}): void {
    const { code, path } = details;
    if (this.json)
      this.#say(JSON.stringify({ warning: code ?? null, ...(path !== undefined && { path }), message: text }));
    else this.#say(printable(`warning: ${text}`));
  }

  /** The same for an error about one path (or none), which is named where the error itself does not name it. */
  problem(error: FirnError, path?: string): void {
    const isNamed = path === undefined || path === error.details.path;
    const text = this.json || isNamed ? error.message : `${path === '' ? 'the top folder' : path}: ${error.message}`;
    this.warning(text, { code: error.code, ...(path !== undefined && { path }) });
    if (this.#options.debug) this.#say(stackOf(error));
  }

  /** The error that the command ends with. */
  failure(error: FirnError): void {
    this.#say(this.json ? JSON.stringify(error) : `${printable(`firn: ${error.message}`)}\n${printable(error.advice)}`);
    if (this.#options.debug) this.#say(stackOf(error));
  }

  /** Where the work stands; shown on a terminal only, and not more often than a person can see. */
  progress(text: () => string): void {
    const now = performance.now();
    if (!this.#stderr.isTTY || this.#options.quiet || now - this.#progressAt < PROGRESS_MS_MIN) return;
    this.#progressAt = now;
    this.#progressShown = true;
    const columns = this.#stderr.columns ?? 80;
    this.#stderr.write(`${CLEAR_LINE}${[...printable(text())].slice(0, Math.max(1, columns - 1)).join('')}`);
  }

  /** Takes the progress line away. */
  close(): void {
    this.#clearProgress();
  }

  #clearProgress(): void {
    if (this.#progressShown) this.#stderr.write(CLEAR_LINE);
    this.#progressShown = false;
  }

  #say(line: string): void {
    this.#clearProgress();
    this.#stderr.write(`${line}\n`);
  }
}

/** The stack with those of its causes. */
function stackOf(error: unknown): string {
  const stacks: string[] = [];
  for (let each = error; each instanceof Error && stacks.length < 8; each = each.cause) {
    const code = isFirnError(each) ? ` [${each.code}]` : '';
    stacks.push(`${each.stack ?? String(each)}${code}`);
  }
  return printableLines(stacks.join('\ncaused by: '));
}
