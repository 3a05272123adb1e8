/** Repositories whose chunk index is broken and brought back. */
import { createHash } from 'node:crypto';
import {
  chunkBlobName,
  largeMetadata,
  packedThinMetadata,
  tarMetadata,
  thinBlobName,
  thinMetadata,
} from '../../src/chunks/chunk-blobs.ts';
import { type ChunkLocation, LocationTable } from '../../src/chunks/location.ts';
import { ChunkIndex } from '../../src/index/chunk-index.ts';
import { type RepairOptions, type RepairReport, repairIndex } from '../../src/index/repair.ts';
import { PREFIX_DIGITS_MIN } from '../../src/index/root-view.ts';
import { SHARD_ENTRIES_MAX } from '../../src/index/shard.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import type { Repository } from '../../src/repository.ts';
import type { Hash } from '../../src/sealing/keys.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import type { Snapshot } from '../../src/snapshots/snapshot.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { locationOf } from '../kit/arbitraries.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { archiveAll, upload } from '../kit/repository.ts';
import { keys, locationsIn } from './index-kit.ts';

export async function publishFiles(
  repository: Repository,
  source: string,
  files: Record<string, string | Buffer>,
): Promise<Snapshot> {
  for (const [path, content] of Object.entries(files)) await upload(repository, `${source}/${path}`, content);
  await archiveAll(repository, source);
  const outcome = await publishSource(repository, source);
  if (outcome?.outcome !== 'published') throw new Error('nothing was published');
  return outcome.snapshot;
}

export async function namesOf(store: BlobStore, prefix: string): Promise<string[]> {
  return (await Array.fromAsync(store.list({ prefix }))).map(({ name }) => name);
}

export async function deleteAll(store: BlobStore, prefix: string): Promise<void> {
  for (const name of await namesOf(store, prefix)) await store.delete(name);
}

/** All entries of the index as a fresh instance reads them. */
export async function entriesOf(repository: Repository): Promise<string[]> {
  const lines: string[] = [];
  for await (const location of repository.createIndex().locations()) lines.push(JSON.stringify(location));
  return lines.sort();
}

/** Chunk blobs and shards as they lie on storage, made without their content: repair reads none of it. */
export const TAR_BYTES = 1000;

export async function putTar(data: BlobStore, tar: Hash): Promise<void> {
  const metadata = tarMetadata(TAR_BYTES, [{ members: 1, storedBytes: TAR_BYTES }]);
  await data.create(chunkBlobName(tar), Buffer.alloc(TAR_BYTES), { metadata });
}

/** A place in that tar chunk. */
export function placeIn(tar: Hash, hash: Hash): ChunkLocation {
  return { ...locationOf(hash), blob: tar };
}

/** Chunks of that tar chunk, whose hashes begin with these digits. */
export function chunksOf(tar: Hash, prefix: string, count: number, name = ''): ChunkLocation[] {
  return locationsIn(prefix, count, `${prefix} ${name}`).map(({ hash }) => placeIn(tar, hash));
}

/** Two containers with nothing in them, and what is done with them. */
export function createStorage() {
  const data = new SealedBlobs(createMemoryBlobStore(), keys);
  const state = new SealedBlobs(createMemoryBlobStore(), keys);
  return {
    data,
    state,
    repair: async (options: Partial<RepairOptions> = {}): Promise<RepairReport> =>
      await repairIndex({ data, state }, { owner: 'test', ...options }),
    /** A session of a process that knows nothing. */
    fresh: () => new ChunkIndex(new SealedBlobs(state.store, keys), { cacheBytesMax: 1024 * 1024 }),
  };
}

/** All pointers of a tar chunk in one blob. */
export async function putPacked(data: SealedBlobs, tar: Hash, locations: readonly ChunkLocation[]): Promise<void> {
  const metadata = packedThinMetadata(locations.length);
  await data.create('thin', thinBlobName(tar), LocationTable.of(locations).bytes, { metadata });
}

/** A pointer of its own. */
export async function putPointer(data: BlobStore, location: ChunkLocation): Promise<void> {
  await data.create(chunkBlobName(location.hash), Buffer.alloc(0), { metadata: thinMetadata(location) });
}

/** The same in the legacy form. */
export async function putLegacyPointer(data: BlobStore, location: ChunkLocation): Promise<void> {
  const { firn_parent: parent = '', ...metadata } = thinMetadata(location);
  await data.create(chunkBlobName(location.hash), Buffer.from(parent), { metadata });
}

export async function putLarge(data: BlobStore, hash: Hash): Promise<ChunkLocation> {
  await data.create(chunkBlobName(hash), Buffer.alloc(100), { metadata: largeMetadata(200, 100) });
  return { ...locationOf(hash), blob: hash, kind: 'large', offsetInFrame: 0, rawBytes: 200 };
}

export async function putShard(state: SealedBlobs, prefix: string, locations: readonly ChunkLocation[]): Promise<void> {
  await state.create('shard', `chunk-index/${prefix}`, LocationTable.of(locations).bytes);
}

/** Another container with the same blobs. */
export async function copyOf(store: BlobStore): Promise<BlobStore> {
  const copy = createMemoryBlobStore();
  for await (const { name, metadata, tier, sealed } of store.list({})) {
    const { body } = await store.read(name);
    // Of append blobs the service names no tier.
    if (tier === undefined) await copy.createAppend(name, body, { metadata });
    else await copy.create(name, body, { metadata, tier });
    if (sealed) await copy.seal(name);
  }
  return copy;
}

/** What a container holds: two that are alike have the same. */
export async function fingerprintOf(store: BlobStore): Promise<string> {
  const digest = createHash('sha256');
  for await (const { name, bytes } of store.list({})) {
    digest.update(`${name} ${bytes} `).update((await store.read(name)).body);
  }
  return digest.digest('hex');
}

/** The layout that the hashes ask for, by its rule: a shard of more entries than that splits by the next digit. */
export function layoutOf(
  hashes: readonly Hash[],
  entriesMax = SHARD_ENTRIES_MAX,
  digits = PREFIX_DIGITS_MIN,
): string[] {
  return [...Map.groupBy(hashes, (hash) => hash.slice(0, digits))]
    .flatMap(([prefix, group]) => (group.length <= entriesMax ? [prefix] : layoutOf(group, entriesMax, digits + 1)))
    .sort();
}
