import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { applyChanges } from '../../src/filetree/apply-changes.ts';
import { comparePaths, PATH_DEPTH_MAX, pathProblem } from '../../src/filetree/entry.ts';
import { createFiletreeStore, type FiletreeStore } from '../../src/filetree/filetree-store.ts';
import { findEntry, listFolder, walkTree } from '../../src/filetree/walk.ts';
import { plainKeys } from '../../src/sealing/keys.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { watchReads } from '../kit/watched-reads.ts';
import { changeLists } from './arbitrary-trees.ts';
import { counting, fileOf, lineOf, linesOf, put, TreeModel } from './tree-model.ts';

const smallPages = { min: 150, mean: 500, max: 1500 };

async function openStore() {
  const data = createMemoryBlobStore();
  await data.createContainer();
  return { data, store: createFiletreeStore(data, plainKeys, { pageLimits: smallPages }) };
}

async function build(store: FiletreeStore, paths: readonly string[]): Promise<string> {
  const sorted = paths.toSorted(comparePaths);
  return (
    await applyChanges(
      store,
      undefined,
      sorted.map((path) => put(path, fileOf(path))),
    )
  ).root;
}

describe('walkTree, findEntry and listFolder', () => {
  it('agree with the model for every path', async () => {
    await fc.assert(
      fc.asyncProperty(changeLists({ maxLength: 60 }), async (list) => {
        const { store } = await openStore();
        const model = new TreeModel();
        model.apply(list);
        const { root } = await applyChanges(store, undefined, list);
        for (const path of [...model.folders.keys(), ...model.files.keys(), 'unknown', 'a/unknown', 'a/b/unknown/b']) {
          const below = (each: string) => each === path || each.startsWith(`${path}/`);
          const expected = model.lines().filter((_, at) => below(model.changes()[at]?.path ?? ''));
          expect(await linesOf(store, root, path)).toEqual(expected);
          const { folder, file } = await findEntry(store, root, path);
          expect(folder !== undefined).toBe(model.folders.has(path));
          expect(file !== undefined).toBe(model.files.has(path));
        }
        for (const path of ['', ...model.folders.keys()]) {
          const tree = path === '' ? root : ((await findEntry(store, root, path)).folder?.tree ?? '');
          const prefix = path === '' ? '' : `${path}/`;
          const listed = await Array.fromAsync(listFolder(store, tree), (e) => lineOf(prefix + e.name, e));
          const isDirect = (each: string) => each.startsWith(prefix) && !each.slice(prefix.length).includes('/');
          expect(listed).toEqual(model.lines().filter((_, at) => isDirect(model.changes()[at]?.path ?? '')));
        }
      }),
      { numRuns: 40 },
    );
  });

  it('reads each node once, though it reads ahead', async () => {
    const { data, store } = await openStore();
    const paths = Array.from({ length: 400 }, (_, at) => `${at % 7}/${at % 40}/${at}`);
    const root = await build(store, paths);
    const nodes = (await Array.fromAsync(data.list({ prefix: 'filetrees/' }))).length;
    const { store: counted, count } = counting(data);
    const walked = await linesOf(createFiletreeStore(counted, plainKeys, { pageLimits: smallPages }), root);
    expect(walked.filter((line) => line.includes(' file '))).toHaveLength(400);
    expect(count.reads).toBeLessThanOrEqual(nodes);
  });

  it('walkTree reads ahead the large folders that lie in small ones', async () => {
    const { data } = await openStore();
    const pageLimits = { min: 1000, mean: 1500, max: 4000 };
    const wide = createFiletreeStore(data, plainKeys, { pageLimits });
    const paths = Array.from({ length: 60 }, (_, at) => `${10 + Math.floor(at / 6)}/large/${at % 6}`);
    const root = await build(wide, paths);
    expect((await findEntry(wide, root, '10')).folder?.tree).toBeTypeOf('object');
    expect((await findEntry(wide, root, '10/large')).folder?.tree).toBeTypeOf('string');
    const reads = watchReads(data);
    const fresh = createFiletreeStore(reads.store, plainKeys, { pageLimits });
    expect(await Array.fromAsync(walkTree(fresh, root))).toHaveLength(80);
    expect(reads.atOnceMax()).toBeGreaterThan(4);
  });

  it('goes on behind a damaged node when it is told to, and says which folder and blob', async () => {
    const { data, store } = await openStore();
    const root = await build(store, ['a/1', 'b/c/2', 'b/3', 'd/4']);
    const { folder } = await findEntry(store, root, 'b/c');
    const blob = `filetrees/${folder?.tree}`;
    const { body } = await data.read(blob);
    await data.delete(blob);
    await data.create(blob, body.subarray(1));
    const fresh = () => createFiletreeStore(data, plainKeys, { pageLimits: smallPages });
    await expect(linesOf(fresh(), root)).rejects.toMatchObject({ code: 'FIRN_SEAL_BROKEN', details: { blob } });

    const damaged: unknown[] = [];
    const paths: string[] = [];
    const onDamaged = (path: string, error: Error) => damaged.push({ path, error });
    for await (const { path } of walkTree(fresh(), root, { onDamaged })) paths.push(path);
    expect(paths).toEqual(['a', 'a/1', 'b', 'b/3', 'b/c', 'd', 'd/4']);
    expect(damaged).toEqual([
      { path: 'b/c', error: expect.objectContaining({ details: expect.objectContaining({ blob }) }) },
    ]);
  });

  it('loses only the entries of a damaged page of a large folder', async () => {
    const { data, store } = await openStore();
    const paths = Array.from({ length: 200 }, (_, at) => `f/${1000 + at}`);
    const root = await build(store, paths);
    const { folder } = await findEntry(store, root, 'f');
    let page = await store.readNode(String(folder?.tree));
    let hash = '';
    while (page.type === 'branch') {
      hash = page.pages[1]?.hash ?? '';
      page = await store.readNode(hash);
    }
    await data.delete(`filetrees/${hash}`);
    const lost = new Set(page.entries.map(({ name }) => `f/${name}`));
    const fresh = createFiletreeStore(data, plainKeys, { pageLimits: smallPages });
    const damaged: string[] = [];
    const walked = await Array.fromAsync(
      walkTree(fresh, root, { onDamaged: (path, { code }) => damaged.push(`${path} ${code}`) }),
      ({ path }) => path,
    );
    expect(damaged).toEqual(['f FIRN_BLOB_MISSING']);
    expect(walked).toEqual(['f', ...paths.filter((path) => !lost.has(path))]);
    expect(lost.size).toBeGreaterThan(0);
  });

  it('refuses a tree whose pages are not what their folder promises', async () => {
    const { store } = await openStore();
    const leaf = { type: 'leaf', entries: [{ name: 'm', type: 'link', target: 't' }] } as const;
    const page = { last: 'm', hash: await store.writeNode(leaf), files: 1, folders: 0, bytes: 0 };
    const other = {
      last: 'z',
      hash: await store.writeNode({
        type: 'leaf',
        entries: [
          { ...leaf.entries[0], name: 'a' },
          { ...leaf.entries[0], name: 'z' },
        ],
      }),
      files: 2,
      folders: 0,
      bytes: 0,
    };
    for (const branch of [
      { type: 'branch', level: 2, pages: [page] },
      { type: 'branch', level: 1, pages: [{ ...page, last: 'n' }] },
      { type: 'branch', level: 1, pages: [{ ...page, files: 2 }] },
      { type: 'branch', level: 1, pages: [page, other] },
    ] as const) {
      await expect(linesOf(store, await store.writeNode(branch))).rejects.toMatchObject({ code: 'FIRN_BLOB_DAMAGED' });
    }
    const good = await store.writeNode({ type: 'branch', level: 1, pages: [page] });
    expect(await linesOf(store, good)).toHaveLength(1);
  });
});

it('a folder as deep as any may be is walked, empty or not', async () => {
  const deepest = Array.from({ length: PATH_DEPTH_MAX }, () => 'f').join('/');
  expect(pathProblem(deepest)).toBe(undefined);
  const store = createFiletreeStore(createMemoryBlobStore(), plainKeys);
  const { root } = await applyChanges(store, undefined, [{ path: deepest, op: 'put', entry: { type: 'folder' } }]);
  const walked = await Array.fromAsync(walkTree(store, root));
  expect(walked.at(-1)?.path).toBe(deepest);
});
