import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Change, compareChanges } from '../../src/filetree/entry.ts';
import { mergeChanges } from '../../src/publish/merge-changes.ts';

const anyName = fc.constantFrom('a', 'b', 'a.txt');
const anyPath = fc.array(anyName, { minLength: 1, maxLength: 3 }).map((names) => names.join('/'));

/** A put is told apart by its mode. */
const anyChange: fc.Arbitrary<Change> = fc.oneof(
  anyPath.map((path): Change => ({ path, op: 'remove' })),
  fc
    .record({ path: anyPath, mode: fc.nat(4095) })
    .map(({ path, mode }): Change => ({ path, op: 'put', entry: { type: 'link', target: '', mode } })),
  fc
    .record({ path: anyPath, mode: fc.nat(4095) })
    .map(({ path, mode }): Change => ({ path, op: 'put', entry: { type: 'folder', mode } })),
);

const anyBatch = fc
  .uniqueArray(anyChange, { maxLength: 12, comparator: (a, b) => compareChanges(a, b) === 0 })
  .map((changes) => changes.sort(compareChanges));

/** Applies changes to a map of what is where; folders on the way are not of interest here. */
function apply(model: Map<string, number | undefined>, changes: readonly Change[]): void {
  for (const change of changes) {
    if (change.op === 'remove') {
      for (const key of [...model.keys()]) {
        const path = key.slice(2);
        if (path === change.path || path.startsWith(`${change.path}/`)) model.delete(key);
      }
    } else model.set(`${change.entry.type === 'folder' ? 'd' : 'f'}:${change.path}`, change.entry.mode);
  }
}

async function* stream(changes: readonly Change[]): AsyncGenerator<Change> {
  yield* changes;
}

test('merged changes come to the same as the batches applied one after another, in order and without repeats', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(anyBatch, { maxLength: 5 }), anyBatch, async (batches, before) => {
      const merged = await Array.fromAsync(mergeChanges(batches.map(stream)));
      for (let i = 1; i < merged.length; i += 1) expect(compareChanges(merged[i - 1]!, merged[i]!)).toBeLessThan(0);
      const expected = new Map<string, number | undefined>();
      apply(expected, before);
      for (const batch of batches) apply(expected, batch);
      const actual = new Map<string, number | undefined>();
      apply(actual, before);
      apply(actual, merged);
      expect(new Map([...actual].sort())).toEqual(new Map([...expected].sort()));
    }),
    { numRuns: 500 },
  );
});

test('a stream that fails fails the merge, and the other streams are closed', async () => {
  let closed = false;
  async function* open(): AsyncGenerator<Change> {
    try {
      yield { path: 'a', op: 'remove' };
      yield { path: 'b', op: 'remove' };
    } finally {
      closed = true;
    }
  }
  async function* failing(): AsyncGenerator<Change> {
    yield { path: 'a', op: 'remove' };
    throw new Error('gone');
  }
  await expect(Array.fromAsync(mergeChanges([open(), failing()]))).rejects.toThrow('gone');
  expect(closed).toBe(true);
});
