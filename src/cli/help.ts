/** The help, made from the table of commands. Pure. */
import { numberSettings } from '../settings.ts';
import type { Command, OptionRows } from './command.ts';
import { commonOptions } from './parse.ts';

const WIDTH = 80;

export function helpOfAll(commands: readonly Command[]): string {
  return [
    'Firn keeps versions of your files in an Azure Storage account: deduplicated,',
    'compressed, encrypted, and each as a snapshot that comes back byte for byte.',
    '',
    'Usage: firn <command> [options]',
    '',
    'Commands:',
    twoColumns(commands.map(({ name, summary }) => [name, summary])),
    '',
    'Options of every command:',
    optionLines(commonOptions),
    '',
    'Settings (environment; in parentheses what holds where one is not set):',
    twoColumns(environmentRows),
    '',
    'Exit codes:',
    exitCodeLines({ 3: 'done, but some files could not be read; each is named' }),
    '',
    'A snapshot is named by its id, the beginning of its id, latest, or latest:<source>.',
    '`firn help <command>` tells more of a command, with examples; `firn --version`',
    'shows the version.',
  ].join('\n');
}

const environmentRows: readonly (readonly [string, string])[] = [
  ['FIRN_STORAGE', 'connection string of the storage account, or UseDevelopmentStorage=true'],
  [
    'FIRN_STORAGE__blobServiceUri, FIRN_STORAGE__queueServiceUri',
    'in its place: the addresses of the account, reached with the identity that is signed in',
  ],
  ['FIRN_REPOSITORY', 'name of the repository (firn)'],
  ['FIRN_PASSPHRASE', 'passphrase of the repository'],
  ['FIRN_CHUNK_TIER', 'tier of new content: Hot, Cool, Cold or Archive (Hot)'],
  ['FIRN_CACHE_FOLDER', 'folder that keeps sealed shards of the chunk index for later runs (none)'],
  ['FIRN_DEBUG', '1 prints stack traces'],
  ...Object.values(numberSettings).map(
    ({ env, about, fallback, unit }) =>
      [env, `${about} (${fallback}${unit === 'bytes' || unit === 'seconds' ? ` ${unit}` : ''})`] as const,
  ),
];

export function helpOf(command: Command): string {
  const options = Object.keys(command.options).length === 0 ? [] : ['Options:', optionLines(command.options), ''];
  return [
    `Usage: ${usageOf(command)}`,
    '',
    ...command.about.flatMap((paragraph) => [wrap(paragraph, 0), '']),
    ...options,
    'Options of every command:',
    optionLines(commonOptions),
    '',
    'Examples:',
    ...command.examples.flatMap(([line, what]) => [`  ${line}`, wrap(what, 6)]),
    '',
    'Exit codes:',
    exitCodeLines(command.exitCodes ?? {}),
  ].join('\n');
}

export function usageOf({ name, args, options }: Command): string {
  const words = args.map(({ name: arg, optional, repeated }) => {
    const word = optional ? `[${arg}]` : `<${arg}>`;
    return repeated ? `${word}…` : word;
  });
  const required = Object.entries(options).flatMap(([option, { required, value }]) =>
    required ? [`--${option} <${value ?? 'value'}>`] : [],
  );
  return ['firn', name, ...words, ...required, '[options]'].join(' ');
}

function optionLines(options: OptionRows): string {
  return twoColumns(
    Object.entries(options).map(([name, { short, value, words, about, repeated }]) => {
      const placeholder = words ? ` <${words.join('|')}>` : value ? ` <${value}>` : '';
      const more = repeated ? '; may be given more than once' : '';
      return [`${short ? `-${short}, ` : ''}--${name}${placeholder}`, about + more];
    }),
  );
}

function exitCodeLines(more: Readonly<Record<number, string>>): string {
  const codes = { 0: 'done', 1: 'failed', 2: 'wrong usage', ...more, 130: 'cancelled' };
  return twoColumns(Object.entries(codes).map(([code, meaning]) => [code, meaning]));
}

const LEFT_MAX = 30;

function twoColumns(rows: readonly (readonly [string, string])[]): string {
  const left = Math.min(LEFT_MAX, Math.max(...rows.map(([head]) => head.length)));
  return rows
    .map(([head, text]) => {
      const [first = '', ...others] = wrap(text, left + 4).split('\n');
      const start = first.trimStart();
      const lead = head.length > left ? `  ${head}\n${first}` : `  ${head.padEnd(left)}  ${start}`;
      return [lead, ...others].join('\n');
    })
    .join('\n');
}

function wrap(text: string, indent: number): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && indent + line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = '';
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines.map((each) => ' '.repeat(indent) + each).join('\n');
}
