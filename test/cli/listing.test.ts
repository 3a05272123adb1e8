import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Repository } from '../../src/repository.ts';
import type { Snapshot } from '../../src/snapshots/snapshot.ts';
import { pseudoRandomBytes } from '../chunks/bytes.ts';
import { damage, folderBlob } from '../kit/damage.ts';
import { type LocalTree, makeTree, manyBytesOfLinks, temporaryFolder, temporaryFolderOf } from '../kit/local-tree.ts';
import { createCli } from './cli.ts';

describe('firn snapshots', () => {
  it('lists them, oldest first, of all sources or of one', async () => {
    const { cli } = await createCli();
    expect(await cli('snapshots')).toMatchObject({ code: 0, stdout: '', stderr: 'There are no snapshots.\n' });
    const folder = await temporaryFolderOf({ a: 'one' });
    const ids: unknown[] = [];
    for (const [source, content] of [
      ['docs', 'one'],
      ['site', 'one'],
      ['docs', 'another'],
    ] as const) {
      await writeFile(path.join(folder, 'a'), content);
      ids.push((await cli('archive', folder, '--source', source, '--json')).json[0]?.snapshot);
    }
    const { json, stderr } = await cli('snapshots', '--json');
    expect(stderr).toBe('');
    expect(json.map(({ id }) => id)).toEqual(ids);
    expect(json[0]).toEqual({
      id: ids[0],
      source: 'docs',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      files: 1,
      folders: 0,
      bytes: 3,
      parent: null,
      added: 1,
      changed: 0,
      removed: 0,
      storedBytes: expect.any(Number),
      skipped: 0,
    });
    expect(json[2]).toMatchObject({ parent: ids[0], source: 'docs', bytes: 7 });
    const one = await cli('snapshots', '--source', 'docs', '--json');
    expect(one.json.map(({ id }) => id)).toEqual([ids[0], ids[2]]);
    const table = (await cli('snapshots')).stdout.split('\n');
    expect(table).toHaveLength(5);
    expect(table[0]).toMatch(/^ID +TIME +SOURCE +FILES +SIZE/);
    expect(table[1]).toContain(String(ids[0]).slice(0, 8));
  });

  it('names a damaged one, lists the others, and exits with 1', async () => {
    const { cli, repository } = await createCli();
    const folder = await temporaryFolderOf({ a: 'one' });
    await cli('archive', folder, '--source', 'docs');
    await writeFile(path.join(folder, 'a'), 'another');
    await cli('archive', folder, '--source', 'docs');
    const [first = '', second = ''] = await repository.snapshots.names();
    await damage(repository.data.store, first);
    const { code, json, errors } = await cli('snapshots', '--json');
    expect(code).toBe(1);
    expect(json.map(({ id }) => id)).toEqual([second.slice(-16)]);
    expect(errors).toMatchObject([{ warning: 'FIRN_SEAL_BROKEN', message: expect.stringContaining(first) }]);
    const damaged = await cli('restore', first.slice(-16), await temporaryFolder(), '--json');
    expect(damaged).toMatchObject({ code: 1, errors: [{ error: 'FIRN_SEAL_BROKEN', details: { blob: first } }] });
    expect(await cli('restore', 'latest', await temporaryFolder())).toMatchObject({ code: 0 });
  });
});

/** A snapshot of the same tree with this id. */
async function copyOf(repository: Repository, snapshot: Snapshot, id: string, time: string): Promise<void> {
  await repository.snapshots.create({ ...snapshot, id, time });
}

describe('naming a snapshot', () => {
  it('takes an id, a unique prefix, latest and latest:<source>; names the candidates of an ambiguous one', async () => {
    const { cli, repository } = await createCli();
    const folder = await temporaryFolderOf({ a: 'one' });
    await cli('archive', folder, '--source', 'docs');
    const snapshot = await repository.snapshots.resolve('latest');
    const other = snapshot.id.startsWith('a') ? 'b' : 'a';
    const [one, two] = [`${other}bcd000000000000`, `${other}bcd111111111111`];
    await copyOf(repository, snapshot, one, '2001-01-01T00:00:00.000Z');
    await copyOf(repository, snapshot, two, '2001-01-02T00:00:00.000Z');
    for (const name of [snapshot.id, snapshot.id.slice(0, 12), 'latest', 'latest:docs', one.slice(0, 5)]) {
      expect(await cli('ls', name), name).toMatchObject({ code: 0, stdout: expect.stringContaining('a') });
    }
    expect(await cli('ls', one.slice(0, 4), '--json')).toMatchObject({
      code: 2,
      stdout: '',
      errors: [
        {
          error: 'FIRN_SNAPSHOT_AMBIGUOUS',
          message: expect.stringContaining(`${one}, ${two}`),
        },
      ],
    });
    for (const name of [`${other}000`, 'latest:other', 'no-id']) {
      expect(await cli('ls', name, '--json')).toMatchObject({ code: 1, errors: [{ error: 'FIRN_SNAPSHOT_UNKNOWN' }] });
    }
    for (const [command, ...rest] of [
      ['cat', 'a'],
      ['restore', folder],
      ['diff', 'latest'],
    ] as const) {
      expect(await cli(command, 'no-id', ...rest, '--json')).toMatchObject({
        code: 1,
        errors: [{ error: 'FIRN_SNAPSHOT_UNKNOWN' }],
      });
    }
  });
});

describe('firn ls', () => {
  const tree: LocalTree = {
    a: { type: 'file', content: 'one', mode: 0o640, mtime: 1_000_000_000.5 },
    folder: {
      type: 'folder',
      mode: 0o755,
      mtime: 1_000_000_000,
      entries: { b: 'two', deep: { type: 'folder', entries: { c: '3' } } },
    },
    'line\nbreak\u001b[31m': 'x',
    link: { type: 'link', target: 'a', mtime: 1_000_000_001 },
  };

  async function archived() {
    const created = await createCli();
    await created.cli('archive', await temporaryFolderOf(tree), '--source', 'docs');
    return created;
  }

  it('gives path, type, size, mtime and mode of everything, one a line', async () => {
    const { cli } = await archived();
    const { code, json, stderr } = await cli('ls', '--json');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(json.map(({ path: at, type, size }) => [at, type, size])).toEqual([
      ['a', 'file', 3],
      ['folder', 'folder', 0],
      ['folder/b', 'file', 3],
      ['folder/deep', 'folder', 0],
      ['folder/deep/c', 'file', 1],
      ['line\nbreak\u001b[31m', 'file', 1],
      ['link', 'link', 0],
    ]);
    expect(json[0]).toEqual({ path: 'a', type: 'file', size: 3, mtime: '2001-09-09T01:46:40.5Z', mode: 0o640 });
    expect(json[6]).toEqual({
      path: 'link',
      type: 'link',
      size: 0,
      mtime: '2001-09-09T01:46:41Z',
      mode: 0o777,
      target: 'a',
    });
  });

  it('lists below a path, or only what lies directly in a folder, or one file', async () => {
    const { cli } = await archived();
    const paths = async (...argv: string[]) =>
      (await cli('ls', 'latest', ...argv, '--json')).json.map((line) => line.path);
    expect(await paths('folder')).toEqual(['folder/b', 'folder/deep', 'folder/deep/c']);
    expect(await paths('/folder/', '--no-recursive')).toEqual(['folder/b', 'folder/deep']);
    expect(await paths('--no-recursive')).toEqual(['a', 'folder', 'line\nbreak\u001b[31m', 'link']);
    expect(await paths('folder/deep/c')).toEqual(['folder/deep/c']);
    expect(await cli('ls', 'latest', 'nothing', '--json')).toMatchObject({
      code: 1,
      errors: [{ error: 'FIRN_PATH_UNKNOWN' }],
    });
  });

  it('shows no name to a person that could act on the terminal', async () => {
    const { cli } = await archived();
    const { stdout } = await cli('ls');
    expect(stdout).toContain('line\\nbreak\\x1b[31m\n');
    expect(stdout).not.toContain('\u001b');
    expect(stdout).toMatch(/^-rw-r----- +3 B +2001-09-09 01:46:40 +a$/m);
    expect(stdout).toMatch(/^lrwxrwxrwx .* link -> a$/m);
    expect(stdout).toMatch(/^drwxr-xr-x .* folder\/$/m);
  });

  it('names a damaged folder, lists the rest, and exits with 1', async () => {
    const { cli, repository } = await createCli();
    const deep: LocalTree = { deep: { type: 'folder', entries: { c: '3', ...manyBytesOfLinks() } } };
    const large: LocalTree = { ...tree, folder: { type: 'folder', entries: deep } };
    await cli('archive', await temporaryFolderOf(large), '--source', 'docs');
    const snapshot = await repository.snapshots.resolve('latest');
    await damage(repository.data.store, await folderBlob(repository, snapshot, 'folder/deep'));
    const { code, json, errors } = await cli('ls', '--json');
    expect(code).toBe(1);
    expect(json.map((line) => line.path)).toContain('link');
    expect(json.map((line) => line.path)).not.toContain('folder/deep/c');
    expect(errors).toMatchObject([{ warning: 'FIRN_SEAL_BROKEN', path: 'folder/deep' }]);
  });
});

describe('firn cat', () => {
  it('writes the bytes of a file and nothing else', async () => {
    const { cli } = await createCli();
    const content = pseudoRandomBytes(3, 3_000_000);
    await cli('archive', await temporaryFolderOf({ big: { type: 'file', content }, empty: '' }), '--source', 'docs');
    const { code, stdoutBytes, stderr } = await cli('cat', 'latest', '/big');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdoutBytes.equals(content)).toBe(true);
    expect(await cli('cat', 'latest', 'empty')).toMatchObject({ code: 0, stdout: '' });

    const { json } = await cli('cat', 'latest', 'big', '--json');
    const pieces = json.slice(0, -1).map(({ base64 }) => Buffer.from(String(base64), 'base64'));
    expect(Buffer.concat(pieces).equals(content)).toBe(true);
    expect(json.at(-1)).toMatchObject({ path: 'big', size: 3_000_000 });
  });

  it('says what is no file, or not there', async () => {
    const { cli } = await createCli();
    await cli(
      'archive',
      await temporaryFolderOf({ folder: { type: 'folder', entries: {} }, link: { type: 'link', target: 'x' } }),
      '--source',
      'docs',
    );
    for (const at of ['folder', 'link', '/']) {
      expect(await cli('cat', 'latest', at, '--json')).toMatchObject({
        code: 2,
        errors: [{ error: 'FIRN_PATH_NOT_FILE' }],
      });
    }
    expect(await cli('cat', 'latest', 'nothing', '--json')).toMatchObject({
      code: 1,
      errors: [{ error: 'FIRN_PATH_UNKNOWN' }],
    });
  });
});

describe('firn diff', () => {
  it('gives path and change of everything that differs', async () => {
    const { cli } = await createCli();
    const folder = await temporaryFolderOf({
      same: 'same',
      gone: 'gone',
      changed: 'before',
      touched: { type: 'file', content: 'x', mtime: 1 },
    });
    await cli('archive', folder, '--source', 'docs');
    const before = (await cli('snapshots', '--json')).json[0]?.id;
    execFileSync('rm', [path.join(folder, 'gone')]);
    await makeTree(folder, {
      changed: 'after!',
      touched: { type: 'file', content: 'x', mtime: 2 },
      'new\n': { type: 'folder', entries: {} },
    });
    await cli('archive', folder, '--source', 'docs');
    const { code, json, stderr } = await cli('diff', String(before), 'latest', '--json');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(json).toEqual([
      { path: 'changed', change: 'modified', type: 'file' },
      { path: 'gone', change: 'removed', type: 'file' },
      { path: 'new\n', change: 'added', type: 'folder' },
      { path: 'touched', change: 'attributes', type: 'file' },
    ]);
    const plain = await cli('diff', String(before), 'latest');
    expect(plain.stdout).toBe('modified    changed\nremoved     gone\nadded       new\\n/\nattributes  touched\n');
    expect(plain.stderr).toBe('1 added, 1 removed, 1 modified, 1 with other attributes.\n');
    expect(await cli('diff', 'latest', 'latest', '--json')).toMatchObject({ code: 0, stdout: '' });
  });
});
