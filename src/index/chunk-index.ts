/**
 * The chunk index: chunk hash → where its bytes are. The one way in; everything else in this folder is internal.
 *
 * A lookup sees, in this order: what this session recorded, the tables it was told to consult (receipts that are not
 * published yet), the shards. `record` takes locations of chunks that are durable, and of nothing else. The recorded
 * set leaves the session in one step, either with `take` (the caller makes it durable, in a receipt) or with `flush`
 * (merged into the shards); what is recorded while a flush runs belongs to the next one. Shards change only by
 * compare-and-swap, so that no update is lost whoever else writes. When a shard cannot be written, its locations go back
 * to the recorded set and `flush` fails.
 */
import pMap from 'p-map';
import type { ChunkLocation, LocationTable } from '../chunks/location.ts';
import { FirnError } from '../errors.ts';
import type { Hash } from '../sealing/keys.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { mergeShard } from './shard.ts';
import { ShardStore } from './shard-store.ts';

/** Shards written at the same time by one flush. */
const FLUSH_WORKERS = 16;
/** Shards read at the same time by one lookup. */
const LOOKUP_WORKERS = 16;
/** Compare-and-swap rounds on one shard. Each lost round means that another writer won one. */
const MERGE_TRIES_MAX = 100;

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

export class ChunkIndex {
  /** Hex digits of the shortest shard prefix: 256 roots. */
  static readonly PREFIX_DIGITS_MIN = 2;

  readonly #shards: ShardStore;
  #recorded = new Map<Hash, ChunkLocation>();
  #consulted: LocationTable[] = [];

  constructor(state: SealedBlobs, options: { cacheBytesMax: number }) {
    this.#shards = new ShardStore(state, options.cacheBytesMax);
  }

  /** Adds a table of durable chunks that are not in the shards yet; lookups see it from now on. */
  consult(table: LocationTable): void {
    this.#consulted.push(table);
  }

  /** Looks up many chunks at once; unknown ones are absent from the answer. */
  async lookup(hashes: Iterable<Hash>, options?: CallOptions): Promise<Map<Hash, LookupResult>> {
    const found = new Map<Hash, LookupResult>();
    const byRoot = new Map<string, Hash[]>();
    for (const hash of new Set(hashes)) {
      const pending = this.#recorded.get(hash) ?? this.#inConsulted(hash);
      if (pending) found.set(hash, { location: pending, pending: true });
      else pushTo(byRoot, rootOf(hash), hash);
    }
    await pMap(
      byRoot,
      async ([root, wanted]) => {
        const table = await this.#shards.cached(root, options);
        for (const hash of wanted) {
          const location = table?.find(hash);
          if (location) found.set(hash, { location, pending: false });
        }
      },
      { concurrency: LOOKUP_WORKERS },
    );
    return found;
  }

  /** Records locations of durable chunks. The first location of a chunk stays. */
  record(locations: Iterable<ChunkLocation>): void {
    for (const location of locations) {
      if (!this.#recorded.has(location.hash)) this.#recorded.set(location.hash, location);
    }
  }

  get recordedCount(): number {
    return this.#recorded.size;
  }

  /** Hands the recorded set to the caller and begins a new one. */
  take(): ChunkLocation[] {
    const taken = this.#recorded;
    this.#recorded = new Map();
    return [...taken.values()];
  }

  /**
   * Merges the recorded set into the shards.
   * Fails with the first error of any shard, after all of them have ended; what was not written stays recorded.
   */
  async flush(options?: CallOptions): Promise<FlushReport> {
    const byRoot = new Map<string, ChunkLocation[]>();
    for (const location of this.take()) pushTo(byRoot, rootOf(location.hash), location);
    let added = 0;
    let shardsWritten = 0;
    let conflicts = 0;
    const failures: unknown[] = [];
    await pMap(
      byRoot,
      async ([root, locations]) => {
        try {
          const merged = await this.#mergeInto(root, locations, options);
          added += merged.added;
          conflicts += merged.conflicts;
          if (merged.added > 0) shardsWritten += 1;
        } catch (error) {
          this.record(locations);
          failures.push(error);
        }
      },
      { concurrency: FLUSH_WORKERS },
    );
    if (failures.length > 0) throw failures[0];
    return { added, shardsWritten, conflicts };
  }

  async #mergeInto(
    root: string,
    locations: readonly ChunkLocation[],
    options?: CallOptions,
  ): Promise<{ added: number; conflicts: number }> {
    for (let conflicts = 0; conflicts < MERGE_TRIES_MAX; conflicts += 1) {
      options?.signal?.throwIfAborted();
      const shard = await this.#shards.load(root, options);
      const { table, added } = mergeShard(shard?.table, locations);
      if (added === 0 || (await this.#shards.write(root, table, shard, options))) return { added, conflicts };
    }
    throw new FirnError('FIRN_INDEX_CONTENDED', { shard: root, tries: MERGE_TRIES_MAX });
  }

  /** Reads every shard: all locations, root by root, in ascending order of their hashes. */
  async *locations(options?: CallOptions): AsyncGenerator<ChunkLocation> {
    for await (const { prefix } of this.#shards.prefixes(options)) {
      const shard = await this.#shards.load(prefix, options);
      if (shard) yield* shard.table.locations();
    }
  }

  async statistics(options?: CallOptions): Promise<IndexStatistics> {
    let shards = 0;
    let entries = 0;
    let storedBytes = 0;
    for await (const shard of this.#shards.prefixes(options)) {
      shards += 1;
      storedBytes += shard.storedBytes;
      entries += (await this.#shards.load(shard.prefix, options))?.table.count ?? 0;
    }
    return { shards, entries, storedBytes };
  }

  #inConsulted(hash: Hash): ChunkLocation | undefined {
    for (const table of this.#consulted) {
      const location = table.find(hash);
      if (location) return location;
    }
    return undefined;
  }
}

function rootOf(hash: Hash): string {
  return hash.slice(0, ChunkIndex.PREFIX_DIGITS_MIN);
}

/** The root with this number, 0 to 255. */
export function rootNumber(hash: Hash): number {
  return Number.parseInt(rootOf(hash), 16);
}

function pushTo<K, V>(groups: Map<K, V[]>, key: K, value: V): void {
  const group = groups.get(key);
  if (group) group.push(value);
  else groups.set(key, [value]);
}
