/** What the check finds of an index, and what it spends on it. Which roots the scheduled run takes: `repair-run.test.ts`. */
import { describe, expect, test } from 'vitest';
import { chunkBlobName, tarMetadata, thinBlobName } from '../../src/chunks/chunk-blobs.ts';
import { type ChunkLocation, LocationTable } from '../../src/chunks/location.ts';
import { findDrift, holdsIn } from '../../src/index/repair-check.ts';
import { allRoots, hexDigits, rootOf } from '../../src/index/root-view.ts';
import { plainKeys } from '../../src/sealing/keys.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { hashOf } from '../kit/arbitraries.ts';
import { interrupted, keys, locationsIn, watched } from './index-kit.ts';
import { makeRuin, repairRuin, ruinedRoots } from './repair-ruin.ts';
import {
  chunksOf,
  createStorage,
  placeIn,
  putLarge,
  putLegacyPointer,
  putPacked,
  putPointer,
  putShard,
  putTar,
  TAR_BYTES,
} from './repairing.ts';

const tar = hashOf('tar');
/** Whatever is stored now has settled by then. */
const later = { now: () => new Date(Date.now() + 2 * 24 * 60 * 60 * 1000) };

type Storage = ReturnType<typeof createStorage>;

async function rootsOf({ data, state }: Storage, options = later): Promise<string[]> {
  return (await findDrift({ data, state }, allRoots, options)).map(({ root }) => root);
}

test('whether a chunk is in the shards is asked of those on its path alone', () => {
  const chunks = hexDigits.flatMap((digit) => locationsIn(`a${digit}`, 2, digit));
  let looks = 0;
  const shardOf = (prefix: string, table = LocationTable.of(chunks).under(prefix)) => ({
    table,
    get prefix() {
      looks += 1;
      return prefix;
    },
  });
  // As an interrupted split leaves them: what is above, and below.
  const above = LocationTable.of(locationsIn('a', 3, 'above'));
  const holds = holdsIn([shardOf('a', above), ...hexDigits.map((digit) => shardOf(`a${digit}`))]);
  looks = 0;
  const asked = [...chunks, ...above.locations(), ...locationsIn('a', 50, 'absent')].map(({ hash }) => hash);
  expect(asked.filter(holds)).toEqual(asked.slice(0, -50));
  expect(looks).toBe(0);
});

describe('the check', () => {
  test('finds every ruined root, and nothing in what a repair left, whatever that set aside', async () => {
    const ruin = await makeRuin();
    const parts = { data: new SealedBlobs(ruin.data, plainKeys), state: new SealedBlobs(ruin.state, plainKeys) };
    expect((await findDrift(parts, allRoots, later)).map(({ root }) => root)).toEqual([...ruinedRoots]);
    expect(await repairRuin(ruin)).toMatchObject({ quarantinedCount: 5 });
    expect(await findDrift(parts, allRoots, later)).toEqual([]);
  });

  const kinds: [string, (storage: Storage, chunk: ChunkLocation) => Promise<unknown>][] = [
    ['a large chunk', async ({ data }, { hash }) => await putLarge(data.store, hash)],
    ['a pointer of its own', async ({ data }, chunk) => await putPointer(data.store, chunk)],
    ['a legacy pointer', async ({ data }, chunk) => await putLegacyPointer(data.store, chunk)],
    ['packed pointers', async ({ data }, chunk) => await putPacked(data, tar, [chunk])],
  ];

  test.each(kinds)(
    'names the root of a chunk that %s tells of, once it has settled and is in no shard',
    async (_, put) => {
      const storage = createStorage();
      await putTar(storage.data.store, tar);
      const [chunk] = chunksOf(tar, 'a', 1) as [ChunkLocation];
      await put(storage, chunk);
      expect(await rootsOf(storage, { now: () => new Date() })).toEqual([]);
      expect(await rootsOf(storage)).toEqual(['a']);
      // Another shard than a lookup of it would read.
      await putShard(storage.state, 'a0', [chunk]);
      expect(await rootsOf(storage)).toEqual(['a']);
      await storage.repair();
      expect(await rootsOf(storage)).toEqual([]);
    },
  );

  test.each(kinds.slice(1))('does not name it when the tar chunk of %s is missing or too short', async (_, put) => {
    const storage = createStorage();
    const [chunk] = chunksOf(tar, 'a', 1) as [ChunkLocation];
    await put(storage, chunk);
    expect(await rootsOf(storage)).toEqual([]);
    const metadata = tarMetadata(99, [{ members: 1, storedBytes: 99 }]);
    await storage.data.store.create(chunkBlobName(tar), Buffer.alloc(99), { metadata });
    expect(await rootsOf(storage)).toEqual([]);
  });

  test('names the root of a shard with an entry of another prefix, which no lookup takes, and repair makes it anew', async () => {
    const storage = createStorage();
    await putTar(storage.data.store, tar);
    const [own, foreign] = [...chunksOf(tar, 'a', 1), ...chunksOf(tar, 'c', 1)] as [ChunkLocation, ChunkLocation];
    await putPacked(storage.data, tar, [own, foreign]);
    await putShard(storage.state, 'a', [own, foreign]);
    await putShard(storage.state, 'c', [foreign]);
    await expect(storage.fresh().lookup([own.hash])).rejects.toMatchObject({ code: 'FIRN_BLOB_DAMAGED' });
    expect(await rootsOf(storage)).toEqual(['a']);
    await storage.repair();
    expect((await storage.fresh().lookup([own.hash])).has(own.hash)).toBe(true);
  });

  test('passes over pointers that cannot be read, and blobs that are not ours', async () => {
    const storage = createStorage();
    const { store } = storage.data;
    await putTar(store, tar);
    await store.create(thinBlobName(tar), Buffer.from('torn'));
    await store.create('thin/readme', Buffer.from('not ours'));
    await store.create('chunks/abc', Buffer.from('not ours'));
    await store.create(chunkBlobName(`a${hashOf('x').slice(1)}`), Buffer.from('nor this'));
    expect(await rootsOf(storage)).toEqual([]);
  });

  test('names a root with a stray among its shards, and with an entry that points behind the end of its tar chunk', async () => {
    const storage = createStorage();
    await putTar(storage.data.store, tar);
    await storage.state.store.create('chunk-index/a/x', Buffer.from('stray'));
    await putShard(
      storage.state,
      'c',
      chunksOf(tar, 'c', 1).map((at) => ({ ...at, frameOffset: TAR_BYTES })),
    );
    expect(await rootsOf(storage)).toEqual(['a', 'c']);
  });

  test('looks at a sample of chunk blobs and packed pointers: at few of many, and at all of few', async () => {
    const storage = createStorage();
    const { store } = storage.data;
    const tars = locationsIn('7', 1_000, 'tars').map(({ hash }) => hash);
    const chunks = locationsIn('a', 1_000).map(({ hash }, n) => placeIn(tars[n] ?? '', hash));
    for (const chunk of chunks) {
      await putTar(store, chunk.blob);
      await putPacked(storage.data, chunk.blob, [chunk]);
    }
    await storage.repair();
    const looks = async () => {
      const { store: data, calls } = watched(store);
      const drift = await findDrift({ data: new SealedBlobs(data, keys), state: storage.state }, ['7', 'a'], later);
      const count = (call: string) => calls.filter((each) => each.startsWith(call)).length;
      return { drift, properties: count('properties chunks/'), reads: count('read thin/') };
    };
    const { drift, properties, reads } = await looks();
    expect(drift).toEqual([]);
    expect(reads).toBe(128);
    expect(properties).toBeGreaterThan(400);
    expect(properties).toBeLessThanOrEqual(512 + 128);
    // With half of the blobs gone, a sample of hundreds finds it but once in a milliard.
    for (const { blob } of chunks.slice(0, 500)) await store.delete(chunkBlobName(blob));
    expect((await looks()).drift).toMatchObject([{ root: 'a' }]);
    // Of few entries each is looked at.
    const few = createStorage();
    for (const chunk of chunks.slice(0, 20)) await putTar(few.data.store, chunk.blob);
    await putShard(few.state, 'a', chunks.slice(0, 20));
    expect(await rootsOf(few)).toEqual([]);
    await few.data.store.delete(chunkBlobName(chunks[13]?.blob ?? ''));
    expect(await rootsOf(few)).toEqual(['a']);
  });

  test('fails where storage fails: nothing is taken for missing, or for sound', async () => {
    const storage = createStorage();
    await putTar(storage.data.store, tar);
    const chunks = chunksOf(tar, 'a', 3);
    await putPacked(storage.data, tar, chunks);
    await putLegacyPointer(storage.data.store, chunksOf(tar, 'a', 1, 'legacy')[0] as ChunkLocation);
    await putShard(storage.state, 'a', chunks);
    const run = async (data: BlobStore) =>
      await findDrift({ data: new SealedBlobs(data, keys), state: storage.state }, ['a', rootOf(tar)], later);
    const { store, calls } = watched(storage.data.store);
    expect(await run(store)).toMatchObject([{ root: 'a' }]);
    expect(calls.length).toBeGreaterThan(5);
    for (let at = 1; at <= calls.length; at += 1) {
      const failing = interrupted(storage.data.store, { at, how: 'failure before', calls: 0 });
      await expect(run(failing)).rejects.toMatchObject({ code: 'FIRN_STORAGE_FAILED' });
    }
  });
});
