import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { applyChanges } from '../../src/filetree/apply-changes.ts';
import { compareTrees } from '../../src/filetree/compare.ts';
import { comparePaths } from '../../src/filetree/entry.ts';
import { createFiletreeStore } from '../../src/filetree/filetree-store.ts';
import { plainKeys } from '../../src/sealing/keys.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { changeLists } from './arbitrary-trees.ts';
import { counting, fileOf, put, remove, TreeModel } from './tree-model.ts';

const smallPages = { min: 150, mean: 500, max: 1500 };
const smallFolders = { min: 1000, mean: 1500, max: 4000 };

function differences(before: TreeModel, after: TreeModel): string[] {
  const lines: { path: string; rank: number; line: string }[] = [];
  for (const rank of [0, 1]) {
    const left: ReadonlyMap<string, object> = rank === 0 ? before.folders : before.files;
    const right: ReadonlyMap<string, object> = rank === 0 ? after.folders : after.files;
    for (const path of new Set([...left.keys(), ...right.keys()])) {
      const change = changeOf(left.get(path), right.get(path));
      if (change !== undefined) lines.push({ path, rank, line: `${change} ${rank} ${path}` });
    }
  }
  return lines.sort((a, b) => comparePaths(a.path, b.path) || a.rank - b.rank).map(({ line }) => line);
}

function changeOf(before: object | undefined, after: object | undefined): string | undefined {
  if (before === undefined) return 'added';
  if (after === undefined) return 'removed';
  const content = (entry: object) => JSON.stringify({ ...entry, mtime: undefined, mode: undefined });
  const attributes = ({ mtime, mode }: { mtime?: string; mode?: number }) => JSON.stringify({ mtime, mode });
  if (content(before) !== content(after)) return 'modified';
  return attributes(before) === attributes(after) ? undefined : 'attributes';
}

describe('compareTrees', () => {
  it('tells exactly what differs, in the order of the paths', async () => {
    await fc.assert(
      fc.asyncProperty(
        changeLists({ maxLength: 80 }),
        changeLists({ maxLength: 30 }),
        fc.boolean(),
        fc.constantFrom(smallPages, smallFolders),
        async (first, second, related, pageLimits) => {
          const data = createMemoryBlobStore();
          await data.createContainer();
          const store = createFiletreeStore(data, plainKeys, { pageLimits });
          const before = new TreeModel();
          before.apply(first);
          const after = related ? before.clone() : new TreeModel();
          after.apply(second);
          const { root: left } = await applyChanges(store, undefined, before.changes());
          const { root: right } = await applyChanges(store, undefined, after.changes());
          const told = await Array.fromAsync(compareTrees(store, left, right), ({ path, change, ...entries }) => {
            expect(entries.before === undefined).toBe(change === 'added');
            expect(entries.after === undefined).toBe(change === 'removed');
            const { type } = entries.after ?? entries.before ?? { type: undefined };
            return `${change} ${type === 'folder' ? 0 : 1} ${path}`;
          });
          expect(told).toEqual(differences(before, after));
        },
      ),
      { numRuns: 150 },
    );
  });

  it('reads only the pages and folders that differ', async () => {
    const data = createMemoryBlobStore();
    await data.createContainer();
    const store = createFiletreeStore(data, plainKeys);
    const all = [];
    for (let a = 10; a < 20; a += 1) {
      for (let b = 0; b < 2000; b += 1) all.push(put(`${a}/${10_000 + b}`, fileOf(`${a} ${b}`)));
    }
    const { root } = await applyChanges(store, undefined, all);
    const { root: next } = await applyChanges(store, root, [
      put('15/11000', fileOf('other')),
      put('15/11001-new', fileOf('new')),
      remove('15/11003'),
    ]);
    const { store: counted, count } = counting(data);
    const fresh = createFiletreeStore(counted, plainKeys);
    const told = await Array.fromAsync(compareTrees(fresh, root, next), ({ change, path }) => `${change} ${path}`);
    expect(told).toEqual(['modified 15/11000', 'added 15/11001-new', 'removed 15/11003']);
    expect(count.reads).toBeLessThanOrEqual(10);
    count.reads = 0;
    expect(await Array.fromAsync(compareTrees(fresh, root, root))).toEqual([]);
    expect(count.reads).toBe(0);
  });
});
