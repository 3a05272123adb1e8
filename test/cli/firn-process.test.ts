/** The command line as users run it: a process of its own, over a storage service. */
import type { ChildProcess } from 'node:child_process';
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { filesIn, makeTree, temporaryFolder } from '../kit/local-tree.ts';
import { jsonLines } from './cli.ts';
import { type FinishedProcess, type FirnProcessOptions, runFirnProcess } from './firn-process.ts';
import { startSilentService } from './silent-service.ts';

/** Nobody, in most systems. */
const UNPRIVILEGED_ID = 65_534;

let environment: Record<string, string>;

async function firn(argv: readonly string[], options: FirnProcessOptions = {}): Promise<FinishedProcess> {
  return await runFirnProcess(argv, { ...options, env: { ...environment, ...options.env } });
}

beforeAll(async () => {
  environment = {
    FIRN_STORAGE: azuriteConnectionString(),
    FIRN_REPOSITORY: uniqueName('cli'),
    FIRN_PASSPHRASE: 'correct horse battery staple',
  };
  expect(await firn(['init'])).toMatchObject({ code: 0 });
});

describe('firn', () => {
  it('archives a folder, lists it, shows a file, compares and restores', async () => {
    const folder = await temporaryFolder();
    await makeTree(folder, {
      a: { type: 'file', content: 'one', mode: 0o600, mtime: 1_000_000_000 },
      folder: { type: 'folder', entries: { 'b\n': 'two' } },
      link: { type: 'link', target: 'a' },
    });
    const archived = await firn(['archive', folder, '--source', 'docs', '--json']);
    expect(archived).toMatchObject({ code: 0, stderr: '' });
    const [first] = jsonLines(archived.stdout);
    expect(first).toMatchObject({ files: 3, bytes: 6, unchanged: false, parent: null });
    await writeFile(path.join(folder, 'a'), 'changed');
    const [second] = jsonLines((await firn(['archive', '.', '--source', 'docs', '--json'], { cwd: folder })).stdout);
    expect(second).toMatchObject({ parent: first?.snapshot, newChunks: 1 });

    const [listed, shown, compared] = await Promise.all([
      firn(['ls', String(first?.snapshot).slice(0, 10), '--json']),
      firn(['cat', String(first?.snapshot), 'folder/b\n']),
      firn(['diff', String(first?.snapshot), 'latest:docs', '--json']),
    ]);
    expect(jsonLines(listed.stdout).map((line) => line.path)).toEqual(['a', 'folder', 'folder/b\n', 'link']);
    expect(shown).toEqual({ code: 0, stdout: 'two', stderr: '' });
    expect(jsonLines(compared.stdout)).toEqual([{ path: 'a', change: 'modified', type: 'file' }]);

    const out = path.join(await temporaryFolder(), 'out');
    const restored = await firn(['restore', 'latest:docs', out]);
    expect(restored).toMatchObject({ code: 0, stderr: '' });
    expect(await filesIn(out)).toEqual({ a: 'changed', 'folder/b\n': 'two' });
    const stats = await firn(['stats', '--json']);
    expect(jsonLines(stats.stdout)).toMatchObject([{ snapshots: 2, unreferenced: { blobs: 0 } }]);
  });

  it('leaves out and names a file that it may not read, keeps the rest, and exits with 3', async (context) => {
    const isRoot = process.getuid?.() === 0;
    const folder = await temporaryFolder();
    await makeTree(folder, {
      a: 'one',
      secret: { type: 'file', content: 'x', mode: 0o000 },
      closed: { type: 'folder', mode: 0o000, entries: { inside: 'x' } },
    });
    await chmod(folder, 0o755);
    const options = isRoot ? { uid: UNPRIVILEGED_ID } : {};
    if (isRoot && (await firn(['--version'], options).catch(() => undefined))?.code !== 0) {
      context.skip('nobody may not read this clone');
    }
    const { code, stdout, stderr } = await firn(['archive', folder, '--source', 'secrets', '--json'], options);
    await chmod(path.join(folder, 'closed'), 0o755);
    expect(code).toBe(3);
    expect(jsonLines(stdout)).toMatchObject([{ files: 1, skippedCount: 2 }]);
    expect(jsonLines(stderr)).toMatchObject([
      { warning: 'FIRN_FILE_UNREADABLE', path: 'closed', message: expect.stringContaining('EACCES') },
      { warning: 'FIRN_FILE_UNREADABLE', path: 'secret', message: expect.stringContaining('EACCES') },
    ]);
    const listed = jsonLines((await firn(['ls', 'latest:secrets', '--json'])).stdout);
    expect(listed.map((line) => line.path)).toEqual(['a', 'closed']);
  });

  it('ends quietly when nobody reads its output any more', async () => {
    const folder = await temporaryFolder();
    const inside = path.join(folder, 'a folder with a name that makes every line of the listing a long one');
    await mkdir(inside);
    await Promise.all(
      Array.from({ length: 1500 }, (_, i) => writeFile(path.join(inside, `${'a long name '.repeat(8)}${i}`), '')),
    );
    expect(await firn(['archive', folder, '--source', 'many'])).toMatchObject({ code: 0 });
    const whole = await firn(['ls', 'latest:many']);
    expect(whole.stdout.length).toBeGreaterThan(256 * 1024);
    const cut = await firn(['ls', 'latest:many'], {
      onStart: (child) => child.stdout?.once('data', () => child.stdout?.destroy()),
    });
    expect({ ...cut, stdout: '' }).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(cut.stdout.length).toBeLessThan(whole.stdout.length);
  });

  it('says which address it tried when the account cannot be reached', async () => {
    const address = '127.0.0.1:1';
    const env = { FIRN_STORAGE: azuriteConnectionString().replaceAll(/127\.0\.0\.1:\d+/g, address) };
    const { code, stdout, stderr } = await firn(['ls', '--json'], { env });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    const [error] = jsonLines(stderr);
    expect(error).toMatchObject({ error: 'FIRN_STORAGE_UNREACHABLE' });
    expect(error?.message).toContain(address);
    expect(stderr).not.toContain('AccountKey');
  });

  it('wants a storage account, and one that can be understood', async () => {
    const none = await firn(['ls'], { env: { FIRN_STORAGE: '' } });
    expect(none).toMatchObject({ code: 2, stdout: '' });
    expect(none.stderr).toContain('FIRN_STORAGE');
    const wrong = await firn(['ls', '--json'], { env: { FIRN_STORAGE: 'AccountKey=secret' } });
    expect(wrong.code).toBe(2);
    expect(jsonLines(wrong.stderr)).toMatchObject([{ error: 'FIRN_SETTING_INVALID' }]);
    expect(wrong.stderr).not.toContain('secret');
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('stops its work at %s, with exit code 130', async (signal) => {
    await using service = await startSilentService();
    const env = { FIRN_STORAGE: service.connectionString };
    const onStart = (child: ChildProcess) => void service.connected.then(() => child.kill(signal));
    const { code, stdout, stderr } = await firn(['ls', '--json'], { env, onStart });
    expect({ code, stdout }).toEqual({ code: 130, stdout: '' });
    expect(jsonLines(stderr)).toMatchObject([{ error: 'FIRN_CANCELLED' }]);
  });

  it('prints stacks only with FIRN_DEBUG=1', async () => {
    const env = { FIRN_PASSPHRASE: 'wrong' };
    const plain = await firn(['ls'], { env });
    expect(plain).toMatchObject({ code: 1, stdout: '' });
    expect(plain.stderr.trimEnd().split('\n')).toHaveLength(2);
    const debug = await firn(['ls'], { env: { ...env, FIRN_DEBUG: '1' } });
    expect(debug.stderr).toMatch(/\n +at .*openRepository/);
  });
});
