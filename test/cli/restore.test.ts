import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { chunkBlobName } from '../../src/chunks/chunk-blobs.ts';
import { findEntry } from '../../src/filetree/walk.ts';
import { pseudoRandomBytes } from '../chunks/bytes.ts';
import { damage, folderBlob } from '../kit/damage.ts';
import { filesIn, type LocalTree, manyBytesOfLinks, temporaryFolder, temporaryFolderOf } from '../kit/local-tree.ts';
import { createCli, idPattern, runCli } from './cli.ts';

describe('firn restore', () => {
  const tree: LocalTree = {
    a: 'one',
    folder: { type: 'folder', entries: { b: 'two' } },
    large: { type: 'file', content: pseudoRandomBytes(1, 5_000_000) },
  };

  it('restores into a folder from where the user is, and says what it did', async () => {
    const { cli, containers } = await createCli();
    await cli('archive', await temporaryFolderOf(tree), '--source', 'docs');
    const cwd = await temporaryFolder();
    const { code, json, stderr } = await runCli(['restore', 'latest', 'out', '--json'], { containers, cwd });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(json).toEqual([
      {
        snapshot: expect.stringMatching(idPattern),
        folder: path.join(cwd, 'out'),
        files: 3,
        links: 0,
        folders: 1,
        bytes: 5_000_006,
        failedCount: 0,
        failed: [],
        seconds: expect.any(Number),
      },
    ]);
    expect(Object.keys(await filesIn(path.join(cwd, 'out'))).sort()).toEqual(['a', 'folder/b', 'large']);
    const again = await runCli(['restore', 'latest', 'out', '--json'], { containers, cwd });
    expect(again).toMatchObject({ code: 2, errors: [{ error: 'FIRN_TARGET_NOT_EMPTY' }] });
    expect(await runCli(['restore', 'latest', 'out', '--overwrite'], { containers, cwd })).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^Restored 3 files, 1 folder, 4\.77 MiB of snapshot/),
    });
  });

  it('restores only the paths that are named', async () => {
    const { cli } = await createCli();
    await cli('archive', await temporaryFolderOf(tree), '--source', 'docs');
    const to = path.join(await temporaryFolder(), 'out');
    expect(await cli('restore', 'latest', to, '--path', 'a', '--path', 'folder')).toMatchObject({ code: 0 });
    expect(await filesIn(to)).toEqual({ a: 'one', 'folder/b': 'two' });
    const unknown = await cli('restore', 'latest', to, '--path', 'nothing', '--overwrite', '--json');
    expect(unknown).toMatchObject({ code: 1, errors: [{ error: 'FIRN_PATH_UNKNOWN', details: { path: 'nothing' } }] });
  });

  it('names what is damaged, restores the rest, and exits with 1', async () => {
    const { cli, repository } = await createCli({ chunking: { method: 'file' } });
    await cli('archive', await temporaryFolderOf(tree), '--source', 'docs');
    const snapshot = await repository.snapshots.resolve('latest');
    const { file } = await findEntry(repository.filetrees, snapshot.root, 'large');
    const chunk = file?.type === 'file' ? file.content : '';
    await damage(repository.data.store, chunkBlobName(chunk));

    const to = path.join(await temporaryFolder(), 'out');
    const { code, json, errors } = await cli('restore', 'latest', to, '--json');
    expect(code).toBe(1);
    expect(json).toMatchObject([{ files: 2, failedCount: 1, failed: [{ path: 'large', code: 'FIRN_SEAL_BROKEN' }] }]);
    expect(errors).toMatchObject([
      { warning: 'FIRN_SEAL_BROKEN', path: 'large', message: expect.stringContaining(chunk) },
      { error: 'FIRN_RESTORE_INCOMPLETE', message: '1 of 3 files could not be restored.' },
    ]);
    expect(await filesIn(to)).toEqual({ a: 'one', 'folder/b': 'two' });
    // A person sees the name of the file too.
    const plain = await cli('restore', 'latest', path.join(await temporaryFolder(), 'out'));
    expect(plain.stderr).toContain('large');
    expect(await cli('cat', 'latest', 'large', '--json')).toMatchObject({
      code: 1,
      errors: [{ error: 'FIRN_SEAL_BROKEN' }],
    });
  });

  it('names a damaged folder and how many files went with it', async () => {
    const { cli, repository } = await createCli();
    const entries = { b: 'two', ...manyBytesOfLinks() };
    const large: LocalTree = { ...tree, folder: { type: 'folder', entries } };
    await cli('archive', await temporaryFolderOf(large), '--source', 'docs');
    const snapshot = await repository.snapshots.resolve('latest');
    await damage(repository.data.store, await folderBlob(repository, snapshot, 'folder'));
    const { code, errors } = await cli('restore', 'latest', path.join(await temporaryFolder(), 'out'), '--json');
    expect(code).toBe(1);
    const failed = Object.keys(entries).length;
    expect(errors).toMatchObject([
      { warning: 'FIRN_SEAL_BROKEN', path: 'folder' },
      { error: 'FIRN_RESTORE_INCOMPLETE', details: { failed, files: 2 + failed } },
    ]);
  });
});
