/**
 * Shards on storage, read through the cache. Shards change by compare-and-swap only: `write` and `remove` take effect on
 * the version that was read, or not at all. What is read is checked: the seal binds it to its name, the table to its
 * format, the entries to the prefix. A shard that is damaged says so with advice to rebuild it.
 */
import { LocationTable } from '../chunks/location.ts';
import { createSharedCalls, type SharedCalls } from '../chunks/shared-calls.ts';
import { createSlots } from '../chunks/slots.ts';
import { FirnError, isFirnError } from '../errors.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import { type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import { isShardPrefix, type ListedShard } from './root-view.ts';
import type { ShardCache, StoredShard } from './shard-cache.ts';

export const SHARD_PREFIX = 'chunk-index/';

/** Shards read from storage at the same time. */
const READS_IN_FLIGHT_MAX = 16;

const REBUILD = 'Rebuild the chunk index from the chunk blobs with `firn repair-index`, then try again.';
const NEWER = 'Use a newer Firn for this repository. Should the shard be damaged, rebuild it with `firn repair-index`.';

/** Whether all chunks of a shard have its prefix; no reader takes one where they do not. */
export function isOfPrefix(prefix: string, table: LocationTable): boolean {
  const ends = table.count === 0 ? [] : [0, table.count - 1];
  return ends.every((at) => table.location(at).hash.startsWith(prefix));
}

/**
 * Writes a shard over the version with this ETag (`undefined`: there must be none).
 * @returns undefined when another writer was faster.
 */
export async function writeShard(
  state: SealedBlobs,
  prefix: string,
  table: LocationTable,
  over: string | undefined,
  options?: CallOptions,
): Promise<{ etag: string; sealed: Buffer } | undefined> {
  const name = SHARD_PREFIX + prefix;
  const sealed = await state.seal('shard', name, table.bytes);
  try {
    const { etag } =
      over === undefined
        ? await state.store.create(name, sealed, options)
        : await state.store.replace(name, sealed, { ...options, ifMatch: over });
    return { etag, sealed };
  } catch (error) {
    if (isBlobFailure(error, 'exists', 'changed', 'missing')) return undefined;
    throw error;
  }
}

/** Deletes the shard with this ETag; `gone` when it was not there any more. */
export async function removeShard(
  state: SealedBlobs,
  prefix: string,
  etag: string,
  options?: CallOptions,
): Promise<'removed' | 'gone' | 'changed'> {
  try {
    return (await state.store.delete(SHARD_PREFIX + prefix, { ...options, ifMatch: etag })) ? 'removed' : 'gone';
  } catch (error) {
    if (isBlobFailure(error, 'changed')) return 'changed';
    throw error;
  }
}

export class ShardStore {
  readonly #state: SealedBlobs;
  readonly #cache: ShardCache;
  readonly #reads: SharedCalls<StoredShard | undefined> = createSharedCalls();
  readonly #slots = createSlots(READS_IN_FLIGHT_MAX);

  constructor(state: SealedBlobs, cache: ShardCache) {
    this.#state = state;
    this.#cache = cache;
  }

  /**
   * The shard, from the cache where that holds the version that was listed, else as it is on storage now (maybe of
   * another ETag); undefined when there is none. Callers that ask at the same time share one read.
   * @throws FIRN_SEAL_BROKEN, FIRN_BLOB_DAMAGED, FIRN_REPOSITORY_NEWER, FIRN_BLOB_OFFLINE.
   */
  async find(prefix: string, listed: ListedShard, options?: CallOptions): Promise<StoredShard | undefined> {
    const hit = this.#cache.get(prefix, listed.etag);
    if (hit !== undefined) return hit;
    return await this.#reads.join(
      `${prefix} ${listed.etag}`,
      async (signal) => (await this.#fromDisk(prefix, listed)) ?? (await this.load(prefix, { signal })),
      options?.signal,
    );
  }

  /** The shard as it is on storage now; undefined when there is none. Fails as `find` does. */
  async load(prefix: string, options?: CallOptions): Promise<StoredShard | undefined> {
    const release = await this.#slots.acquire();
    try {
      const { body, properties } = await this.#state.store.read(SHARD_PREFIX + prefix, options);
      const shard = { table: await this.#open(prefix, body), etag: properties.etag };
      this.#cache.set(prefix, shard);
      await this.#cache.disk?.write(prefix, shard.etag, body);
      return shard;
    } catch (error) {
      if (isBlobFailure(error, 'offline')) {
        throw new FirnError('FIRN_BLOB_OFFLINE', { blob: SHARD_PREFIX + prefix }, { cause: error, advice: REBUILD });
      }
      if (!isBlobFailure(error, 'missing')) throw error;
      this.#cache.delete(prefix);
      return undefined;
    } finally {
      release();
    }
  }

  /**
   * Writes a shard over the version with this ETag (`undefined`: there must be none).
   * @returns undefined when another writer was faster: look again.
   */
  async write(
    prefix: string,
    table: LocationTable,
    over: string | undefined,
    options?: CallOptions,
  ): Promise<ListedShard | undefined> {
    const written = await writeShard(this.#state, prefix, table, over, options);
    if (written === undefined) return undefined;
    const { etag, sealed } = written;
    this.#cache.set(prefix, { table, etag });
    await this.#cache.disk?.write(prefix, etag, sealed);
    return { etag, storedBytes: sealed.length };
  }

  /** Deletes the shard with this ETag. @returns false when it changed; true when it is gone, by this call or another. */
  async remove(prefix: string, etag: string, options?: CallOptions): Promise<boolean> {
    if ((await removeShard(this.#state, prefix, etag, options)) === 'changed') return false;
    this.#cache.delete(prefix);
    await this.#cache.disk?.remove(prefix);
    return true;
  }

  /** The shards whose prefix begins so, in ascending order. Other blobs there are passed over. */
  async *list(under: string, options?: CallOptions): AsyncGenerator<{ prefix: string; shard: ListedShard }> {
    for await (const { name, etag, bytes } of this.#state.store.list({ ...options, prefix: SHARD_PREFIX + under })) {
      const prefix = name.slice(SHARD_PREFIX.length);
      if (isShardPrefix(prefix)) yield { prefix, shard: { etag, storedBytes: bytes } };
    }
  }

  async #fromDisk(prefix: string, listed: ListedShard): Promise<StoredShard | undefined> {
    const { disk } = this.#cache;
    const sealed = await disk?.read(prefix, listed);
    if (sealed === undefined) return undefined;
    try {
      const shard = { table: await this.#open(prefix, sealed), etag: listed.etag };
      this.#cache.set(prefix, shard);
      return shard;
    } catch (error) {
      // A damaged copy; storage has the shard itself.
      if (!isFirnError(error)) throw error;
      await disk?.remove(prefix);
      return undefined;
    }
  }

  async #open(prefix: string, sealed: Buffer): Promise<LocationTable> {
    const name = SHARD_PREFIX + prefix;
    try {
      const table = LocationTable.from(name, await this.#state.open('shard', name, sealed));
      if (isOfPrefix(prefix, table)) return table;
      throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem: 'it holds chunks of another prefix' });
    } catch (error) {
      if (isFirnError(error, 'FIRN_SEAL_BROKEN', 'FIRN_BLOB_DAMAGED', 'FIRN_REPOSITORY_NEWER')) {
        const advice = error.code === 'FIRN_REPOSITORY_NEWER' ? NEWER : REBUILD;
        throw new FirnError(error.code, error.details, { cause: error, advice });
      }
      throw error;
    }
  }
}
