/** How a scan reads the tree that it compares a folder with, and what it finds. */
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { FolderListing } from '../../src/archive/folder-listing.ts';
import { type FolderScan, scanFolder } from '../../src/archive/folder-source.ts';
import type { ArchiveItem } from '../../src/archive/item.ts';
import { applyChanges } from '../../src/filetree/apply-changes.ts';
import type { Change } from '../../src/filetree/entry.ts';
import { createFiletreeStore, type FiletreeStore } from '../../src/filetree/filetree-store.ts';
import { findEntry } from '../../src/filetree/walk.ts';
import { type Hash, plainKeys } from '../../src/sealing/keys.ts';
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

describe('what a scan finds', () => {
  const YEAR_2020 = Date.UTC(2020, 0, 1) / 1000;
  const attributes = { mtime: '2020-01-01T00:00:00Z', mode: 0o755 };
  const file = { type: 'file', content: 'x', mode: 0o755, mtime: YEAR_2020 } as const;
  const folderOf = (entries: LocalTree) => ({ type: 'folder', entries, mode: 0o755, mtime: YEAR_2020 }) as const;
  const putFile = (at: string) => put(at, fileOf('x', attributes));
  const putFolder = (at: string) => put(at, { type: 'folder', ...attributes });

  interface ScannedOptions {
    readonly onItem?: (folder: string) => Promise<void>;
    readonly signal?: AbortSignal;
  }

  /**
   * Where a file is as the tree has it, it is not read: the last scan was long after all times.
   * @param known what the tree has, or what writes it and gives its root.
   */
  async function scanned(
    known: readonly Change[] | ((filetrees: FiletreeStore) => Promise<Hash>),
    tree: LocalTree,
    { onItem, signal }: ScannedOptions = {},
  ): Promise<{ readonly items: ArchiveItem[]; readonly scan: FolderScan }> {
    const data = createMemoryBlobStore();
    await data.createContainer();
    const filetrees = createFiletreeStore(data, plainKeys);
    const root =
      typeof known === 'function' ? await known(filetrees) : (await applyChanges(filetrees, undefined, known)).root;
    const last = { folder: '', begun: new Date(Date.now() + 3_600_000), byCtimes: true, skipped: new Set<string>() };
    const folder = await temporaryFolderOf(tree);
    // Looks at nothing before it is asked.
    using listing = new FolderListing(folder, new Date());
    listing[Symbol.dispose]();
    const base = { filetrees, root, lastScan: Promise.resolve(last) };
    const items: ArchiveItem[] = [];
    const scan: FolderScan = { unchangedFiles: 0, unchangedBytes: 0 };
    for await (const item of scanFolder({ listing, base, signal }, scan)) {
      items.push(item);
      await onItem?.(folder);
    }
    return { items, scan };
  }

  const wordsOf = (items: readonly ArchiveItem[]) => items.map(({ op, path: at }) => `${op} ${at}`);

  it.each<[string, readonly Change[], LocalTree, string[]]>([
    ['all is as it was', [putFile('a'), putFolder('d'), putFile('d/b')], { a: file, d: folderOf({ b: file }) }, []],
    ['all is gone', [putFile('a'), putFolder('d'), putFile('d/b')], {}, ['remove a', 'remove d']],
    ['a folder is empty', [putFolder('d'), putFile('d/b')], { d: folderOf({}) }, ['remove d/b']],
    ['a folder has another mode', [putFolder('d')], { d: { ...folderOf({}), mode: 0o700 } }, ['put d']],
    ['a file is a folder', [putFile('d')], { d: folderOf({ b: file }) }, ['remove d', 'put d', 'put d/b']],
    ['a folder is a file', [putFolder('d'), putFile('d/b')], { d: file }, ['remove d', 'put d']],
    [
      'of a file and a folder of one name only the folder is there',
      [putFolder('d'), putFile('d'), putFile('d/b')],
      { d: folderOf({ b: file }) },
      ['remove d', 'put d', 'put d/b'],
    ],
    [
      'of a file and a folder of one name only the file is there',
      [putFolder('d'), putFile('d'), putFile('d/b')],
      { d: file },
      ['remove d', 'put d'],
    ],
  ])('where %s', async (_, changes, tree, expected) => {
    expect(wordsOf((await scanned(changes, tree)).items)).toEqual(expected);
  });

  it('counts what is as it was', async () => {
    const { scan } = await scanned([putFile('a'), putFile('b')], { a: file, b: file, c: file });
    expect(scan).toEqual({ unchangedFiles: 2, unchangedBytes: 2 });
  });

  it('removes what goes between the reading of the names and the look at it', async () => {
    const onItem = (folder: string) => rm(path.join(folder, 'b'), { force: true });
    const { items } = await scanned([putFile('b')], { a: file, b: file }, { onItem });
    expect(wordsOf(items)).toEqual(['put a', 'remove b']);
  });

  it('knows nothing any more of a file that it removes with the folder of its name', async () => {
    const changes = [putFolder('d'), putFile('d'), putFile('d/b')];
    const { items } = await scanned(changes, { d: file });
    expect(items).toMatchObject([{ op: 'remove' }, { op: 'put', isKnown: false }]);
  });

  it('refuses a tree whose folder does not hold what its entry promises', async () => {
    const lying = async (filetrees: FiletreeStore) => {
      const tree = await filetrees.writeNode({ type: 'leaf', entries: [{ name: 'x', type: 'link', target: 't' }] });
      const entry = { name: 'd', type: 'folder', ...attributes, files: 7, folders: 0, bytes: 0, tree } as const;
      return await filetrees.writeNode({ type: 'leaf', entries: [entry] });
    };
    await expect(scanned(lying, { d: folderOf({}) })).rejects.toMatchObject({ code: 'FIRN_BLOB_DAMAGED' });
  });

  it('ends when it is cancelled', async () => {
    const stop = new AbortController();
    const onItem = async () => stop.abort(new Error('stopped'));
    await expect(scanned([], { a: file, b: file }, { onItem, signal: stop.signal })).rejects.toThrow('stopped');
  });
});
