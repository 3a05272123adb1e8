/**
 * Shards on storage, with a cache in memory that is bounded in bytes. A cached shard may be older than the stored one:
 * that costs a lookup its answer, never its truth, for a location once written stays true. Writers always compare and
 * swap against a fresh read.
 */
import { LRUCache } from 'lru-cache';
import { LocationTable } from '../chunks/location.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import type { CallOptions } from '../storage/blob-store.ts';

export const SHARD_PREFIX = 'chunk-index/';

export interface StoredShard {
  readonly table: LocationTable;
  readonly etag: string;
}

/** What an empty entry costs in the cache, so that absent shards are bounded too. */
const ENTRY_OVERHEAD_BYTES = 256;

export class ShardStore {
  readonly #state: SealedBlobs;
  readonly #cache: LRUCache<string, { table: LocationTable | undefined }>;
  readonly #loading = new Map<string, Promise<StoredShard | undefined>>();

  constructor(state: SealedBlobs, cacheBytesMax: number) {
    this.#state = state;
    this.#cache = new LRUCache({
      maxSize: cacheBytesMax,
      sizeCalculation: ({ table }) => (table?.bytes.length ?? 0) + ENTRY_OVERHEAD_BYTES,
    });
  }

  /** The shard as it is now; undefined when there is none. Fills the cache. */
  async load(prefix: string, options?: CallOptions): Promise<StoredShard | undefined> {
    const name = SHARD_PREFIX + prefix;
    const found = await this.#state.find('shard', name, options);
    const shard = found && { table: LocationTable.from(name, found.body), etag: found.etag };
    this.#cache.set(prefix, { table: shard?.table });
    return shard;
  }

  /** The shard from the cache, else from storage; callers that ask at the same time share one read. */
  async cached(prefix: string, options?: CallOptions): Promise<LocationTable | undefined> {
    const hit = this.#cache.get(prefix);
    if (hit !== undefined) return hit.table;
    const running = this.#loading.get(prefix);
    if (running !== undefined) return (await running)?.table;
    const loading = this.load(prefix, options).finally(() => this.#loading.delete(prefix));
    this.#loading.set(prefix, loading);
    return (await loading)?.table;
  }

  /**
   * Writes a shard over the one that was read (`undefined`: there was none).
   * @returns false when another writer was faster.
   */
  async write(
    prefix: string,
    table: LocationTable,
    over: StoredShard | undefined,
    options?: CallOptions,
  ): Promise<boolean> {
    const name = SHARD_PREFIX + prefix;
    const written =
      over === undefined
        ? await this.#state.create('shard', name, table.bytes, options)
        : await this.#state.replace('shard', name, table.bytes, { ...options, ifMatch: over.etag });
    if (written === undefined) this.#cache.delete(prefix);
    else this.#cache.set(prefix, { table });
    return written !== undefined;
  }

  /** All shard prefixes with the bytes they take on storage. */
  async *prefixes(options?: CallOptions): AsyncGenerator<{ prefix: string; storedBytes: number }> {
    for await (const { name, bytes } of this.#state.store.list({ ...options, prefix: SHARD_PREFIX })) {
      yield { prefix: name.slice(SHARD_PREFIX.length), storedBytes: bytes };
    }
  }
}
