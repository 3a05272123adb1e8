/**
 * Brings the shards of one root to what the chunk blobs prove, beside writers that do not know of the repair.
 *
 * An entry that the listing did not prove stays when its chunk blob is there: it was published since, or it is the last
 * to know a chunk whose pointer is damaged. It goes when the blob is missing or says otherwise. All that is planned is
 * written before anything is deleted, and both only over the very version whose entries were merged, so at every moment
 * a reader finds every entry that it found before, and no other writer's entry is lost. Then the root is listed once
 * more, until it is as it was left. Only a shard that is offline goes first: nobody can read it, nor write over it.
 */
import pMap from 'p-map';
import { chunkBlobName } from '../chunks/chunk-blobs.ts';
import { type ChunkLocation, LocationTable } from '../chunks/location.ts';
import { FirnError, isFirnError } from '../errors.ts';
import type { Hash } from '../sealing/keys.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import { type BlobStore, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import type { KnownTar, KnownTars } from './known-tars.ts';
import { pointerProblem, unprovedEntries } from './repair-plan.ts';
import { isShardPrefix } from './root-view.ts';
import { planShards } from './shard.ts';
import { removeShard, SHARD_PREFIX, writeShard } from './shard-store.ts';

/** Rounds on one root. Each round but the last means that another writer changed it meanwhile. */
const ROUNDS_MAX = 100;
const REQUESTS_IN_FLIGHT = 16;

export interface RepairParts {
  readonly data: SealedBlobs;
  readonly state: SealedBlobs;
}

export interface RootRepair {
  readonly entries: number;
  readonly written: number;
  readonly removed: number;
}

export interface PresentShard {
  readonly prefix: string;
  readonly etag: string;
  /** Undefined when it is damaged or offline. It may hold chunks of another prefix: repair takes those of its own from it. */
  readonly table: LocationTable | undefined;
  /** It lies in the Archive tier: it cannot be read, and not be written over either. */
  readonly offline: boolean;
}

/**
 * The shards of a root as they are; of those that are `known` in the version that is there, nothing is read.
 * @throws FIRN_REPOSITORY_NEWER when one is of a newer Firn.
 */
export async function readShards(
  state: SealedBlobs,
  root: string,
  options?: CallOptions,
  known?: ReadonlyMap<string, PresentShard>,
): Promise<PresentShard[]> {
  const listed = await Array.fromAsync(state.store.list({ ...options, prefix: SHARD_PREFIX + root }));
  const read = async ({ name, etag }: { name: string; etag: string }): Promise<PresentShard | undefined> => {
    const prefix = name.slice(SHARD_PREFIX.length);
    if (!isShardPrefix(prefix)) return { prefix, etag, table: undefined, offline: false };
    const unchanged = known?.get(prefix);
    if (unchanged?.etag === etag) return unchanged;
    try {
      const found = await state.find('shard', name, options);
      return found && { prefix, etag: found.etag, table: LocationTable.from(name, found.body), offline: false };
    } catch (error) {
      if (!isFirnError(error, 'FIRN_SEAL_BROKEN', 'FIRN_BLOB_DAMAGED', 'FIRN_BLOB_OFFLINE')) throw error;
      return { prefix, etag, table: undefined, offline: error.code === 'FIRN_BLOB_OFFLINE' };
    }
  };
  const shards = await pMap(listed, read, { concurrency: REQUESTS_IN_FLIGHT });
  return shards.filter((shard) => shard !== undefined);
}

export interface RootRepairOptions extends CallOptions {
  /** Internal, for tests: entries over which a shard splits. */
  readonly shardEntriesMax?: number | undefined;
}

/** @throws FIRN_INDEX_CONTENDED when others change the root without an end. */
export async function repairRoot(
  parts: RepairParts,
  root: string,
  proved: LocationTable,
  tars: KnownTars,
  options?: RootRepairOptions,
): Promise<RootRepair> {
  const { state } = parts;
  let written = 0;
  let removed = 0;
  /** As they were read or written last. */
  const known = new Map<string, PresentShard>();
  for (let round = 0; round < ROUNDS_MAX; round += 1) {
    const shards = await readShards(state, root, options, known);
    known.clear();
    for (const shard of shards) known.set(shard.prefix, shard);
    const offline = shards.filter((shard) => shard.offline);
    if (offline.length > 0) {
      removed += await removeShards(state, offline, options);
      continue;
    }
    const present = new Map(shards.map((shard) => [shard.prefix, shard]));
    const unproved = unprovedEntries(shards, proved);
    const isTrue = await lookWhichAreTrue(parts, locationsOf(unproved), tars, options);
    const kept = unproved.map((table) => table.map((entry) => (isTrue(entry) ? entry : undefined)));
    const entries = LocationTable.merge([proved, ...kept]);
    const plan = planShards(root, entries, options?.shardEntriesMax);
    const isAsPlanned = (prefix: string, table: LocationTable) => present.get(prefix)?.table?.bytes.equals(table.bytes);
    const toWrite = [...plan].filter(([prefix, table]) => !isAsPlanned(prefix, table));
    const toRemove = [...present.values()].filter(({ prefix }) => !plan.has(prefix));
    if (toWrite.length === 0 && toRemove.length === 0) {
      return { entries: entries.count, written, removed };
    }
    const done = await pMap(
      toWrite,
      async ([prefix, table]) => {
        const shard = await writeShard(state, prefix, table, present.get(prefix)?.etag, options);
        if (shard !== undefined) known.set(prefix, { prefix, etag: shard.etag, table, offline: false });
        return shard !== undefined;
      },
      { concurrency: REQUESTS_IN_FLIGHT },
    );
    written += done.filter(Boolean).length;
    if (done.includes(false)) continue;
    removed += await removeShards(state, toRemove, options);
  }
  throw new FirnError('FIRN_INDEX_CONTENDED', { shard: root, tries: ROUNDS_MAX });
}

async function removeShards(
  state: SealedBlobs,
  shards: readonly PresentShard[],
  options?: CallOptions,
): Promise<number> {
  const outcomes = await pMap(shards, ({ prefix, etag }) => removeShard(state, prefix, etag, options), {
    concurrency: REQUESTS_IN_FLIGHT,
  });
  return outcomes.filter((outcome) => outcome === 'removed').length;
}

function* locationsOf(tables: readonly LocationTable[]): Generator<ChunkLocation> {
  for (const table of tables) yield* table.locations();
}

interface LookedAt {
  readonly data: { readonly store: Pick<BlobStore, 'properties'> };
}

/** Those of the entries whose chunk blob is there and does not say otherwise. */
export async function stillTrue(
  parts: LookedAt,
  entries: readonly ChunkLocation[],
  tars: KnownTars | undefined,
  options?: CallOptions,
): Promise<ChunkLocation[]> {
  return entries.filter(await lookWhichAreTrue(parts, entries, tars, options));
}

/** Looks at the chunk blobs of the entries; the answer tells of each of these entries whether it is still true. */
async function lookWhichAreTrue(
  { data }: LookedAt,
  entries: Iterable<ChunkLocation>,
  tars: KnownTars | undefined,
  options?: CallOptions,
): Promise<(entry: ChunkLocation) => boolean> {
  const blobs = new Set<Hash>();
  for (const { blob } of entries) if (tars?.get(blob) === undefined) blobs.add(blob);
  const otherTars = new Map<Hash, KnownTar>();
  const largeBytes = new Map<Hash, number>();
  const look = async (blob: Hash) => {
    try {
      const { bytes, tier, metadata } = await data.store.properties(chunkBlobName(blob), options);
      // As of a tar chunk, the rest of its metadata may be damaged: what is read from it is checked.
      if (metadata.firn_type === 'large') largeBytes.set(blob, bytes);
      else if (metadata.firn_type === 'tar') otherTars.set(blob, { bytes, tier: tier ?? 'Hot' });
    } catch (error) {
      if (!isBlobFailure(error, 'missing')) throw error;
    }
  };
  await pMap(blobs, look, { concurrency: REQUESTS_IN_FLIGHT });
  return (entry) => {
    const { hash, blob, kind, frameBytes } = entry;
    if (kind === 'large') return hash === blob && largeBytes.get(blob) === frameBytes;
    return pointerProblem(entry, tars?.get(blob) ?? otherTars.get(blob)) === undefined;
  };
}
