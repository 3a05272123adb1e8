/** What starts the command line: sources, bundle, or another Node. In a copy of Firn, whose bundle is the test's own. */
import type { ChildProcess } from 'node:child_process';
import { appendFile, copyFile, cp, mkdtemp, readFile, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildCommandLine } from '../../build.ts';
import { errorCodes } from '../../src/errors.ts';
import { removeFolder } from '../kit/local-tree.ts';
import { jsonLines } from './cli.ts';
import { type FirnProcessOptions, runFirnProcess } from './firn-process.ts';
import { startSilentService } from './silent-service.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const firn = await mkdtemp(path.join(tmpdir(), 'firn-launcher-'));

/** As on a Node that cannot run the sources. */
const nodeOptions = ['--no-experimental-strip-types'];
/** As if it had been handed over to already. */
const alone = { FIRN_NODE_HANDED_OVER: '1' };

const run = (argv: readonly string[], options: FirnProcessOptions = {}) =>
  runFirnProcess(argv, { nodeOptions, firn, ...options });

beforeAll(async () => {
  await cp(path.join(root, 'src'), path.join(firn, 'src'), { recursive: true });
  for (const file of ['package.json', 'package-lock.json', 'build.ts']) {
    await copyFile(path.join(root, file), path.join(firn, file));
  }
  await symlink(path.join(root, 'node_modules'), path.join(firn, 'node_modules'));
});
afterAll(() => removeFolder(firn));

describe('without a bundle', () => {
  it('hands over to the Node of the project, with arguments, output and exit code', async () => {
    const version = await run(['--version']);
    expect(version).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/), stderr: '' });
    const usage = await run(['ls', '--frobnicate', '--json']);
    expect(usage.code).toBe(2);
    expect(jsonLines(usage.stderr)).toMatchObject([{ error: 'FIRN_USAGE' }]);
  });

  it('hands on signals, and the exit code that follows', async () => {
    await using service = await startSilentService();
    const env = { FIRN_STORAGE: service.connectionString };
    const onStart = (child: ChildProcess) => void service.connected.then(() => child.kill('SIGINT'));
    expect(await run(['ls'], { env, onStart })).toMatchObject({ code: 130 });
  });

  it('says what is needed where there is no such Node', async () => {
    const { message, advice } = errorCodes.FIRN_NODE_TOO_OLD;
    const plain = await run(['ls'], { env: alone });
    expect(plain).toMatchObject({ code: 1, stdout: '' });
    expect(plain.stderr).toBe(`firn: ${message.replace('{version}', process.version)}\n${advice}\n`);
    const { stderr } = await run(['ls', '--json'], { env: alone });
    expect(jsonLines(stderr)).toMatchObject([{ error: 'FIRN_NODE_TOO_OLD', advice }]);
  });
});

describe('with a bundle', () => {
  const source = path.join(firn, 'src', 'errors.ts');
  const added = path.join(firn, 'src', 'added.ts');
  const isUsed = async () => (await run(['--version'], { env: alone })).code === 0;

  it('runs it, on a Node that cannot run the sources', async () => {
    await buildCommandLine(firn);
    expect(await run(['--help'], { env: alone })).toEqual(await run(['--help'], { nodeOptions: [] }));
    expect(await isUsed()).toBe(true);
  });

  it.each([
    ['a source has changed', () => appendFile(source, '\n')],
    ['a source was written again, with the same length', () => utimes(source, 1, 1)],
    ['there is a new source', () => writeFile(added, '')],
    ['a source is gone', () => rm(path.join(firn, 'src', 'local', 'start.ts'))],
    ['the packages have changed', () => appendFile(path.join(firn, 'package-lock.json'), '\n')],
  ])('leaves it alone when %s', async (_, change) => {
    await buildCommandLine(firn);
    expect(await isUsed()).toBe(true);
    await change();
    expect(await isUsed()).toBe(false);
  });
});

it('the bundle asks a storage for something without loading the fetch of Node', async () => {
  await buildCommandLine(firn);
  await using service = await startSilentService();
  const probe = path.join(firn, 'loaded.cjs');
  await writeFile(probe, `process.on('exit', () => console.error(process.moduleLoadList.join('\\n')));`);
  const { stderr } = await run(['ls'], {
    nodeOptions: ['--require', probe],
    env: { FIRN_STORAGE: service.connectionString },
    onStart: (child) => void service.connected.then(() => child.kill('SIGINT')),
  });
  expect(stderr).toMatch(/^NativeModule http$/m);
  expect(stderr).not.toContain('undici');
});

describe('a command that moves much data', () => {
  const probe = path.join(firn, 'probe.cjs');
  const seen = path.join(firn, 'seen.txt');
  const tell = `require('node:fs').appendFileSync(${JSON.stringify(seen)}, JSON.stringify({
    pid: process.pid, flags: process.execArgv, arenas: process.env.MALLOC_ARENA_MAX,
  }) + '\\n');`;

  /** What the Nodes were started with that the command ran in, one after another. */
  async function nodesOf(argv: readonly string[], env: Record<string, string> = {}, flags: readonly string[] = []) {
    await writeFile(probe, tell);
    await rm(seen, { force: true });
    const nodeOptions = ['--require', probe, ...flags];
    expect(await run(argv, { nodeOptions, env })).toMatchObject({ code: 0, stderr: '' });
    const nodes = jsonLines(await readFile(seen, 'utf8')) as { pid: number; flags: string[]; arenas?: string }[];
    expect(new Set(nodes.map(({ pid }) => pid)).size).toBe(1);
    return nodes.map(({ flags, arenas }) => ({ flags: flags.filter((flag) => /space/.test(flag)), arenas }));
  }

  const plain = { flags: [], arenas: undefined };
  const flagsOfLong = ['--max-semi-space-size=8', '--initial-old-space-size=48'];
  const small = { flags: flagsOfLong, arenas: '1' };

  it.each(['archive', 'cat', 'restore', 'upload', 'verify'])(
    'runs in a Node with little memory: %s',
    async (command) => {
      expect(await nodesOf([command, '--help'])).toEqual([plain, small]);
      expect(await nodesOf(['--repository', 'photos', command, '--help'])).toEqual([plain, small]);
    },
  );

  it('others stay where they are', async () => {
    expect(await nodesOf(['ls', '--help'])).toEqual([plain]);
    expect(await nodesOf(['--help'])).toEqual([plain]);
  });

  it('leaves to the user what the user has set', async () => {
    const own = await nodesOf(['archive', '--help'], { MALLOC_ARENA_MAX: '3' }, ['--max-semi-space-size=2']);
    expect(own.at(-1)).toEqual({ flags: [...flagsOfLong, '--max-semi-space-size=2'], arenas: '3' });
    const byVariable = await nodesOf(['archive', '--help'], { NODE_OPTIONS: '--max-semi-space-size=2' });
    expect(byVariable.at(-1)).toEqual({ flags: [], arenas: '1' });
  });

  it('stays where it is when it may not start another', async () => {
    const permitted = ['--permission', '--allow-fs-read=*', '--allow-fs-write=*', '--no-warnings'];
    expect(await nodesOf(['archive', '--help'], {}, permitted)).toEqual([plain]);
  });
});
