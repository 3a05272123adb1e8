import { describe, expect, test } from 'vitest';
import { type ChunkLocation, LocationTable } from '../../src/chunks/location.ts';
import type { FirnError } from '../../src/errors.ts';
import { findRepairMarker } from '../../src/index/marker.ts';
import { repairIndex } from '../../src/index/repair.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { hashOf } from '../kit/arbitraries.ts';
import { damage } from '../kit/damage.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { flushed, keys, locationsIn, missingFrom, open, shardNames } from './index-kit.ts';
import { chunksOf, putPacked, putTar } from './repairing.ts';

const name = 'chunk-index/a';
const tar = hashOf('tar');
const mine = chunksOf(tar, 'a', 5);
const others = chunksOf(tar, 'c', 5);

async function overwrite(store: BlobStore, body: Buffer): Promise<void> {
  const { properties } = await store.read(name);
  await store.replace(name, body, { ifMatch: properties.etag });
}

async function sealed(store: BlobStore, table: Buffer): Promise<void> {
  await overwrite(store, await new SealedBlobs(store, keys).seal('shard', name, table));
}

const cases: { what: string; code: string; break_: (store: BlobStore) => Promise<void> }[] = [
  {
    what: 'truncated',
    code: 'FIRN_SEAL_BROKEN',
    break_: async (store) => await overwrite(store, (await store.read(name)).body.subarray(0, -20)),
  },
  { what: 'empty', code: 'FIRN_SEAL_BROKEN', break_: async (store) => await overwrite(store, Buffer.alloc(0)) },
  { what: 'with one flipped bit', code: 'FIRN_SEAL_BROKEN', break_: async (store) => await damage(store, name) },
  {
    what: 'that was sealed under another name',
    code: 'FIRN_SEAL_BROKEN',
    break_: async (store) => await overwrite(store, (await store.read('chunk-index/c')).body),
  },
  {
    what: 'whose entries belong to another prefix',
    code: 'FIRN_BLOB_DAMAGED',
    break_: async (store) => await sealed(store, LocationTable.of([...mine, ...others]).bytes),
  },
  {
    what: 'that is no table',
    code: 'FIRN_BLOB_DAMAGED',
    break_: async (store) => await sealed(store, Buffer.from('not a table at all')),
  },
  {
    what: 'of a newer version',
    code: 'FIRN_REPOSITORY_NEWER',
    break_: async (store) => {
      const { bytes } = LocationTable.of(mine);
      bytes.writeUInt32LE(2, 4);
      await sealed(store, bytes);
    },
  },
];

describe.each(cases)('a shard $what', ({ code, break_ }) => {
  const refusal = { code, advice: expect.stringContaining('firn repair-index') };

  async function broken(locations: readonly ChunkLocation[] = [...mine, ...others]): Promise<BlobStore> {
    const store = createMemoryBlobStore();
    await flushed(open(store), locations);
    await break_(store);
    return store;
  }

  test('fails the lookups that need it, with what to run, and no others', async () => {
    const index = open(await broken());
    await expect(index.lookup([mine[0]!.hash])).rejects.toMatchObject(refusal);
    expect(await missingFrom(index, others)).toEqual([]);
  });

  test('is not written over: the flush fails, keeps what it could not write, and writes the other roots', async () => {
    const store = await broken();
    const before = (await store.read(name)).body;
    const index = open(store);
    index.record([...locationsIn('a', 2, 'new'), ...locationsIn('c', 2, 'new')]);
    const failure: FirnError = await index.flush().catch((error) => error);
    expect(failure).toMatchObject(refusal);
    expect(index.recordedCount).toBe(2);
    expect((await store.read(name)).body).toEqual(before);
    expect(await missingFrom(open(store), locationsIn('c', 2, 'new'))).toEqual([]);
  });

  test('is put right by a repair, unless it is of a newer version: then it is left as it is, and the marker stays', async () => {
    const store = await broken();
    const before = (await store.read(name)).body;
    const data = new SealedBlobs(createMemoryBlobStore(), keys);
    await putTar(data.store, tar);
    await putPacked(data, tar, [...mine, ...others]);
    const repair = async () => await repairIndex({ data, state: new SealedBlobs(store, keys) }, { owner: 'test' });
    if (code === 'FIRN_REPOSITORY_NEWER') {
      await expect(repair()).rejects.toMatchObject({ code });
      expect((await store.read(name)).body).toEqual(before);
      expect(await findRepairMarker(store)).toBeDefined();
      // Whoever does not want the newer Firn's shard takes it away.
      await store.delete(name);
    }
    expect(await repair()).toMatchObject({ entries: 10, shardsWritten: 1, shardsRemoved: 0, finished: true });
    expect(await missingFrom(open(store), [...mine, ...others])).toEqual([]);
    expect(await Array.fromAsync(open(store).locations())).toHaveLength(10);
    expect(await shardNames(store)).toEqual(['a', 'c']);
    expect(await findRepairMarker(store)).toBeUndefined();
  });
});

test('blobs under chunk-index/ that are no shards are passed over', async () => {
  const store = createMemoryBlobStore();
  for (const other of ['g', 'readme', 'A', 'a/c']) await store.create(`chunk-index/${other}`, Buffer.from('x'));
  await flushed(open(store), mine);
  expect(await missingFrom(open(store), mine)).toEqual([]);
  expect(await open(store).statistics()).toMatchObject({ shards: 1, entries: 5 });
});
