/**
 * Shards that were read or written, so that an unchanged one is not downloaded again: in memory, bounded in bytes, the
 * least recently used going first; and on a disk, where a folder was given. One version of each shard, by its ETag: a
 * change drops that shard and nothing else. All index sessions of a repository share one cache.
 */
import { LRUCache } from 'lru-cache';
import type { LocationTable } from '../chunks/location.ts';
import type { DiskCache } from './disk-cache.ts';

export interface StoredShard {
  readonly table: LocationTable;
  readonly etag: string;
}

/** What an entry costs besides its table. */
const ENTRY_OVERHEAD_BYTES = 256;

export class ShardCache {
  readonly disk: DiskCache | undefined;
  readonly #memory: LRUCache<string, StoredShard>;

  constructor(bytesMax: number, disk?: DiskCache) {
    this.disk = disk;
    this.#memory = new LRUCache({
      maxSize: bytesMax,
      sizeCalculation: ({ table }) => table.bytes.length + ENTRY_OVERHEAD_BYTES,
    });
  }

  get bytes(): number {
    return this.#memory.calculatedSize;
  }

  get(prefix: string, etag: string): StoredShard | undefined {
    const shard = this.#memory.get(prefix);
    return shard?.etag === etag ? shard : undefined;
  }

  set(prefix: string, shard: StoredShard): void {
    this.#memory.set(prefix, shard);
  }

  delete(prefix: string): void {
    this.#memory.delete(prefix);
  }
}
