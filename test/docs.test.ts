/** Holds the documents to the code: what they name exists, and what they say of settings and errors is so. */
import { existsSync, globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { commands } from '../src/cli/commands.ts';
import { commonOptions } from '../src/cli/parse.ts';
import { errorCodes } from '../src/errors.ts';
import { numberSettings, readSettings } from '../src/settings.ts';

const root = fileURLToPath(new URL('../', import.meta.url));
const documents = ['README.md', ...globSync('docs/**/*.md', { cwd: root })].filter((file) =>
  existsSync(path.join(root, file)),
);
const textOf = (file: string) => readFileSync(path.join(root, file), 'utf8');
const operations = textOf('docs/operations.md');

/** The rows of all tables of a document, by their first cell without backticks. */
function rowsOf(text: string): Map<string, string[]> {
  const rows = text
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) =>
      line
        .slice(1, -1)
        .split('|')
        .map((cell) => cell.trim()),
    );
  return new Map(rows.map(([first = '', ...others]) => [first.replaceAll('`', ''), others]));
}

interface Code {
  readonly file: string;
  readonly text: string;
}

/** Code spans, and the lines of fenced blocks that are commands (without their comments). */
function codeOf(file: string): Code[] {
  const fences = /^```(\w*)\n(.*?)^```$/gms;
  const text = textOf(file);
  const lines = [...text.matchAll(fences)].flatMap(([, language, body = '']) =>
    language === 'sh' ? body.split('\n').map((line) => line.replace(/(^|\s)#.*$/, '')) : [],
  );
  const spans = [...text.replace(fences, '').matchAll(/`([^`]+)`/g)].map(([, span = '']) => span);
  return [...lines, ...spans].map((code) => ({ file, text: code.replaceAll('\n', ' ') }));
}

const allCode = documents.flatMap(codeOf);

describe('the settings of docs/operations.md', () => {
  const rows = rowsOf(operations);

  test.each(Object.values(numberSettings))('$env: meaning, unit, default and limits', (row) => {
    const [about, unit, ...numbers] = rows.get(row.env) ?? [];
    expect({ about, unit }).toEqual({ about: row.about, unit: row.unit });
    expect(numbers.map((cell) => Number(cell.split(' ')[0]))).toEqual([row.fallback, row.min, row.max]);
    for (const [, digits, amount, power] of numbers.join('; ').matchAll(/(\d+) \((\d+) ([GM])iB\)/g)) {
      expect(Number(amount) * 2 ** (power === 'G' ? 30 : 20)).toBe(Number(digits));
    }
  });

  test('words have the defaults that the code gives them', () => {
    const { settings } = readSettings({});
    const defaults = {
      FIRN_REPOSITORY: settings.repository,
      FIRN_INBOX: settings.inbox,
      FIRN_CHUNK_TIER: settings.chunkTier,
      FIRN_SEAL_SCHEDULE: settings.sealSchedule,
      FIRN_PUBLISH_SCHEDULE: settings.publishSchedule,
      FIRN_REPAIR_SCHEDULE: settings.repairSchedule,
      FIRN_SNAPSHOT_CHECK_SCHEDULE: settings.snapshotCheckSchedule,
    };
    for (const [name, value] of Object.entries(defaults)) expect(rows.get(name)?.[1], name).toBe(`\`${value}\``);
  });

  test('are all that the code reads, and no document names a setting or an error code that there is not', () => {
    const internal = ['FIRN_NODE_HANDED_OVER'];
    const namesIn = (text: string) => text.match(/\bFIRN_[A-Z]+(_[A-Z]+)*(__[a-z][A-Za-z]+)?/g) ?? [];
    const code = globSync('{src,functions}/**/*.{ts,js}', { cwd: root }).map(textOf).join('\n');
    const isSetting = (name: string) => !(name in errorCodes) && !internal.includes(name);
    const known = new Set(namesIn(code).filter(isSetting));
    expect(known.size).toBeGreaterThan(20);
    for (const name of known) expect(operations, name).toContain(`\`${name}\``);
    for (const file of documents) {
      expect(
        namesIn(textOf(file)).filter((name) => isSetting(name) && !known.has(name)),
        file,
      ).toEqual([]);
    }
  });
});

test.each(Object.entries(errorCodes))('%s is in docs/operations.md with its message and advice', (code, row) => {
  const marks = ['retryable' in row && 'may pass', 'usage' in row && 'exit 2'].filter(Boolean).join(', ');
  expect(rowsOf(operations).get(code)).toEqual([row.message, row.advice, marks]);
});

describe('what the documents point at', () => {
  test.each(documents)('the links of %s lead to files and headings that exist', (file) => {
    for (const [, link = ''] of textOf(file).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link)) continue;
      const [target = '', heading] = link.split('#');
      const pointed = target === '' ? file : path.join(path.dirname(file), target);
      expect(existsSync(path.join(root, pointed)), `${file}: ${link}`).toBe(true);
      if (heading !== undefined) expect(headingsOf(pointed), `${file}: ${link}`).toContain(heading);
    }
  });

  test('the files and folders of the project that they name exist', () => {
    const paths = allCode.filter(({ text }) => /^(src|functions|test|docs|infra|\.ci)\/[\w./-]*$/.test(text));
    expect(paths.length).toBeGreaterThan(5);
    const missing = paths.filter(({ text }) => !existsSync(path.join(root, text)));
    expect(missing).toEqual([]);
  });

  test('the npm scripts that they name are in package.json', () => {
    const { scripts } = JSON.parse(textOf('package.json')) as { scripts: Record<string, string> };
    const ofNpm = ['ci', 'install'];
    const named = allCode.flatMap(({ file, text }) =>
      [...text.matchAll(/\bnpm (?:run )?([a-z][a-z:-]*)/g)].map(([, name = '']) => ({ file, name })),
    );
    expect(named.length).toBeGreaterThan(0);
    expect(named.filter(({ name }) => !(name in scripts) && !ofNpm.includes(name))).toEqual([]);
  });

  test('the commands of firn that they name exist, with the options and not too many arguments', () => {
    const problems = allCode.flatMap(({ file, text }) =>
      // `firn data v1` and its like are labels of the format.
      text.split(/&&|\|(?=\s)|;/).flatMap((line) => {
        const [, words] = /(?:^|\s)firn ([a-z].*)$/.exec(line) ?? [];
        if (words === undefined || / v\d$/.test(words.trim())) return [];
        const problem = problemOfCommand(words.trim());
        return problem === undefined ? [] : [`${file}: firn ${words}: ${problem}`];
      }),
    );
    expect(problems).toEqual([]);
    expect(allCode.filter(({ text }) => /(?:^|\s)firn [a-z]/.test(text)).length).toBeGreaterThan(5);
  });
});

function headingsOf(file: string): string[] {
  return [...textOf(file).matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

function problemOfCommand(words: string): string | undefined {
  const [name = '', ...rest] = words.split(/\s+/);
  if (name === 'help') return undefined;
  const command = commands.find((each) => each.name === name);
  if (command === undefined) return 'no such command';
  const options = { ...commonOptions, ...command.options };
  let args = 0;
  for (let at = 0; at < rest.length; at += 1) {
    const word = rest[at] ?? '';
    if (/^[>…]/.test(word) || word === '[options]') break;
    if (word.startsWith('--')) {
      const option = options[word.slice(2)];
      if (option === undefined) return `no option ${word}`;
      if (option.type === 'text') at += 1;
    } else args += 1;
  }
  return args > command.args.length && !command.args.at(-1)?.repeated ? 'too many arguments' : undefined;
}

/** The tests that docs/requirements.md points at: a file, and names in «» that follow it in the same cell. */
describe('the tests of docs/requirements.md', () => {
  const rows = textOf('docs/requirements.md')
    .split('\n')
    .filter((line) => line.startsWith('| ') && !line.startsWith('| --'));

  test('exist, file and name', () => {
    const missing: string[] = [];
    let checked = 0;
    for (const row of rows) {
      let source: string | undefined;
      for (const [, file, name] of row.matchAll(/`(test\/[\w./-]+\.ts)`|«([^»]+)»/g)) {
        if (file !== undefined) {
          source = existsSync(path.join(root, file)) ? textOf(file) : undefined;
          if (source === undefined) missing.push(file);
        } else if (name !== undefined) {
          checked += 1;
          if (source === undefined || !source.includes(name)) missing.push(name);
        }
      }
    }
    expect(missing).toEqual([]);
    expect(checked).toBeGreaterThan(100);
  });

  test('are given for every line, or the line says that it comes later', () => {
    const lines = rows.filter((row) => !/^\| (line|no\.) /.test(row));
    expect(lines.filter((row) => !/`test\/|`\.ci\/run`|\*later\*|\*not by a test\*/.test(row))).toEqual([]);
  });
});
