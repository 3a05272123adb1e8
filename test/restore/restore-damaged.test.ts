import { readdir, symlink } from 'node:fs/promises';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chunkBlobName } from '../../src/chunks/chunk-blobs.ts';
import { archiveAndPublish } from '../../src/cli/archive-and-publish.ts';
import { FirnError } from '../../src/errors.ts';
import { filetreeBlob } from '../../src/filetree/filetree-store.ts';
import { findEntry } from '../../src/filetree/walk.ts';
import { rootOf } from '../../src/index/root-view.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import type { Containers } from '../../src/repository.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { pseudoRandomBytes } from '../chunks/bytes.ts';
import { intercept } from '../chunks/intercept.ts';
import { damage, folderBlob } from '../kit/damage.ts';
import {
  describeTree,
  filesIn,
  type LocalTree,
  makeTree,
  manyBytesOfLinks,
  removeFolder,
  temporaryFolder,
} from '../kit/local-tree.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { archiveAll, createTestRepository, upload } from '../kit/repository.ts';
import { anyFolder } from './arbitrary-folders.ts';

import { archived, archivedRoot, damagedRepository, fileAt, folderAt, restored } from './restoring.ts';

describe('restoring a damaged repository', () => {
  const tree: LocalTree = {
    a: 'file a',
    folder: { type: 'folder', entries: { b: 'file b', c: 'file c' } },
    large: { type: 'file', content: pseudoRandomBytes(1, 5_000_000) },
  };

  it('leaves out the file whose chunk is damaged, and restores the rest', async () => {
    const { repository, snapshot } = await damagedRepository(tree, async (whole, { root }) => {
      const { file } = await findEntry(whole.filetrees, root, 'large');
      await damage(whole.data.store, chunkBlobName(file?.type === 'file' ? file.content : ''));
    });
    const { files, failed } = await restored(repository, snapshot);
    expect(failed).toEqual({ large: 'FIRN_SEAL_BROKEN' });
    expect(files).toEqual({ a: 'file a', 'folder/b': 'file b', 'folder/c': 'file c' });
  });

  it('leaves out the file whose chunk blob is missing, and restores the rest', async () => {
    const { repository, snapshot } = await damagedRepository(tree, async (whole, { root }) => {
      const { file } = await findEntry(whole.filetrees, root, 'large');
      await whole.data.store.delete(chunkBlobName(file?.type === 'file' ? file.content : ''));
    });
    const { failed, result } = await restored(repository, snapshot);
    expect(failed).toEqual({ large: 'FIRN_BLOB_MISSING' });
    expect(result).toMatchObject({ files: 3, filesExpected: 4 });
  });

  it('leaves out the files whose part of the chunk index is damaged or gone', async () => {
    const { repository, snapshot } = await damagedRepository(tree, async (whole, at) => {
      const a = rootOf((await fileAt(whole, at, 'a')).content);
      const b = rootOf((await fileAt(whole, at, 'folder/b')).content);
      await damage(whole.state.store, `chunk-index/${a}`);
      if (b !== a) await whole.state.store.delete(`chunk-index/${b}`);
    });
    const { failed } = await restored(repository, snapshot);
    expect(failed).toMatchObject({ a: 'FIRN_SEAL_BROKEN' });
    expect(Object.keys(failed)).toContain('folder/b');
    expect(['FIRN_CHUNK_MISSING', 'FIRN_SEAL_BROKEN']).toContain(failed['folder/b']);
  });

  it('gives every folder its mode and time all the same, whatever fails in it and whatever paths are asked for', async () => {
    const paths = (tree: LocalTree, at = ''): string[] =>
      Object.entries(tree).flatMap(([name, node]) => [
        at + name,
        ...(typeof node === 'object' && 'entries' in node ? paths(node.entries, `${at}${name}/`) : []),
      ]);
    const anyCase = anyFolder.chain((tree) =>
      fc.record({
        tree: fc.constant(tree),
        asked: fc.subarray(paths(tree)),
        lost: fc.subarray(paths(tree)),
      }),
    );
    await fc.assert(
      fc.asyncProperty(anyCase, async ({ tree, asked, lost }) => {
        const { repository, snapshot, folder } = await archived(tree, { chunking: { method: 'file' } });
        for (const at of lost) {
          const { file } = await findEntry(repository.filetrees, snapshot.root, at);
          if (file?.type === 'file') await repository.state.store.delete(`chunk-index/${rootOf(file.content)}`);
        }
        const before = await describeTree(folder);
        const { folder: back, failed, result } = await restored(repository, snapshot, { paths: asked });
        const after = await describeTree(back);
        expect(before).toMatchObject(after);
        expect(Object.keys(after).length + Object.keys(failed).length).toBe(result.filesExpected + result.folders);
        await removeFolder(folder);
        await removeFolder(back);
      }),
      { numRuns: 15 },
    );
  });

  it('leaves out the folder whose filetree is damaged or missing, and restores the rest', async () => {
    const large: LocalTree = { ...tree, folder: { type: 'folder', entries: { b: 'file b', ...manyBytesOfLinks() } } };
    for (const break_ of [damage, (store: BlobStore, name: string) => store.delete(name).then(() => {})]) {
      const { repository, snapshot } = await damagedRepository(large, async (whole, at) => {
        await break_(whole.data.store, await folderBlob(whole, at, 'folder'));
      });
      const { files, failed } = await restored(repository, snapshot);
      expect(failed).toEqual({ folder: expect.stringMatching(/FIRN_SEAL_BROKEN|FIRN_BLOB_MISSING/) });
      expect(Object.keys(files).sort()).toEqual(['a', 'large']);
      // A path on the far side of the damage is told like any other, and what else was asked for is restored.
      const part = await restored(repository, snapshot, { paths: ['folder/b', 'a'] });
      expect(Object.keys(part.failed)).toEqual(['folder/b']);
      expect(part.files).toEqual({ a: 'file a' });
    }
  });

  it('tells of a damaged top folder, whose entries nobody can know', async () => {
    const { repository, snapshot } = await damagedRepository(tree, async (whole, { root }) => {
      await damage(whole.data.store, filetreeBlob(root));
    });
    const { failed, result } = await restored(repository, snapshot);
    expect(failed).toEqual({ '': 'FIRN_SEAL_BROKEN' });
    expect(result).toMatchObject({ files: 0, filesExpected: 4 });
  });

  it('ends at once when the storage cannot be reached', async () => {
    const account = createMemoryAccount();
    let unreachable = false;
    const containers: Containers = {
      container: (name) =>
        intercept(account.container(name), {
          read: async (next, ...args) => {
            if (unreachable) throw new FirnError('FIRN_STORAGE_UNREACHABLE', { url: 'x', problem: 'y' });
            return await next(...args);
          },
        }),
    };
    const { repository, reopen } = await createTestRepository({ containers });
    const folder = await temporaryFolder();
    await makeTree(folder, tree);
    const { snapshot } = await archiveAndPublish(repository, folder, 'test');
    const fresh = await reopen();
    unreachable = true;
    await expect(restored(fresh, snapshot)).rejects.toMatchObject({ code: 'FIRN_STORAGE_UNREACHABLE' });
  });
});

describe('a filetree with names that leave the target', () => {
  it('is refused by the reader, and nothing is written outside', async () => {
    const { repository, reopen } = await createTestRepository();
    const { filetrees } = repository;
    const evil = Buffer.from('evil');
    const { keys, data } = repository;
    const content = keys.hash(evil);
    const leaf = (name: string) =>
      Buffer.from(
        `{"format":1,"type":"leaf","entries":[{"name":${JSON.stringify(name)},"type":"file","bytes":4,"content":"${content}","chunks":["${content}"]}]}`,
      );
    const good = await filetrees.writeNode({ type: 'leaf', entries: [] });
    for (const name of ['..', '../evil', '/evil', '.', 'a/b', '']) {
      const body = leaf(name);
      const tree = keys.hash(body);
      await data.create('filetree', filetreeBlob(tree), body);
      const root = await filetrees.writeNode({
        type: 'leaf',
        entries: [
          { name: 'bad', type: 'folder', files: 1, folders: 0, bytes: 4, tree },
          { name: 'good', type: 'folder', files: 0, folders: 0, bytes: 0, tree: good },
        ],
      });
      const { snapshot } = await archivedRoot(repository, root);
      const above = await temporaryFolder();
      const { failed } = await restored(await reopen(), snapshot, {}, path.join(above, 'target'));
      expect(failed).toEqual({ bad: 'FIRN_PATH_ESCAPES' });
      expect(await readdir(above)).toEqual(['target']);
      expect((await readdir(path.join(above, 'target'))).sort()).toEqual(['bad', 'good']);
    }
  });

  it('does not write below a link that the snapshot itself holds', async () => {
    const { repository } = await createTestRepository();
    const outside = await temporaryFolder();
    await upload(repository, 'test/a/b', 'in the folder');
    await archiveAll(repository, 'test');
    const published = (await publishSource(repository, 'test'))!.snapshot!;
    const folder = await folderAt(repository, published, 'a');
    const root = await repository.filetrees.writeNode({
      type: 'leaf',
      entries: [folder, { name: 'a', type: 'link', target: outside }],
    });
    const { snapshot } = await archivedRoot(repository, root);
    const { failed, files } = await restored(repository, snapshot);
    expect(failed).toEqual({ a: 'FIRN_TARGET_BLOCKED' });
    expect(files).toEqual({ 'a/b': 'in the folder' });
    expect(await readdir(outside)).toEqual([]);
    // Into a target where the link came first, the folder replaces it.
    const target = await temporaryFolder();
    await symlink(outside, path.join(target, 'a'));
    await restored(repository, snapshot, { overwrite: true }, target);
    expect(await readdir(outside)).toEqual([]);
    expect(await filesIn(target)).toEqual({ 'a/b': 'in the folder' });
  });
});
