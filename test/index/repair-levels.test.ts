/** What repair makes of roots that split, of shards at several levels, and of those that nobody can read. */
import { describe, expect, test } from 'vitest';
import { type ChunkLocation, LocationTable } from '../../src/chunks/location.ts';
import { findRepairMarker } from '../../src/index/marker.ts';
import { repairIndex } from '../../src/index/repair.ts';
import { findDrift } from '../../src/index/repair-check.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import { hashOf } from '../kit/arbitraries.ts';
import { damage } from '../kit/damage.ts';
import { hooked, keys, missingFrom, shardNames } from './index-kit.ts';
import { chunksOf, createStorage, layoutOf, putPacked, putShard, putTar } from './repairing.ts';

const tar = hashOf('tar');
const chunksIn = (prefix: string, count: number, name = '') => chunksOf(tar, prefix, count, name);

/** Storage whose tar chunk holds these. */
async function storageOf(locations: readonly ChunkLocation[]) {
  const storage = createStorage();
  await putTar(storage.data.store, tar);
  await putPacked(storage.data, tar, locations);
  return storage;
}

function byHash(locations: readonly ChunkLocation[]): ChunkLocation[] {
  return [...locations].sort((a, b) => (a.hash < b.hash ? -1 : 1));
}

describe('repair of a root with more entries than a shard takes', () => {
  const crowd = [...chunksIn('a', 30), ...chunksIn('a3', 40), ...chunksIn('a3c', 4_400)];
  const hashes = crowd.map(({ hash }) => hash);
  const layout = layoutOf(hashes);
  const crowdIn = (prefix: string) => crowd.filter(({ hash }) => hash.startsWith(prefix));

  test('cuts it recursively and unevenly, and a fresh process finds everything in exactly these shards', async () => {
    // The case is what it says: three levels, of which only one branch goes down to the last.
    expect([...new Set(layout.map((prefix) => prefix.length))].sort()).toEqual([2, 3, 4]);
    expect(layout.filter((prefix) => prefix.length === 4)).toHaveLength(16);
    const { state, repair, fresh } = await storageOf(crowd);
    expect(await repair()).toMatchObject({
      entries: crowd.length,
      shardsWritten: layout.length,
      shardsRemoved: 0,
      finished: true,
    });
    expect(await shardNames(state.store)).toEqual(layout);
    expect(await missingFrom(fresh(), crowd)).toEqual([]);
    expect(await Array.fromAsync(fresh().locations())).toEqual(byHash(crowd));
    expect(await repair()).toMatchObject({ shardsWritten: 0, shardsRemoved: 0 });
  });

  test('brings stale shards at every level together: the right ones stay as they are, all others go', async () => {
    const { state, repair, fresh } = await storageOf(crowd);
    const ghosts = (prefix: string) => chunksIn(prefix, 3, 'ghost').map((at) => ({ ...at, blob: hashOf('no tar') }));
    const kept = layout.find((prefix) => prefix.length === 2 && crowdIn(prefix).length > 0) ?? '';
    const stale: Record<string, ChunkLocation[]> = {
      a: [...crowd.slice(0, 500), ...ghosts('a')],
      a3: [...crowdIn('a3').slice(0, 600), ...ghosts('a3')],
      a3c: crowdIn('a3c').slice(300),
      a3c0: [...crowdIn('a3c0').slice(1), ...ghosts('a3c0')],
      a3c1: crowdIn('a3c1'),
      a3c2f: crowdIn('a3c2f'),
      [kept]: crowdIn(kept),
    };
    for (const [prefix, locations] of Object.entries(stale)) await putShard(state, prefix, locations);
    await damage(state.store, 'chunk-index/a3c1');
    const before = (await state.store.properties(`chunk-index/${kept}`)).etag;
    expect(await repair()).toMatchObject({
      entries: crowd.length,
      // All but the one that was right; a, a3, a3c and a3c2f are no shards any more.
      shardsWritten: layout.length - 1,
      shardsRemoved: 4,
    });
    expect(await shardNames(state.store)).toEqual(layout);
    expect((await state.store.properties(`chunk-index/${kept}`)).etag).toBe(before);
    expect(await missingFrom(fresh(), crowd)).toEqual([]);
    expect(await Array.fromAsync(fresh().locations())).toEqual(byHash(crowd));
  });

  test('brings together what was split and has become small', async () => {
    const few = chunksIn('a', 20);
    const { state, repair, fresh } = await storageOf(few);
    for (const [prefix, locations] of Map.groupBy(few, ({ hash }) => hash.slice(0, 2))) {
      await putShard(state, prefix, locations);
    }
    const children = await shardNames(state.store);
    expect(children.length).toBeGreaterThan(8);
    expect(await repair()).toMatchObject({ entries: 20, shardsWritten: 1, shardsRemoved: children.length });
    expect(await shardNames(state.store)).toEqual(['a']);
    expect(await missingFrom(fresh(), few)).toEqual([]);
  });

  test('splits at 2,049 entries, not at 2,048', async () => {
    const { state, repair } = await storageOf(crowdIn('a3c').slice(0, 2_048));
    await repair();
    expect(await shardNames(state.store)).toEqual(['a']);
    const more = await storageOf(crowdIn('a3c').slice(0, 2_049));
    await more.repair();
    expect(await shardNames(more.state.store)).toHaveLength(16);
  });
});

describe('where two levels overlap', () => {
  test('a chunk that no pointer tells of has the place that lookups found, is counted once, and a false one goes', async () => {
    const [proved, forgotten, false_] = chunksIn('a', 3);
    const { data, state, repair, fresh } = await storageOf([proved!]);
    const second = hashOf('second tar');
    await putTar(data.store, second);
    const other = { ...forgotten!, blob: second };
    const gone = { ...false_!, blob: hashOf('no tar') };
    await putShard(state, 'a', [{ ...proved!, blob: second }, forgotten!, gone]);
    await putShard(state, forgotten!.hash.slice(0, 2), [other]);
    await putShard(state, false_!.hash.slice(0, 3), [false_!]);
    expect((await fresh().lookup([forgotten!.hash])).get(forgotten!.hash)?.location).toEqual(forgotten);
    expect(await repair()).toMatchObject({ entries: 3, quarantinedCount: 0 });
    expect(await shardNames(state.store)).toEqual(['a']);
    expect(await Array.fromAsync(fresh().locations())).toEqual(byHash([proved!, forgotten!, false_!]));
  });

  test('entries in a shard of another prefix, where no lookup finds them, are not taken from there', async () => {
    const [one, two, three] = [...chunksIn('a3', 1), ...chunksIn('c', 1), ...chunksIn('a7', 1)];
    const { data, state, repair, fresh } = await storageOf([one!]);
    await data.store.delete(`thin/${tar}`);
    // All are true, and told of by nothing else.
    await putShard(state, 'a3', [one!, two!, three!]);
    await putShard(state, '7', [two!]);
    expect(await repair()).toMatchObject({ entries: 1, shardsWritten: 1, shardsRemoved: 2 });
    expect(await Array.fromAsync(fresh().locations())).toEqual([one]);
    expect(await shardNames(state.store)).toEqual(['a']);
  });
});

test('what another writer adds to a shard while it is written anew stays, and no stale shard goes before its entries are elsewhere', async () => {
  const [proved, forgotten, ...added] = chunksIn('a', 5) as [ChunkLocation, ChunkLocation, ...ChunkLocation[]];
  const { data, state, fresh } = await storageOf([proved]);
  const ghost = { ...proved, hash: hashOf('ghost').replace(/^./, 'a'), blob: hashOf('no tar') };
  await putShard(state, 'a', [proved, ghost]);
  await putShard(state, forgotten.hash.slice(0, 2), [forgotten]);
  const left = [...added];
  const racing = hooked(state.store, {
    after: async (call, name) => {
      expect(await missingFrom(fresh(), [proved, forgotten])).toEqual([]);
      const next = call === 'read' && name === 'chunk-index/a' ? left.shift() : undefined;
      if (next === undefined) return;
      const { body, etag } = await state.get('shard', name);
      const table = LocationTable.of([...LocationTable.from(name, body).locations(), next]);
      await state.replace('shard', name, table.bytes, { ifMatch: etag });
    },
  });
  const parts = { data, state: new SealedBlobs(racing, keys) };
  // Each round reads what was added in the one before.
  expect(await repairIndex(parts, { owner: 'test' })).toMatchObject({ entries: 5, shardsWritten: 1, shardsRemoved: 1 });
  expect(left).toEqual([]);
  expect(await Array.fromAsync(fresh().locations())).toEqual(byHash([proved, forgotten, ...added]));
  expect(await shardNames(state.store)).toEqual(['a']);
});

test('a shard in the Archive tier refuses lookups with its code, is drift, and is removed and written anew', async () => {
  const chunks = chunksIn('a', 5);
  const { data, state, repair, fresh } = await storageOf(chunks);
  await repair();
  const name = 'chunk-index/a';
  const { body, properties } = await state.store.read(name);
  await state.store.replace(name, body, { ifMatch: properties.etag, tier: 'Archive' });
  await expect(fresh().lookup([chunks[0]!.hash])).rejects.toMatchObject({
    code: 'FIRN_BLOB_OFFLINE',
    advice: expect.stringContaining('firn repair-index'),
  });
  expect(await findDrift({ data, state }, ['a', 'b'])).toMatchObject([{ root: 'a' }]);
  // The service does not let such a blob be written over.
  const strict = hooked(state.store, {
    before: (call) => {
      if (call === 'replace') throw new Error('it was written over');
    },
  });
  const report = await repairIndex({ data, state: new SealedBlobs(strict, keys) }, { owner: 'test', roots: ['a'] });
  expect(report).toMatchObject({ entries: 5, shardsWritten: 1, shardsRemoved: 1, finished: true });
  expect(await missingFrom(fresh(), chunks)).toEqual([]);
  expect(await findRepairMarker(state.store)).toBeUndefined();
});

test('a root that others change without an end stops it with its code; the marker stays, and the next repair ends', async () => {
  const chunks = chunksIn('a', 3);
  const { data, state, repair, fresh } = await storageOf(chunks);
  let changes = 0;
  const busy = hooked(state.store, {
    before: async (call, name) => {
      if (call !== 'replace' || name !== 'chunk-index/a') return;
      changes += 1;
      const { etag } = await state.store.properties(name);
      await state.replace('shard', name, LocationTable.of(chunksIn('a', 1, `ghost ${changes}`)).bytes, {
        ifMatch: etag,
      });
    },
  });
  await putShard(
    state,
    'a',
    chunksIn('a', 1, 'ghost').map((at) => ({ ...at, blob: hashOf('no tar') })),
  );
  await expect(
    repairIndex({ data, state: new SealedBlobs(busy, keys) }, { owner: 'test', roots: ['a'] }),
  ).rejects.toMatchObject({ code: 'FIRN_INDEX_CONTENDED', retryable: true, details: { shard: 'a', tries: 100 } });
  expect(changes).toBe(100);
  expect(await findRepairMarker(state.store)).toMatchObject({ roots: ['a'] });
  expect(await repair()).toMatchObject({ finished: true });
  expect(await missingFrom(fresh(), chunks)).toEqual([]);
});
