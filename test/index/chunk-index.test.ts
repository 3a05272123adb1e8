import { describe, expect, test } from 'vitest';
import type { ChunkLocation } from '../../src/chunks/location.ts';
import { LocationTable } from '../../src/chunks/location.ts';
import { ChunkIndex } from '../../src/index/chunk-index.ts';
import { rootOf } from '../../src/index/root-view.ts';
import { keysFromMaster } from '../../src/sealing/keys.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { hashOf, locationOf } from '../kit/arbitraries.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';

const keys = keysFromMaster(Buffer.alloc(32, 7));
const hashes = Array.from({ length: 600 }, (_, n) => hashOf(`chunk ${n}`));

function open(store: BlobStore): ChunkIndex {
  return new ChunkIndex(new SealedBlobs(store, keys), { cacheBytesMax: 1024 * 1024 });
}

async function knownIn(index: ChunkIndex, wanted: readonly string[]): Promise<string[]> {
  return [...(await index.lookup(wanted)).keys()].sort();
}

describe('ChunkIndex', () => {
  test('finds what was recorded before a flush, and a fresh instance finds it after', async () => {
    const store = createMemoryBlobStore();
    const index = open(store);
    index.record(hashes.map((hash) => locationOf(hash)));
    expect(await knownIn(index, hashes)).toEqual(hashes.toSorted());
    expect(await knownIn(open(store), hashes)).toEqual([]);
    const report = await index.flush();
    expect(report).toMatchObject({ added: 600, conflicts: 0 });
    const found = await open(store).lookup([...hashes, hashOf('unknown')]);
    expect(found.size).toBe(600);
    for (const hash of hashes) expect(found.get(hash)).toEqual({ location: locationOf(hash), pending: false });
  });

  test('finds what is in a consulted table and calls it pending', async () => {
    const index = open(createMemoryBlobStore());
    index.consult(LocationTable.of([locationOf(hashes[0]!)]));
    expect(await index.lookup(hashes.slice(0, 2))).toEqual(
      new Map([[hashes[0], { location: locationOf(hashes[0]!), pending: true }]]),
    );
  });

  test('writes no shard that does not change, and keeps the first location of a chunk', async () => {
    const store = createMemoryBlobStore();
    const index = open(store);
    index.record([locationOf(hashes[0]!, 1)]);
    await index.flush();
    index.record([locationOf(hashes[0]!, 2)]);
    expect(await index.flush()).toEqual({ added: 0, shardsWritten: 0, conflicts: 0 });
    expect((await open(store).lookup([hashes[0]!])).get(hashes[0]!)?.location).toEqual(locationOf(hashes[0]!, 1));
  });

  test('a location recorded while a flush runs is in the next flush', async () => {
    const store = createMemoryBlobStore();
    const index = open(store);
    index.record([locationOf(hashes[0]!)]);
    const first = index.flush();
    index.record([locationOf(hashes[1]!)]);
    await first;
    expect(index.recordedCount).toBe(1);
    expect(await knownIn(open(store), hashes.slice(0, 2))).toEqual([hashes[0]]);
    await index.flush();
    expect(await knownIn(open(store), hashes.slice(0, 2))).toEqual(hashes.slice(0, 2).toSorted());
  });

  test('when a shard cannot be written the flush fails, its locations stay recorded and the next flush writes them', async () => {
    const store = createMemoryBlobStore();
    const failing = new Set([`chunk-index/${rootOf(hashes[0]!)}`]);
    const faulty: BlobStore = Object.assign(Object.create(store) as BlobStore, {
      create: async (name: string, ...rest: [Uint8Array]) => {
        if (failing.has(name)) throw new Error('no luck');
        return await store.create(name, ...rest);
      },
    });
    const index = open(faulty);
    index.record(hashes.map((hash) => locationOf(hash)));
    await expect(index.flush()).rejects.toThrow('no luck');
    expect(index.recordedCount).toBe(hashes.filter((hash) => hash.startsWith(rootOf(hashes[0]!))).length);
    failing.clear();
    await index.flush();
    expect(await knownIn(open(store), hashes)).toEqual(hashes.toSorted());
  });

  test('eight writers on one root at once lose nothing', async () => {
    const store = createMemoryBlobStore();
    const root = rootOf(hashes[0]!);
    const own = (writer: number): ChunkLocation[] =>
      Array.from({ length: 20 }, (_, n) => locationOf(root + hashOf(`${writer}/${n}`).slice(root.length)));
    await Promise.all(
      Array.from({ length: 8 }, async (_, writer) => {
        for (const location of own(writer)) {
          const index = open(store);
          index.record([location]);
          await index.flush();
        }
      }),
    );
    const all = Array.from({ length: 8 }, (_, writer) => own(writer)).flat();
    expect((await open(store).lookup(all.map(({ hash }) => hash))).size).toBe(160);
    expect(await open(store).statistics()).toMatchObject({ shards: 1, entries: 160 });
  });

  test('asks whether shards may be used before it looks up or flushes, and keeps what it may not flush', async () => {
    let closed = true;
    const index = new ChunkIndex(new SealedBlobs(createMemoryBlobStore(), keys), {
      cacheBytesMax: 1024,
      checkShards: async () => {
        if (closed) throw new Error('closed');
      },
    });
    index.record([locationOf(hashes[0]!)]);
    expect((await index.lookup([hashes[0]!])).size).toBe(1);
    await expect(index.lookup(hashes.slice(0, 2))).rejects.toThrow('closed');
    await expect(index.flush()).rejects.toThrow('closed');
    expect(index.recordedCount).toBe(1);
    closed = false;
    expect((await index.lookup(hashes.slice(0, 2))).size).toBe(1);
    expect(await index.flush()).toMatchObject({ added: 1 });
  });

  test('lists all locations in ascending order', async () => {
    const store = createMemoryBlobStore();
    const index = open(store);
    index.record(hashes.map((hash) => locationOf(hash)));
    await index.flush();
    const listed: string[] = [];
    for await (const { hash } of open(store).locations()) listed.push(hash);
    expect(listed).toEqual(hashes.toSorted());
  });
});
