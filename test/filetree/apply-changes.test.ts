import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { applyChanges } from '../../src/filetree/apply-changes.ts';
import { compareTrees } from '../../src/filetree/compare.ts';
import {
  type Change,
  compareChanges,
  type FolderEntry,
  type FolderTree,
  type TreeEntry,
} from '../../src/filetree/entry.ts';
import { createFiletreeStore, type FiletreeStore } from '../../src/filetree/filetree-store.ts';
import { leafBytes, noTotals, type PageRef } from '../../src/filetree/node.ts';
import { findEntry, walkTree } from '../../src/filetree/walk.ts';
import { keysFromMaster, plainKeys } from '../../src/sealing/keys.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { changeLists } from './arbitrary-trees.ts';
import { counting, fileOf, linesOf, put, remove, TreeModel } from './tree-model.ts';

/** So small that a folder of forty names has several levels of pages. */
const smallPages = { min: 150, mean: 500, max: 1500 };
/** Four files lie in the entry of their folder, twenty in pages of their own. */
const smallFolders = { min: 1000, mean: 1500, max: 4000 };
const keys = keysFromMaster(Buffer.alloc(32, 7));

async function openStore(options: Parameters<typeof createFiletreeStore>[2] = {}) {
  const memory = createMemoryBlobStore();
  await memory.createContainer();
  const { store, count } = counting(memory);
  return { data: memory, count, store: createFiletreeStore(store, keys, options) };
}

/** A folder has a node of its own exactly where its only leaf is not small. */
async function expectSmallFoldersInEntries(store: FiletreeStore, root: string): Promise<void> {
  for await (const { entry } of walkTree(store, root)) {
    if (entry.type !== 'folder') continue;
    const node = typeof entry.tree === 'string' ? await store.readNode(entry.tree) : entry.tree;
    const isSmall = node.type === 'leaf' && leafBytes(node) < store.pageLimits.min;
    expect(typeof entry.tree === 'string').toBe(!isSmall);
  }
}

/** The same tree with a node for every folder. */
async function withNodes(store: FiletreeStore, tree: FolderTree): Promise<string> {
  const node = typeof tree === 'string' ? await store.readNode(tree) : tree;
  if (node.type === 'branch') throw new Error('It is made for small folders.');
  const entries: TreeEntry[] = [];
  for (const entry of node.entries) {
    entries.push(entry.type === 'folder' ? { ...entry, tree: await withNodes(store, entry.tree) } : entry);
  }
  return await store.writeNode({ type: 'leaf', entries });
}

describe('applyChanges', () => {
  it('makes the tree that the changes describe, whatever came before, with the hash of a tree built at once', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(changeLists({ maxLength: 60 }), { minLength: 1, maxLength: 4 }),
        fc.constantFrom(smallPages, smallFolders, undefined),
        async (lists, pageLimits) => {
          const options = pageLimits ? { pageLimits } : {};
          const { store } = await openStore(options);
          const model = new TreeModel();
          let root: string | undefined;
          for (const list of lists) {
            const applied = await applyChanges(store, root, list);
            model.apply(list);
            root = applied.root;
            expect(await linesOf(store, root)).toEqual(model.lines());
            await expectSmallFoldersInEntries(store, root);
            expect(applied.totals).toEqual(model.totals());
          }
          const other = await openStore(options);
          expect((await applyChanges(other.store, undefined, model.changes())).root).toBe(root);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('cuts a folder of many pages the same way after a few changes as when it is built at once', async () => {
    const names = Array.from({ length: 240 }, (_, at) => `name ${String(at).padStart(3, '0')}`);
    const edit = fc.oneof(
      { weight: 3, arbitrary: fc.nat({ max: 239 }).map((at) => ({ from: at, to: at })) },
      {
        weight: 1,
        arbitrary: fc.tuple(fc.nat({ max: 239 }), fc.nat({ max: 239 })).map(([from, to]) => ({ from, to })),
      },
    );
    const edits = fc.record({ range: edit, text: fc.constantFrom(undefined, 'x', 'a longer text'.repeat(20)) });
    const small = fc.constantFrom(smallPages, { min: 300, mean: 300, max: 900 }, smallFolders);
    const prefixes = fc.constantFrom('', 'f/');
    await fc.assert(
      fc.asyncProperty(
        fc.array(edits, { minLength: 1, maxLength: 6 }),
        small,
        prefixes,
        async (steps, limits, prefix) => {
          const { store } = await openStore({ pageLimits: limits });
          const files = new Map(names.map((name) => [name, 'x']));
          const put_ = (name: string, text: string) => put(prefix + name, fileOf(text));
          const built = () => [...files].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, text]) => put_(name, text));
          let { root } = await applyChanges(store, undefined, built());
          for (const { range, text } of steps) {
            const touched = names.slice(range.from, range.to + 1);
            for (const name of touched) {
              if (text === undefined) files.delete(name);
              else files.set(name, text);
            }
            const list = touched.map((name) => (text === undefined ? remove(prefix + name) : put_(name, text)));
            ({ root } = await applyChanges(store, root, list));
            const lines = await linesOf(store, root);
            expect(lines.filter((line) => line.includes(' file '))).toHaveLength(files.size);
            await expectSmallFoldersInEntries(store, root);
            const other = await openStore({ pageLimits: limits });
            expect((await applyChanges(other.store, undefined, built())).root).toBe(root);
          }
        },
      ),
      { numRuns: 30 },
    );
  });

  it.each([
    ['at the top', '', smallPages],
    ['in another folder', 'f/', smallFolders],
  ])(
    'leaves no level of pages too many when only the end of a large folder is left: %s',
    async (_, prefix, pageLimits) => {
      const { store } = await openStore({ pageLimits });
      for (let size = 150; size < 200; size += 1) {
        const names = Array.from({ length: size }, (_, at) => `${prefix}name ${String(at).padStart(3, '0')}`);
        const all = names.map((name) => put(name, fileOf('x')));
        const { root } = await applyChanges(store, undefined, all);
        for (let left = 1; left < 8; left += 1) {
          const removals = all.slice(0, -left).map(({ path }) => remove(path));
          const { root: built } = await applyChanges(store, undefined, all.slice(-left));
          expect((await applyChanges(store, root, removals)).root).toBe(built);
        }
      }
    },
  );

  it('writes no nodes for small folders, and as many as their bytes need for many of them', async () => {
    const { store, count } = await openStore();
    const all: Change[] = [];
    for (let a = 10; a < 40; a += 1) {
      for (const below of ['x', 'x/y', 'z']) all.push(put(`${a}/${below}/file`, fileOf(`${a} ${below}`)));
      all.push(put(`${a}/z-empty`, { type: 'folder' }));
    }
    const { root } = await applyChanges(store, undefined, all.sort(compareChanges));
    expect(count.creates).toBeLessThanOrEqual(3);
    await applyChanges(store, root, [put('20/x/y/more', fileOf('more'))]);
    expect(count.creates).toBeLessThanOrEqual(5);
    await applyChanges(store, undefined, [put('a/b/c', fileOf('c'))]);
    expect(count.creates).toBeLessThanOrEqual(6);
  });

  it('takes a tree whose small folders have nodes of their own, and puts what it touches into its entries', async () => {
    const { store } = await openStore();
    const paths = ['a/1', 'a/b/2', 'a/c/3', 'd/4'];
    const { root: built } = await applyChanges(
      store,
      undefined,
      paths.map((path) => put(path, fileOf(path))),
    );
    const older = await withNodes(store, built);
    expect(older).not.toBe(built);
    expect(await linesOf(store, older)).toEqual(await linesOf(store, built));
    expect(await Array.fromAsync(compareTrees(store, older, built))).toEqual([]);
    expect(await findEntry(store, older, 'a/b/2')).toEqual(await findEntry(store, built, 'a/b/2'));
    const other = paths.map((path) => put(path, fileOf(`other ${path}`)));
    const { root } = await applyChanges(store, older, other);
    expect(root).toBe((await applyChanges(store, undefined, other)).root);
    expect((await applyChanges(store, older, [remove('a'), remove('d')])).totals).toEqual(noTotals);
  });

  it('writes a folder that can be read where a page that was left did not hold as much as was promised', async () => {
    const { store } = await openStore({ pageLimits: smallFolders });
    const link = (name: string): TreeEntry => ({ name, type: 'link', target: 't' });
    const pages: PageRef[] = [];
    for (const name of ['a', 'b']) {
      const hash = await store.writeNode({ type: 'leaf', entries: [link(name)] });
      pages.push({ last: name, hash, files: name === 'a' ? 1 : 7, folders: 0, bytes: 0 });
    }
    const tree = await store.writeNode({ type: 'branch', level: 1, pages });
    const damaged: FolderEntry = { name: 'f', type: 'folder', files: 8, folders: 0, bytes: 0, tree };
    const root = await store.writeNode({ type: 'leaf', entries: [damaged, link('g')] });
    const after = await applyChanges(store, root, [remove('f/a')]);
    expect(await linesOf(store, after.root)).toHaveLength(3);
    expect(after.totals.files).toBe(2);
  });

  it('writes and changes nothing when the changes say what the tree holds already', async () => {
    await fc.assert(
      fc.asyncProperty(changeLists({ maxLength: 60 }), async (list) => {
        const { data, store } = await openStore({ pageLimits: smallPages });
        const { root } = await applyChanges(store, undefined, list);
        const model = new TreeModel();
        model.apply(list);
        const { store: counted, count } = counting(data);
        const fresh = createFiletreeStore(counted, keys, { pageLimits: smallPages });
        const again = await applyChanges(fresh, root, model.changes());
        expect(again).toMatchObject({ root, added: 0, changed: 0, removed: 0 });
        expect(count.creates).toBe(0);
        expect((await applyChanges(fresh, root, [])).root).toBe(root);
        expect(count.creates).toBe(0);
      }),
      { numRuns: 50 },
    );
  });

  it('gives the empty leaf for no tree and no changes, and stores it', async () => {
    const { store } = await openStore();
    const { root, totals } = await applyChanges(store, undefined, []);
    expect(await store.readNode(root)).toEqual({ type: 'leaf', entries: [] });
    expect(totals).toEqual({ files: 0, folders: 0, bytes: 0 });
  });

  it('reads a few pages for one change in a folder of 20,000 files, and writes only those on the way', async () => {
    const { data, store } = await openStore();
    const names = Array.from({ length: 20_000 }, (_, at) => `file-${String(at * 7919).padStart(9, '0')}.jpeg`);
    const all = names.map((name) => put(`photos/2024/${name}`, fileOf(name)));
    const { root } = await applyChanges(store, undefined, all);
    const path = `photos/2024/${names[9_999]}`;
    for (const changes of [
      [put(path, fileOf('other'))],
      [put(`${path}-more`, fileOf('new'))],
      [remove(path)],
      [remove(`photos/2024/${names[0]}`)],
      [put('photos/2024/zzz', fileOf('last'))],
    ]) {
      const { store: counted, count } = counting(data);
      const { root: next } = await applyChanges(createFiletreeStore(counted, keys), root, changes);
      expect(next).not.toBe(root);
      expect(count.reads).toBeLessThanOrEqual(8);
      expect(count.creates).toBeLessThanOrEqual(7);
    }
    const found = counting(data);
    expect(await findEntry(createFiletreeStore(found.store, keys), root, path)).toMatchObject({
      file: { type: 'file' },
    });
    expect(found.count.reads).toBe(3);
  });

  it('reads only the folders on the way to a change in a tree of 20,000 files', async () => {
    const { data, store } = await openStore();
    const all: Change[] = [];
    for (let a = 0; a < 20; a += 1) {
      for (let b = 0; b < 10; b += 1) {
        for (let c = 0; c < 100; c += 1) {
          const name = `${10 + a}/${10 + b}/${100 + c}`;
          all.push(put(name, fileOf(name)));
        }
      }
    }
    const { root, totals } = await applyChanges(store, undefined, all);
    expect(totals).toMatchObject({ files: 20_000, folders: 220 });
    const { store: counted, count } = counting(data);
    const applied = await applyChanges(createFiletreeStore(counted, keys), root, [put('15/15/150', fileOf('other'))]);
    expect(applied).toMatchObject({ added: 0, changed: 1, removed: 0, totals: { files: 20_000, folders: 220 } });
    expect(count.reads).toBeLessThanOrEqual(5);
    expect(count.creates).toBeLessThanOrEqual(5);
  });

  it('counts files and links that were added, changed and removed', async () => {
    const { store } = await openStore();
    const first = await applyChanges(store, undefined, [
      put('a', fileOf('1')),
      put('b/c', fileOf('2')),
      put('b/d', fileOf('3')),
      put('b/l', { type: 'link', target: 'c' }),
      put('e', fileOf('4')),
    ]);
    expect(first).toMatchObject({ added: 5, changed: 0, removed: 0, totals: { files: 5, folders: 1, bytes: 4 } });
    const second = await applyChanges(store, first.root, [
      put('a', fileOf('1', { mode: 0o600 })),
      remove('b'),
      put('b', fileOf('5')),
      put('e', fileOf('4')),
      remove('unknown'),
    ]);
    expect(second).toMatchObject({ added: 1, changed: 1, removed: 3, totals: { files: 3, folders: 0, bytes: 3 } });
  });

  it('keeps a folder and a file of one name side by side', async () => {
    const { store } = await openStore();
    const { root } = await applyChanges(store, undefined, [put('a', fileOf('1')), put('a/b', fileOf('2'))]);
    expect(await findEntry(store, root, 'a')).toMatchObject({ folder: { files: 1 }, file: { bytes: 1 } });
    const { root: without } = await applyChanges(store, root, [remove('a/b')]);
    expect(await findEntry(store, without, 'a')).toEqual({ file: expect.objectContaining({ type: 'file' }) });
  });

  it('keeps an empty folder that was put, and drops an implied one with the last file in it', async () => {
    const { store } = await openStore();
    const { root } = await applyChanges(store, undefined, [
      put('bare', { type: 'folder' }),
      put('implied/deep/file', fileOf('1')),
      put('kept', { type: 'folder', mode: 0o755 }),
      put('kept/file', fileOf('2')),
    ]);
    const after = await applyChanges(store, root, [
      remove('bare/unknown'),
      remove('implied/deep/file'),
      remove('kept/file'),
    ]);
    expect(await linesOf(store, after.root)).toEqual(['bare folder - -', 'kept folder - 493']);
  });

  it('refuses changes that are out of order or given twice, and paths that cannot be archived', async () => {
    const { store } = await openStore();
    const a = put('a', fileOf('1'));
    for (const list of [
      [put('b', fileOf('2')), a],
      [a, a],
      [a, remove('a')],
      [put('a/b', fileOf('2')), a],
    ]) {
      await expect(applyChanges(store, undefined, list)).rejects.toMatchObject({ code: 'FIRN_INTERNAL' });
    }
    for (const path of ['', '/a', 'a//b', '../a', 'a/.', 'a\0b']) {
      await expect(applyChanges(store, undefined, [remove(path)])).rejects.toMatchObject({
        code: 'FIRN_PATH_UNUSABLE',
      });
    }
    const badTime = put('a', fileOf('1', { mtime: 'yesterday' }));
    await expect(applyChanges(store, undefined, [badTime])).rejects.toMatchObject({ code: 'FIRN_INTERNAL' });
  });

  it('fails when a node cannot be written, and writes it at the next try', async () => {
    const memory = createMemoryBlobStore();
    await memory.createContainer();
    let failing = true;
    const flaky: typeof memory = {
      ...memory,
      create: async (name, body, options) => {
        if (failing) throw new Error('no');
        return await memory.create(name, body, options);
      },
    };
    const store = createFiletreeStore(flaky, plainKeys);
    const list = [put('a', fileOf('1')), put('b/c', fileOf('2'))];
    await expect(applyChanges(store, undefined, list)).rejects.toThrow('no');
    failing = false;
    const { root } = await applyChanges(store, undefined, list);
    expect(await linesOf(createFiletreeStore(memory, plainKeys), root)).toHaveLength(3);
  });

  it('stops when it is cancelled, and returns the list of changes', async () => {
    const { store } = await openStore();
    const controller = new AbortController();
    let returned = false;
    async function* endless(): AsyncGenerator<Change> {
      try {
        for (let at = 100_000; ; at += 1) {
          if (at === 100_100) controller.abort();
          yield put(String(at), fileOf('1'));
        }
      } finally {
        returned = true;
      }
    }
    const { signal } = controller;
    await expect(applyChanges(store, undefined, endless(), { signal })).rejects.toMatchObject({ name: 'AbortError' });
    expect(returned).toBe(true);
  });
});

describe('applyChanges on a storage that takes its time', () => {
  it('puts a folder with content though nothing that it writes is there yet when it goes on', async () => {
    for (const below of ['d/a', 'd/e/f']) {
      const memory = createMemoryBlobStore();
      const create = memory.create.bind(memory);
      const slow = Object.assign(Object.create(memory) as typeof memory, {
        create: async (...args: Parameters<typeof create>) => {
          for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
          return await create(...args);
        },
      });
      const changes: Change[] = [
        { path: 'd', op: 'put', entry: { type: 'folder', mode: 0o755 } },
        { path: below, op: 'put', entry: { type: 'link', target: 't' } },
      ];
      const { root, totals } = await applyChanges(createFiletreeStore(slow, plainKeys), undefined, changes);
      expect(totals.files).toBe(1);
      const fresh = createFiletreeStore(memory, plainKeys);
      expect((await findEntry(fresh, root, 'd')).folder).toMatchObject({ files: 1, mode: 0o755 });
    }
  });

  it('waits for a node that this process is writing before it reads it', async () => {
    const memory = createMemoryBlobStore();
    const create = memory.create.bind(memory);
    let release: () => void = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const slow = Object.assign(Object.create(memory) as typeof memory, {
      create: async (...args: Parameters<typeof create>) => {
        await held;
        return await create(...args);
      },
    });
    const store = createFiletreeStore(slow, plainKeys, { nodeCacheBytesMax: 0 });
    const { hash, durable } = store.startWrite({ type: 'leaf', entries: [] });
    const reading = store.readNode(hash);
    release();
    expect(await reading).toEqual({ type: 'leaf', entries: [] });
    await durable;
  });
});
