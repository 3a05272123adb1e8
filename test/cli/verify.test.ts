import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { chunkBlobName } from '../../src/chunks/chunk-blobs.ts';
import { findEntry } from '../../src/filetree/walk.ts';
import { pseudoRandomBytes } from '../chunks/bytes.ts';
import { damage } from '../kit/damage.ts';
import { type LocalTree, temporaryFolder, temporaryFolderOf } from '../kit/local-tree.ts';
import { createCli, idPattern } from './cli.ts';

const tree: LocalTree = {
  a: 'one',
  folder: { type: 'folder', entries: { b: 'two', link: { type: 'link', target: 'b' } } },
  large: { type: 'file', content: pseudoRandomBytes(1, 5_000_000) },
};

describe('firn verify', () => {
  it('reads all of a snapshot and says how much that was', async () => {
    const { cli } = await createCli();
    await cli('archive', await temporaryFolderOf(tree), '--source', 'docs');
    expect(await cli('verify', 'latest:docs', '--json')).toMatchObject({
      code: 0,
      stderr: '',
      json: [
        {
          snapshot: expect.stringMatching(idPattern),
          files: 3,
          links: 1,
          folders: 1,
          bytes: 5_000_006,
          failedCount: 0,
          failed: [],
        },
      ],
    });
    expect((await cli('verify', 'latest')).stdout).toMatch(
      /^Verified 3 files, 1 link, 1 folder, 4\.77 MiB of snapshot/,
    );
  });

  it('reads only the paths that are named', async () => {
    const { cli } = await createCli();
    await cli('archive', await temporaryFolderOf(tree), '--source', 'docs');
    expect(await cli('verify', 'latest', '--path', 'folder', '--json')).toMatchObject({
      code: 0,
      json: [{ files: 1 }],
    });
    expect(await cli('verify', 'latest', '--path', 'nothing', '--json')).toMatchObject({
      code: 1,
      errors: [{ error: 'FIRN_PATH_UNKNOWN' }],
    });
  });

  it('fails for exactly the files that a restore could not give back', async () => {
    const { cli, repository } = await createCli({ chunking: { method: 'file' } });
    await cli('archive', await temporaryFolderOf(tree), '--source', 'docs');
    const snapshot = await repository.snapshots.resolve('latest');
    const { file } = await findEntry(repository.filetrees, snapshot.root, 'large');
    await damage(repository.data.store, chunkBlobName(file?.type === 'file' ? file.content : ''));
    const verified = await cli('verify', 'latest', '--json');
    expect(verified).toMatchObject({
      code: 1,
      json: [{ files: 2, failedCount: 1, failed: [{ path: 'large', code: 'FIRN_SEAL_BROKEN' }] }],
    });
    expect(verified.errors.at(-1)).toMatchObject({
      error: 'FIRN_SNAPSHOT_INCOMPLETE',
      details: { failed: 1, files: 4, snapshot: snapshot.id },
    });
    const restored = await cli('restore', 'latest', path.join(await temporaryFolder(), 'out'), '--json');
    expect(restored.json[0]?.failed).toEqual(verified.json[0]?.failed);
  });
});
