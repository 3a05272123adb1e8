/**
 * The chunk index: chunk hash → where its bytes are. The one way in; everything else in this folder is internal.
 *
 * A `ChunkIndex` is a session: one run of archiving, publishing or restoring. A lookup sees, in this order: what this
 * session recorded (also while it is being flushed), the tables it was told to consult (receipts that are not published
 * yet), the shards as they were listed at the first lookup or later. `record` takes locations of chunks that are durable,
 * and of nothing else. The recorded set leaves the session in one step, either with `take` (the caller makes it durable,
 * in a receipt) or with `flush` (merged into the shards); what is recorded while a flush runs belongs to the next one.
 * Shards change only by compare-and-swap, so that no update is lost whoever else writes. When a shard cannot be written,
 * its locations go back to the recorded set and `flush` fails.
 *
 * Sessions of one repository share their caches (`createChunkIndexes`). Each lists the shards anew, so that what another
 * writer published is noticed by its ETag, and only that is read again.
 */
import pMap from 'p-map';
import type { ChunkLocation, LocationTable } from '../chunks/location.ts';
import { createSlots, type Slots } from '../chunks/slots.ts';
import type { FirnError } from '../errors.ts';
import type { Hash } from '../sealing/keys.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import { numberSettings } from '../settings.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { DiskCache } from './disk-cache.ts';
import { Recorded } from './recorded.ts';
import { lookupInRoot, tablesUnder } from './root-reader.ts';
import { allRoots, PREFIX_DIGITS_MIN, rootOf } from './root-view.ts';
import { RootWriter, WRITERS_MAX } from './root-writer.ts';
import { SessionViews } from './session-views.ts';
import { SHARD_ENTRIES_MAX } from './shard.ts';
import { ShardCache } from './shard-cache.ts';
import { ShardStore } from './shard-store.ts';

export { allRoots };

/** Roots looked up at the same time by one lookup. */
const LOOKUP_WORKERS = 16;

export interface FlushReport {
  /** Locations that were new to the index. */
  readonly added: number;
  /** Shards written. */
  readonly shardsWritten: number;
  /** Compare-and-swap rounds that another writer won. */
  readonly conflicts: number;
}

export interface IndexStatistics {
  readonly shards: number;
  readonly entries: number;
  readonly storedBytes: number;
}

/** Where a lookup found its answer: `pending` is not in the shards yet. */
export interface LookupResult {
  readonly location: ChunkLocation;
  readonly pending: boolean;
}

export interface ChunkIndexOptions {
  /** Memory for shards. */
  readonly cacheBytesMax: number;
  /** A folder that keeps sealed shards for later runs; none where undefined. It may be deleted at any time. */
  readonly cacheFolder?: string | undefined;
  /** Of that folder; the default of the setting where undefined. */
  readonly cacheFolderBytesMax?: number | undefined;
  /** Told when that folder cannot be used (FIRN_CACHE_UNUSABLE); the work goes on without it. */
  readonly onWarning?: ((error: FirnError) => void) | undefined;
  /**
   * Asked before shards are looked up (often) or flushed; what it throws, the caller gets. So a repair keeps others out.
   * What is recorded or consulted is found without it.
   */
  readonly checkShards?: ((options?: CallOptions) => Promise<void>) | undefined;
  /** Internal, for tests: entries over which a shard splits. */
  readonly shardEntriesMax?: number;
}

/** Gives sessions over one container that share their caches, and how many shards they write at the same time. */
export function createChunkIndexes(state: SealedBlobs, options: ChunkIndexOptions): () => ChunkIndex {
  const { cacheFolder: folder, onWarning } = options;
  const bytesMax = options.cacheFolderBytesMax ?? numberSettings.cacheFolderBytesMax.fallback;
  const disk =
    folder === undefined ? undefined : new DiskCache({ folder, bytesMax, scope: state.store.url, onWarning });
  const shared = { cache: new ShardCache(options.cacheBytesMax, disk), writers: createSlots(WRITERS_MAX) };
  return () => new ChunkIndex(state, options, shared);
}

interface Shared {
  readonly cache: ShardCache;
  readonly writers: Slots;
}

export class ChunkIndex {
  /** Hex digits of the shortest shard prefix: 16 roots. */
  static readonly PREFIX_DIGITS_MIN = PREFIX_DIGITS_MIN;

  readonly #shards: ShardStore;
  readonly #views: SessionViews;
  readonly #writers: Slots;
  readonly #entriesMax: number;
  readonly #checkShards: ChunkIndexOptions['checkShards'];
  readonly #recorded = new Recorded();
  #consulted: LocationTable[] = [];

  /** A session on its own; `shared` is internal. */
  constructor(state: SealedBlobs, options: ChunkIndexOptions, shared?: Shared) {
    this.#shards = new ShardStore(state, shared?.cache ?? new ShardCache(options.cacheBytesMax));
    this.#writers = shared?.writers ?? createSlots(WRITERS_MAX);
    this.#views = new SessionViews(this.#shards);
    this.#entriesMax = options.shardEntriesMax ?? SHARD_ENTRIES_MAX;
    this.#checkShards = options.checkShards;
  }

  /** Adds a table of durable chunks that are not in the shards yet; lookups see it from now on. */
  consult(table: LocationTable): void {
    this.#consulted.push(table);
  }

  /**
   * Looks up many chunks at once; unknown ones are absent from the answer.
   * @throws FIRN_SEAL_BROKEN, FIRN_BLOB_DAMAGED, FIRN_REPOSITORY_NEWER for a shard that these chunks need.
   */
  async lookup(hashes: Iterable<Hash>, options?: CallOptions): Promise<Map<Hash, LookupResult>> {
    const found = new Map<Hash, LookupResult>();
    const wanted: Hash[] = [];
    for (const hash of new Set(hashes)) {
      const pending = this.#recorded.find(hash) ?? this.#inConsulted(hash);
      if (pending) found.set(hash, { location: pending, pending: true });
      else wanted.push(hash);
    }
    if (wanted.length === 0) return found;
    await this.#checkShards?.(options);
    const add = (location: ChunkLocation) => found.set(location.hash, { location, pending: false });
    const [only] = wanted;
    if (wanted.length === 1 && only !== undefined) {
      await lookupInRoot(this.#parts, rootOf(only), wanted, add, options);
      return found;
    }
    await pMap(
      Map.groupBy(wanted, rootOf),
      async ([root, group]) => await lookupInRoot(this.#parts, root, group, add, options),
      { concurrency: LOOKUP_WORKERS },
    );
    return found;
  }

  /** Records locations of durable chunks. The first location of a chunk stays. */
  record(locations: Iterable<ChunkLocation>): void {
    this.#recorded.add(locations);
  }

  get recordedCount(): number {
    return this.#recorded.count;
  }

  /** Hands the recorded set to the caller and begins a new one. */
  take(): ChunkLocation[] {
    return this.#recorded.take();
  }

  /**
   * Merges the recorded set into the shards.
   * Fails with the first error of any root, after all of them have ended; what was not written stays recorded.
   */
  async flush(options?: CallOptions): Promise<FlushReport> {
    const report = { added: 0, shardsWritten: 0, conflicts: 0 };
    const failures: unknown[] = [];
    const since = this.#views.moment();
    const parts = { ...this.#parts, entriesMax: this.#entriesMax, writers: this.#writers };
    const flushRoot = async (root: string, locations: readonly ChunkLocation[]): Promise<boolean> => {
      const writer = new RootWriter(root, parts, since, options);
      try {
        await writer.flush(locations);
        return true;
      } catch (error) {
        failures.push(error);
        return false;
      } finally {
        report.added += writer.added;
        report.shardsWritten += writer.shardsWritten;
        report.conflicts += writer.conflicts;
      }
    };
    await this.#recorded.leave(async (leaving) => {
      if (leaving.length > 0) await this.#checkShards?.(options);
      const left = await pMap(
        Map.groupBy(leaving, ({ hash }) => rootOf(hash)),
        async ([root, locations]) => ((await flushRoot(root, locations)) ? [] : locations),
      );
      return left.flat();
    });
    if (failures.length > 0) throw failures[0];
    return report;
  }

  /** Reads every shard: all locations, in ascending order of their hashes, each once. */
  async *locations(options?: CallOptions): AsyncGenerator<ChunkLocation> {
    for (const root of allRoots) {
      for await (const table of tablesUnder(this.#parts, root, options)) yield* table.locations();
    }
  }

  /** Reads every shard. */
  async statistics(options?: CallOptions): Promise<IndexStatistics> {
    let shards = 0;
    let entries = 0;
    let storedBytes = 0;
    for (const root of allRoots) {
      for await (const table of tablesUnder(this.#parts, root, options)) entries += table.count;
      const view = await this.#views.current(root, options);
      shards += view.size;
      for (const [, shard] of view.shards()) storedBytes += shard.storedBytes;
    }
    return { shards, entries, storedBytes };
  }

  get #parts(): { shards: ShardStore; views: SessionViews } {
    return { shards: this.#shards, views: this.#views };
  }

  #inConsulted(hash: Hash): ChunkLocation | undefined {
    for (const table of this.#consulted) {
      const location = table.find(hash);
      if (location) return location;
    }
    return undefined;
  }
}
