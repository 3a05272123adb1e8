/** How a scan reads the tree that it compares a folder with; what it finds is in `test/cli`. */
import { describe, expect, it } from 'vitest';
import { FolderListing } from '../../src/archive/folder-listing.ts';
import { type FolderScan, scanFolder } from '../../src/archive/folder-source.ts';
import { applyChanges } from '../../src/filetree/apply-changes.ts';
import { createFiletreeStore } from '../../src/filetree/filetree-store.ts';
import { findEntry } from '../../src/filetree/walk.ts';
import { plainKeys } from '../../src/sealing/keys.ts';
import { fileOf, put } from '../filetree/tree-model.ts';
import { type LocalTree, temporaryFolderOf } from '../kit/local-tree.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { watchReads } from '../kit/watched-reads.ts';

describe('a scan', () => {
  it('reads ahead in the tree what lies below the folders to come', async () => {
    const data = createMemoryBlobStore();
    await data.createContainer();
    const pageLimits = { min: 1000, mean: 1500, max: 4000 };
    const built = createFiletreeStore(data, plainKeys, { pageLimits });
    const tops = Array.from({ length: 10 }, (_, at) => String(10 + at));
    const names = ['0', '1', '2', '3', '4', '5'];
    const paths = tops.flatMap((top) => names.map((name) => `${top}/large/${name}`));
    const changes = paths.map((path) => put(path, fileOf(path)));
    const { root } = await applyChanges(built, undefined, changes);
    expect((await findEntry(built, root, '10')).folder?.tree).toBeTypeOf('object');
    expect((await findEntry(built, root, '10/large')).folder?.tree).toBeTypeOf('string');
    const large = { type: 'folder', entries: Object.fromEntries(names.map((name) => [name, ''])) } as const;
    const tree: LocalTree = Object.fromEntries(tops.map((top) => [top, { type: 'folder', entries: { large } }]));

    const reads = watchReads(data);
    const filetrees = createFiletreeStore(reads.store, plainKeys, { pageLimits });
    using listing = new FolderListing(await temporaryFolderOf(tree), new Date());
    const scan: FolderScan = { unchangedFiles: 0, unchangedBytes: 0 };
    const base = { filetrees, root, lastScan: Promise.resolve(undefined) };
    const items = await Array.fromAsync(scanFolder({ listing, base }, scan));
    expect(items.filter(({ op, path }) => op === 'put' && paths.includes(path))).toHaveLength(60);
    expect(reads.atOnceMax()).toBeGreaterThan(4);
  });
});
