import { execFileSync } from 'node:child_process';
import { utimes, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Containers } from '../../src/repository.ts';
import { pseudoRandomBytes } from '../chunks/bytes.ts';
import { intercept } from '../chunks/intercept.ts';
import { temporaryFolderOf } from '../kit/local-tree.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { createCli, idPattern, runCli } from './cli.ts';

describe('firn archive', () => {
  it('ends with an object that says what was done', async () => {
    const { cli } = await createCli();
    const folder = await temporaryFolderOf({ a: 'one', b: { type: 'folder', entries: { c: 'three', d: 'one' } } });
    const first = await cli('archive', folder, '--source', 'docs', '--json');
    expect(first).toMatchObject({ code: 0, stderr: '' });
    expect(first.json).toEqual([
      {
        snapshot: expect.stringMatching(idPattern),
        source: 'docs',
        time: expect.any(String),
        files: 3,
        folders: 1,
        bytes: 11,
        newChunks: 2,
        newBytes: 8,
        storedBytes: expect.any(Number),
        unchanged: false,
        parent: null,
        added: 3,
        changed: 0,
        removed: 0,
        skippedCount: 0,
        skipped: [],
        seconds: expect.any(Number),
      },
    ]);
    const same = await cli('archive', folder, '--source', 'docs', '--json');
    expect(same.json).toMatchObject([
      {
        snapshot: first.json[0]?.snapshot,
        files: 3,
        bytes: 11,
        newChunks: 0,
        storedBytes: 0,
        unchanged: true,
        added: 0,
      },
    ]);
    await writeFile(path.join(folder, 'a'), 'changed');
    const second = await cli('archive', folder, '--source', 'docs', '--json');
    expect(second.json).toMatchObject([
      { parent: first.json[0]?.snapshot, files: 3, bytes: 15, newChunks: 1, unchanged: false, added: 0, changed: 1 },
    ]);
  });

  it('reads what was changed behind its times, unless it is told that they say nothing', async () => {
    const { cli } = await createCli();
    const folder = await temporaryFolderOf({ a: { type: 'file', content: 'one', mtime: 1_000_000_000 } });
    await cli('archive', folder, '--source', 'docs');
    await writeFile(path.join(folder, 'a'), 'two');
    await utimes(path.join(folder, 'a'), 1_000_000_000, 1_000_000_000);
    const told = await cli('archive', folder, '--source', 'docs', '--ignore-ctime', '--json');
    expect(told.json).toMatchObject([{ unchanged: true }]);
    const asked = await cli('archive', folder, '--source', 'docs', '--json');
    expect(asked.json).toMatchObject([{ unchanged: false, changed: 1, newChunks: 1 }]);
  });

  it('takes a folder from where the user is, and says in words what it did', async () => {
    const { containers } = await createCli();
    const folder = await temporaryFolderOf({ inside: { type: 'folder', entries: { a: 'one' } } });
    const run = () => runCli(['archive', 'inside', '--source', 'docs'], { containers, cwd: folder });
    expect((await run()).stdout).toMatch(
      /^Snapshot [0-9a-f]{16} of docs: 1 file, 3 B\n {2}added 1, changed 0, removed 0\n/,
    );
    expect((await run()).stdout).toMatch(
      /^Nothing changed: docs is as snapshot [0-9a-f]{16} has it \(1 file, 3 B\)\.\n$/,
    );
  });

  it.each([
    ['a folder that does not exist', 'missing', 'FIRN_FOLDER_MISSING'],
    ['a file in the place of a folder', 'file', 'FIRN_NOT_A_FOLDER'],
  ])('refuses %s', async (_, name, error) => {
    const { cli } = await createCli();
    const folder = await temporaryFolderOf({ file: 'x' });
    expect(await cli('archive', path.join(folder, name), '--source', 'docs', '--json')).toMatchObject({
      code: 2,
      errors: [{ error }],
    });
  });

  it('refuses a source name that cannot be one, before it reads anything', async () => {
    const { cli, repository } = await createCli();
    const run = await cli('archive', await temporaryFolderOf({ a: 'x' }), '--source', 'a/b', '--json');
    expect(run).toMatchObject({ code: 2, errors: [{ error: 'FIRN_SOURCE_NAME_INVALID' }] });
    expect(await Array.fromAsync(repository.data.store.list({ prefix: 'chunks/' }))).toEqual([]);
  });

  it('leaves out and names pipes, sockets and names that are no text, says so in the snapshot, and exits with 3', async () => {
    const { cli } = await createCli();
    const folder = await temporaryFolderOf({ a: 'one', sub: { type: 'folder', entries: {} } });
    execFileSync('mkfifo', [path.join(folder, 'pipe')]);
    await writeFile(Buffer.concat([Buffer.from(`${folder}/sub/`), Buffer.from([0x66, 0xff])]), 'x');
    const server = createServer().listen(path.join(folder, 'socket'));
    await new Promise((resolve) => server.once('listening', resolve));
    try {
      const plain = await cli('archive', folder, '--source', 'docs');
      expect(plain.code).toBe(3);
      expect(plain.stderr).toMatch(/^warning: pipe was left out: it is a pipe/m);
      expect(plain.stderr).toMatch(/^warning: socket was left out: it is a socket/m);
      expect(plain.stderr).toMatch(/^warning: sub\/f\ufffd was left out: its name is not valid UTF-8/m);

      const { code, json, errors } = await cli('archive', folder, '--source', 'docs', '--json');
      expect(code).toBe(3);
      expect(json).toMatchObject([{ unchanged: true, files: 1, skippedCount: 3 }]);
      expect(json[0]?.skipped).toContainEqual({ path: 'pipe', code: 'FIRN_FILE_SPECIAL', problem: expect.any(String) });
      expect(errors.map(({ warning, path: at }) => [warning, at])).toEqual([
        ['FIRN_FILE_SPECIAL', 'pipe'],
        ['FIRN_FILE_SPECIAL', 'socket'],
        ['FIRN_PATH_UNUSABLE', 'sub/f\ufffd'],
      ]);
      expect((await cli('snapshots', '--json')).json).toMatchObject([{ files: 1, skipped: 3 }]);
      expect((await cli('ls', '--json')).json.map(({ path: at }) => at)).toEqual(['a', 'sub']);
    } finally {
      server.close();
    }
  });

  it('leaves out and names devices, which it never reads', async (context) => {
    const { cli } = await createCli();
    const folder = await temporaryFolderOf({ a: 'one' });
    try {
      execFileSync('mknod', [path.join(folder, 'zero'), 'c', '1', '5'], { stdio: 'ignore' });
    } catch {
      context.skip('only an administrator can make a device');
    }
    const { code, json, errors } = await cli('archive', folder, '--source', 'docs', '--json');
    expect(code).toBe(3);
    expect(errors).toMatchObject([{ warning: 'FIRN_FILE_SPECIAL', path: 'zero' }]);
    expect(json).toMatchObject([{ files: 1, bytes: 3, skippedCount: 1 }]);
  });

  it('leaves out and names a file that changes each time it is read, keeps its earlier version, and exits with 3', async () => {
    const folder = await temporaryFolderOf({
      a: 'one',
      busy: { type: 'file', content: pseudoRandomBytes(1, 5_000_000) },
    });
    let seed = 10;
    let restless = false;
    const account = createMemoryAccount();
    const containers: Containers = {
      container: (name) =>
        intercept(account.container(name), {
          createFromStream: async (next, ...args) => {
            if (restless) {
              seed += 1;
              await writeFile(path.join(folder, 'busy'), pseudoRandomBytes(seed, 5_000_000));
            }
            return await next(...args);
          },
        }),
    };
    const { cli, repository } = await createCli({ containers, chunking: { method: 'file' } });
    await cli('archive', folder, '--source', 'docs');
    await writeFile(path.join(folder, 'busy'), pseudoRandomBytes(2, 5_000_000));
    restless = true;
    const { code, json, errors } = await cli('archive', folder, '--source', 'docs', '--json', '--rehash');
    expect(code).toBe(3);
    expect(seed).toBe(13);
    expect(errors).toMatchObject([{ warning: 'FIRN_FILE_CHANGING', path: 'busy' }]);
    expect(json).toMatchObject([{ files: 2, skippedCount: 1 }]);
    // No snapshot holds a mixture: what is there is the first version.
    const { stdoutBytes } = await cli('cat', 'latest', 'busy');
    expect(stdoutBytes.equals(pseudoRandomBytes(1, 5_000_000))).toBe(true);
    expect(repository).toBeDefined();
  });

  it('is cancelled by its signal, with exit code 130', async () => {
    const { containers } = await createCli();
    const folder = await temporaryFolderOf({ a: 'one' });
    const cancelled = new AbortController();
    cancelled.abort();
    const run = await runCli(['archive', folder, '--source', 'docs', '--json'], {
      containers,
      signal: cancelled.signal,
    });
    expect(run).toMatchObject({ code: 130, stdout: '', errors: [{ error: 'FIRN_CANCELLED' }] });
  });
});
