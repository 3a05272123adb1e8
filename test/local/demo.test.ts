/** `npm run demo` as a user runs it: on odd folders, stopped in the middle, and what it leaves behind. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { expect, it } from 'vitest';
import { describeTree, type LocalTree, temporaryFolder, temporaryFolderOf } from '../kit/local-tree.ts';
import { until } from '../kit/until.ts';
import { clone, descendants, isAlive, type Program, start } from './child-processes.ts';

interface Demo extends Program {
  /** Where it may put its temporary files. */
  readonly temporary: string;
}

async function startDemo(...args: string[]): Promise<Demo> {
  const temporary = await temporaryFolder();
  // Settings of the user are not those of the demo.
  const env = { TMPDIR: temporary, FIRN_REPOSITORY: 'of-the-user', FIRN_INBOX: 'consume', FIRN_STORAGE: 'nonsense' };
  return { ...start(process.execPath, ['src/local/demo/demo.ts', ...args], { env }), temporary };
}

/** Runs it to its end, and sees to it that nothing is left of it. */
async function demo(...args: string[]): Promise<{ code: number | string | null; stdout: string; stderr: string }> {
  const program = await startDemo(...args);
  const below = new Set<number>();
  await until('it ended', () => {
    for (const pid of descendants(program.pid)) below.add(pid);
    return isAlive(program.pid) ? undefined : true;
  });
  const code = await program.ended;
  expect([...below].filter(isAlive)).toEqual([]);
  expect(await readdir(program.temporary)).toEqual([]);
  return { code, stdout: program.stdout(), stderr: program.stderr() };
}

const NONSENSE = /[ (]-\d|NaN|undefined|Infinity/;
const HELD = 'Both snapshots came back byte for byte, with modes and times';

it('brings odd names, empty files and folders, links and a large file back, and leaves nothing behind', async () => {
  const folder = await temporaryFolderOf({
    'größe 雪 %41?#&+.txt': { type: 'file', content: 'x', mode: 0o600, mtime: 1.5 },
    'line\nbreak': 'one',
    ' spaces ': 'two',
    "quote's": 'three',
    '-dash': 'one',
    Upper: 'a',
    upper: 'b',
    '1e5': 'number',
    empty: '',
    'empty folder': { type: 'folder', mode: 0o700, mtime: 1_000_000_000, entries: {} },
    deep: {
      type: 'folder',
      mtime: 1_100_000_000,
      entries: { er: { type: 'folder', entries: { link: { type: 'link', target: '../../nowhere' } } } },
    },
    large: { type: 'file', content: randomBytes(6 * 1024 * 1024), mode: 0o444 },
  });
  const before = await describeTree(folder);
  const { code, stdout, stderr } = await demo(folder);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toContain(HELD);
  expect(stdout).toContain('11 files');
  expect(stdout).not.toMatch(NONSENSE);
  // Progress is for terminals.
  expect(stdout).not.toContain('\r');
  expect(await describeTree(folder)).toEqual(before);
});

it.each<[string, LocalTree]>([
  ['one file', { only: 'one' }],
  ['links only', { link: { type: 'link', target: 'nowhere' }, other: { type: 'link', target: 'link' } }],
  ['empty folders only', { folder: { type: 'folder', entries: { inner: { type: 'folder', entries: {} } } } }],
  ['the name of the file that it adds', { 'added – née 雪.txt': 'mine' }],
])('gets along with a folder of %s, without nonsense in its numbers', async (_, tree) => {
  const { code, stdout, stderr } = await demo(await temporaryFolderOf(tree));
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toContain(HELD);
  expect(stdout).not.toMatch(NONSENSE);
});

it('names what has no content, compares the rest, and exits with 3', async () => {
  const folder = await temporaryFolderOf({ a: 'one', b: 'two' });
  execFileSync('mkfifo', [path.join(folder, 'pipe')]);
  const { code, stdout, stderr } = await demo(folder);
  expect(code).toBe(3);
  expect(stderr).toMatch(/^warning: pipe was left out: .*\n$/);
  expect(stdout).toContain('but for 1 path that could not be read');
});

it.each([
  ['a folder that does not exist', ['/does/not/exist'], 'The folder /does/not/exist does not exist'],
  ['a file', ['package.json'], 'is not a folder'],
  ['two folders', ['a', 'b'], 'one folder at most'],
  ['an option that it does not have', ['--fast'], 'no options'],
])('refuses %s with exit code 2', async (_, args, told) => {
  const { code, stderr } = await demo(...args);
  expect(code).toBe(2);
  expect(stderr).toContain(told);
});

it('refuses a folder that holds nothing, and says so', async () => {
  const folder = await temporaryFolder();
  const { code, stderr } = await demo(folder);
  expect(code).toBe(2);
  expect(stderr).toContain(`The folder ${folder} holds nothing to archive.`);
});

it('says how it is used', async () => {
  expect(await demo('--help')).toMatchObject({ code: 0, stdout: expect.stringContaining('npm run demo -- <folder>') });
});

it.each([
  ['while the stack starts', 'Firn demo'],
  ['while it uploads', 'start the local stack'],
  ['while the functions work', 'upload to the inbox'],
])('leaves nothing behind when Ctrl-C, delivered twice, stops it %s', async (_, said) => {
  const program = await startDemo(path.join(clone, 'src'));
  await program.says(said);
  const below = descendants(program.pid);
  program.signal('SIGINT');
  program.signal('SIGINT');
  expect(await program.ended).toBe(130);
  expect(program.stderr()).toContain('cancelled');
  expect(program.stdout()).not.toContain(HELD);
  expect(below.filter(isAlive)).toEqual([]);
  expect(await readdir(program.temporary)).toEqual([]);
});

it('fails when a part of the stack ends in the middle, shows its log, and leaves nothing behind', async () => {
  const program = await startDemo(path.join(clone, 'src'));
  await program.says('start the local stack');
  const below = descendants(program.pid);
  for (const pid of below) process.kill(pid, 'SIGKILL');
  expect(await program.ended).toBe(1);
  expect(program.stderr()).toContain('ended by itself');
  expect(await readdir(program.temporary)).toEqual([]);
});
