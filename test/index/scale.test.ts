/**
 * The chunk index of a repository of some tens of thousands of chunks, in requests and bytes: what docs/scale.md carries
 * on to a thousand million holds here. Shards split at few entries, so that there are as many as of a million chunks.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { LOCATION_BYTES } from '../../src/chunks/location.ts';
import { type ChunkIndex, createChunkIndexes } from '../../src/index/chunk-index.ts';
import { repairIndex } from '../../src/index/repair.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import {
  chunkHash,
  type Generated,
  generateChunkBlobs,
  randomFrom,
  withoutBodies,
} from '../bench/generated-repository.ts';
import {
  repairCost,
  SHARD_OVERHEAD_BYTES,
  shardLevels,
  shardsOf,
  shardsTouched,
  storedBytesMax,
} from '../bench/index-arithmetic.ts';
import { benchKeys, newLocations } from '../bench/index-jobs.ts';
import { createCountedStore, type Traffic } from '../kit/counted-store.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';

const CHUNKS = 40_000;
const SHARD_ENTRIES_MAX = 64;
const BATCH = 1_000;

const levels = shardLevels(CHUNKS, SHARD_ENTRIES_MAX);
const shardsExpected = shardsOf(levels);
const touchedExpected = shardsTouched(levels, BATCH);
/** Five standard deviations: a count of shards that random hashes fall into varies less than one of independent ones. */
const spread = 5 * Math.sqrt(shardsExpected - touchedExpected);

let generated: Generated;
let repaired: { readonly data: Traffic; readonly state: Traffic };
const data = createCountedStore(withoutBodies(createMemoryBlobStore()));
const memory = createMemoryBlobStore();
const state = createCountedStore(memory);

async function repair(roots?: readonly string[]): Promise<{ data: Traffic; state: Traffic; entries: number }> {
  data.takeTraffic();
  state.takeTraffic();
  const parts = { data: new SealedBlobs(data.store, benchKeys), state: new SealedBlobs(state.store, benchKeys) };
  const report = await repairIndex(parts, { owner: 'test', roots, shardEntriesMax: SHARD_ENTRIES_MAX });
  expect(report).toMatchObject({ quarantinedCount: 0, passes: 1, finished: true });
  return { data: data.takeTraffic(), state: state.takeTraffic(), entries: report.entries };
}

/** The sessions of a process, and what it asks of storage. */
function createProcess(): { createIndex: () => ChunkIndex; takeTraffic: () => Traffic } {
  const { store, takeTraffic } = createCountedStore(memory);
  const options = { cacheBytesMax: 64 * 1024 * 1024, shardEntriesMax: SHARD_ENTRIES_MAX };
  return { createIndex: createChunkIndexes(new SealedBlobs(store, benchKeys), options), takeTraffic };
}

async function shardBytes(): Promise<Map<string, number>> {
  const shards = await Array.fromAsync(memory.list({ prefix: 'chunk-index/' }));
  return new Map(shards.map(({ name, bytes }) => [name.slice('chunk-index/'.length), bytes]));
}

function randomHashes(seed: number): string[] {
  const random = randomFrom(seed);
  const hashes = new Set<string>();
  while (hashes.size < BATCH) hashes.add(chunkHash(Math.floor(random() * CHUNKS)));
  return [...hashes];
}

beforeAll(async () => {
  generated = await generateChunkBlobs(data.store, benchKeys, { chunks: CHUNKS });
  const { entries, ...traffic } = await repair();
  expect(entries).toBe(CHUNKS);
  repaired = traffic;
});

describe('a repair from nothing', () => {
  test('asks for the pages of the listings, the packed pointers, and one write for each shard', async () => {
    const blobs = { blobs: generated.large + generated.tars, tars: generated.tars };
    const { lists, reads, writes } = repairCost(CHUNKS, blobs, SHARD_ENTRIES_MAX);
    const shards = await shardBytes();
    expect(repaired.data.lists + repaired.state.lists).toBe(lists);
    expect(repaired.data).toMatchObject({ reads, writes: 0, deletes: 0, others: 0 });
    // The marker is looked for, set and removed.
    expect(repaired.state).toMatchObject({ reads: 1, writes: shards.size + 1, deletes: 1, others: 0 });
    expect(Math.abs(shards.size - writes)).toBeLessThan(0.01 * writes);
  });

  test('reads and writes no more than the entries', async () => {
    expect(repaired.data.bytesRead).toBeLessThan(storedBytesMax(generated.tars, CHUNKS));
    expect(repaired.state.bytesRead).toBe(0);
    expect(repaired.state.bytesWritten).toBeLessThan(storedBytesMax(shardsExpected, CHUNKS));
  });

  test('makes as many shards as arithmetic says, none of them over the limit', async () => {
    const shards = await shardBytes();
    expect(Math.abs(shards.size - shardsExpected)).toBeLessThan(0.01 * shardsExpected);
    const largest = Math.max(...shards.values());
    expect(largest).toBeLessThanOrEqual(SHARD_OVERHEAD_BYTES + SHARD_ENTRIES_MAX * LOCATION_BYTES);
    for (const { digits, shards: expected } of levels) {
      const found = [...shards.keys()].filter((prefix) => prefix.length === digits).length;
      expect(Math.abs(found - expected), `${digits} digits`).toBeLessThan(0.01 * shardsExpected);
    }
  });

  test('is not done twice: the next one, of one root, reads each of its shards once and writes none', async () => {
    const shards = [...(await shardBytes()).keys()].filter((prefix) => prefix.startsWith('3'));
    const again = await repair(['3']);
    expect(again.state).toMatchObject({ reads: shards.length + 1, writes: 1, deletes: 1, others: 0 });
    expect(again.data).toMatchObject({ reads: generated.tars, writes: 0 });
  });
});

describe('a process', () => {
  test('that knows nothing looks up 1,000 random chunks with one listing and the shards that they lie in', async () => {
    const { createIndex, takeTraffic } = createProcess();
    const bytesOfShard = (await shardBytes()).values().reduce((total, bytes) => total + bytes, 0) / shardsExpected;
    expect((await createIndex().lookup(randomHashes(1))).size).toBe(BATCH);
    const { lists, reads, bytesRead, ...others } = takeTraffic();
    expect(others).toEqual({ writes: 0, deletes: 0, others: 0, bytesWritten: 0 });
    expect(lists).toBe(1);
    expect(Math.abs(reads - touchedExpected)).toBeLessThan(spread);
    // Chunks are more often in the larger of the shards.
    expect(bytesRead).toBeLessThan(1.2 * reads * bytesOfShard);
  });

  test('never downloads an unchanged shard again, and a changed one once', async () => {
    const { createIndex, takeTraffic } = createProcess();
    const hashes = randomHashes(2);
    await createIndex().lookup(hashes);
    takeTraffic();
    const index = createIndex();
    for (let round = 0; round < 3; round += 1) expect((await index.lookup(hashes)).size).toBe(BATCH);
    expect(takeTraffic()).toMatchObject({ lists: 1, reads: 0 });

    const before = await etags();
    const other = createProcess().createIndex();
    other.record(newLocations(CHUNKS, 50));
    await other.flush();
    const changed = [...(await etags())].filter(([name, etag]) => before.get(name) !== etag).map(([name]) => name);
    const needed = new Set(hashes.map((hash) => changed.find((name) => `chunk-index/${hash}`.startsWith(name))));
    needed.delete(undefined);
    for (let round = 0; round < 3; round += 1) expect((await createIndex().lookup(hashes)).size).toBe(BATCH);
    expect(needed.size).toBeGreaterThan(0);
    expect(takeTraffic()).toMatchObject({ lists: 3, reads: needed.size });
  });

  test('flushes 1,000 random new entries with one read and one write for each shard that they belong in', async () => {
    const { createIndex, takeTraffic } = createProcess();
    const before = await shardBytes();
    const average = before.values().reduce((total, bytes) => total + bytes, 0) / before.size;
    const index = createIndex();
    index.record(newLocations(2 * CHUNKS, BATCH));
    expect(await index.flush()).toMatchObject({ added: BATCH, conflicts: 0 });
    const { lists, reads, writes, deletes, others, bytesRead, bytesWritten } = takeTraffic();
    expect({ lists, deletes, others }).toEqual({ lists: 1, deletes: 0, others: 0 });
    expect(reads).toBe(writes);
    expect(Math.abs(writes - touchedExpected)).toBeLessThan(spread);
    expect(bytesRead).toBeLessThan(1.1 * writes * average);
    expect(bytesWritten).toBeLessThan(bytesRead + BATCH * LOCATION_BYTES);
  });
});

async function etags(): Promise<Map<string, string>> {
  const shards = await Array.fromAsync(memory.list({ prefix: 'chunk-index/' }));
  return new Map(shards.map(({ name, etag }) => [name, etag]));
}
