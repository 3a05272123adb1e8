/** From the words of a command line to a command, its arguments and its options. Pure. */
import { parseArgs } from 'node:util';
import { FirnError } from '../errors.ts';
import type { Command, OptionRow, OptionRows, ParsedOptions } from './command.ts';
import { nearest } from './format.ts';

/** Options of every command. */
export const commonOptions: OptionRows = {
  json: { type: 'flag', about: 'print one JSON value per line on stdout, and nothing else there' },
  repository: { type: 'text', value: 'name', about: 'the repository, in the place of FIRN_REPOSITORY' },
  'passphrase-file': {
    type: 'text',
    value: 'file',
    about: 'read the passphrase from a file (a newline at its end is left out), in the place of FIRN_PASSPHRASE',
  },
  quiet: { type: 'flag', short: 'q', about: 'no progress and no messages but warnings and errors' },
  help: { type: 'flag', short: 'h', about: 'show the help of the command' },
};

const globalOptions: OptionRows = { ...commonOptions, version: { type: 'flag', about: 'show the version' } };

export type Invocation =
  | { readonly kind: 'version' }
  | { readonly kind: 'help'; readonly command: Command | undefined }
  | {
      readonly kind: 'command';
      readonly command: Command;
      readonly args: readonly string[];
      readonly options: ParsedOptions;
    };

export interface ParsedLine {
  /** Known even when the rest of the line is wrong, so that the error has the right form. */
  readonly json: boolean;
  /** @throws FIRN_USAGE. */
  readonly invocation: () => Invocation;
}

export function parseLine(argv: readonly string[], commands: readonly Command[]): ParsedLine {
  const beforeDashes = argv.includes('--') ? argv.slice(0, argv.indexOf('--')) : argv;
  return { json: beforeDashes.includes('--json'), invocation: () => parseInvocation(argv, commands) };
}

function parseInvocation(argv: readonly string[], commands: readonly Command[]): Invocation {
  const { tokens, values } = parseArgs({
    args: [...argv],
    options: parseConfigOf(globalOptions),
    strict: false,
    tokens: true,
    allowPositionals: true,
  });
  const first = tokens.find((token) => token.kind === 'positional');
  if (first === undefined || first.value === 'help') {
    if (first === undefined) checkOptions(argv, globalOptions);
    if (values.version === true) return { kind: 'version' };
    const named = tokens.filter((token) => token.kind === 'positional')[1];
    return { kind: 'help', command: named && commandOf(named.value, commands) };
  }
  const command = commandOf(first.value, commands);
  if (values.help === true) return { kind: 'help', command };
  const rest = argv.filter((_, at) => at !== first.index);
  const rows = { ...commonOptions, ...command.options };
  const { positionals, values: given } = checkOptions(rest, rows, command);
  const options = optionsOf(given, rows, command);
  checkArguments(positionals, command);
  return { kind: 'command', command, args: positionals, options };
}

function usage(problem: string, command?: Command): FirnError {
  return new FirnError('FIRN_USAGE', { problem: command ? `firn ${command.name}: ${problem}` : problem });
}

function commandOf(name: string, commands: readonly Command[]): Command {
  const found = commands.find((command) => command.name === name);
  if (found !== undefined) return found;
  const near = nearest(
    name,
    commands.map((command) => command.name),
  );
  throw usage(`There is no command «${name}»${near === undefined ? '' : `; did you mean «${near}»?`}`);
}

type Values = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>;

function parseConfigOf(rows: OptionRows) {
  return Object.fromEntries(
    Object.entries(rows).map(([name, { type, repeated, short }]) => [
      name,
      {
        type: type === 'flag' ? ('boolean' as const) : ('string' as const),
        multiple: repeated ?? false,
        ...(short && { short }),
      },
    ]),
  );
}

/** Parses strictly; what Node says of a mistake is said in our words, with the nearest option. */
function checkOptions(
  argv: readonly string[],
  rows: OptionRows,
  command?: Command,
): { positionals: string[]; values: Values } {
  try {
    return parseArgs({ args: [...argv], options: parseConfigOf(rows), strict: true, allowPositionals: true });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const message = error instanceof Error ? error.message : '';
    const [, option = ''] = /'(-[^' =<]*)/.exec(message) ?? [];
    if (code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION') {
      const near = nearest(option.replace(/^-+/, ''), Object.keys(rows));
      throw usage(`There is no option «${option}»${near === undefined ? '' : `; did you mean «--${near}»?`}`, command);
    }
    if (code === 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE') {
      const [, long = ''] = /'(?:-\w, )?(--[^' =<]*)/.exec(message) ?? [];
      const row = rows[long.replace(/^-+/, '')];
      const problem =
        row?.type === 'flag'
          ? `The option «${long}» takes no value.`
          : `The option «${long || option}» needs a value (write ${long || option}=… for one that begins with a dash).`;
      throw usage(problem, command);
    }
    throw error;
  }
}

function optionsOf(values: Values, rows: OptionRows, command: Command): ParsedOptions {
  for (const [name, row] of Object.entries(rows)) {
    const value = values[name];
    if (row.required && value === undefined) {
      throw usage(`The option «--${name} <${row.value ?? 'value'}>» is missing.`, command);
    }
    for (const text of Array.isArray(value) ? value : [value]) checkText(name, row, text, command);
  }
  return {
    flag: (name) => values[name] === true,
    text(name) {
      const value = values[name];
      return typeof value === 'string' ? value : undefined;
    },
    texts(name) {
      const value = values[name];
      return Array.isArray(value) ? value.filter((each) => typeof each === 'string') : [];
    },
  };
}

function checkText(name: string, row: OptionRow, text: string | boolean | undefined, command: Command): void {
  if (typeof text !== 'string') return;
  if (text === '') throw usage(`The option «--${name}» has an empty value.`, command);
  if (row.words && !row.words.includes(text)) {
    throw usage(`The option «--${name}» is «${text}»; it can be ${row.words.join(' or ')}.`, command);
  }
}

function checkArguments(given: readonly string[], command: Command): void {
  const { args } = command;
  const missing = args.find((row, at) => !row.optional && given[at] === undefined);
  if (missing !== undefined) throw usage(`The argument <${missing.name}> is missing.`, command);
  const extra = args.at(-1)?.repeated ? undefined : given[args.length];
  if (extra !== undefined) throw usage(`There is an argument too many: «${extra}».`, command);
}
