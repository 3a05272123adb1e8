/** What a command is: a row of data that parsing and help are made from, and the function that does the work. */
import type { FirnError } from '../errors.ts';
import type { Containers, Repository } from '../repository.ts';
import type { Environment, Settings } from '../settings.ts';
import type { Output, OutputStream } from './output.ts';

export type InputStream = NodeJS.ReadableStream & { readonly isTTY?: boolean | undefined };

/** What the command line takes from its surroundings; a test brings its own. */
export interface CliIo {
  readonly env: Environment;
  /** Relative paths are meant from here. */
  readonly cwd: string;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  /** Without it nobody can be asked. */
  readonly stdin?: InputStream | undefined;
  readonly signal?: AbortSignal | undefined;
  /** In the place of the storage account that the environment names. */
  readonly containers?: Containers | undefined;
  readonly now?: (() => Date) | undefined;
}

export interface ArgumentRow {
  readonly name: string;
  readonly optional?: true;
  /** The last argument only: one or more of it. */
  readonly repeated?: true;
}

export interface OptionRow {
  readonly type: 'flag' | 'text';
  /** May be given more than once. */
  readonly repeated?: true;
  readonly required?: true;
  readonly short?: string;
  /** What stands for the value in the help. */
  readonly value?: string;
  /** The only values that it takes. */
  readonly words?: readonly string[];
  readonly about: string;
}

export type OptionRows = Readonly<Record<string, OptionRow>>;

export interface Command {
  readonly name: string;
  /** One line. */
  readonly summary: string;
  /** Paragraphs; each is wrapped by the help. */
  readonly about: readonly string[];
  readonly args: readonly ArgumentRow[];
  readonly options: OptionRows;
  /** A command line and what it does. */
  readonly examples: readonly (readonly [line: string, what: string])[];
  /** Exit codes beyond 0, 1 and 2. */
  readonly exitCodes?: Readonly<Record<number, string>>;
  readonly run: (context: CommandContext) => Promise<number>;
}

export interface ParsedOptions {
  flag(name: string): boolean;
  text(name: string): string | undefined;
  texts(name: string): readonly string[];
}

export interface CommandContext {
  readonly args: readonly string[];
  readonly options: ParsedOptions;
  readonly output: Output;
  readonly cwd: string;
  readonly signal: AbortSignal;
  readonly now: () => Date;
  /** The settings with the options over them, and the containers of the account. */
  connect(): Promise<{ settings: Settings; containers: Containers }>;
  open(): Promise<Repository>;
  /** Asks a person yes or no; undefined where nobody can be asked: there is no terminal, or JSON is wanted. */
  confirm(question: string): Promise<boolean | undefined>;
  readonly onWarning: (error: FirnError) => void;
}

/** Exit codes; scripts rely on them. */
export const exitCodes = {
  done: 0,
  failed: 1,
  usage: 2,
  /** Done, but some files could not be read. */
  incomplete: 3,
  cancelled: 130,
} as const;
