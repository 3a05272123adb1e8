/**
 * The write session: locations of durable chunks that are not in the shards yet. They leave in one step, so that what is
 * recorded while a flush runs belongs to the next; while they are being flushed they are still found, and what could not
 * be flushed comes back. Pure.
 */
import type { ChunkLocation } from '../chunks/location.ts';
import type { Hash } from '../sealing/keys.ts';

export class Recorded {
  #open = new Map<Hash, ChunkLocation>();
  readonly #leaving = new Set<ReadonlyMap<Hash, ChunkLocation>>();

  get count(): number {
    return this.#open.size;
  }

  find(hash: Hash): ChunkLocation | undefined {
    const open = this.#open.get(hash);
    if (open !== undefined) return open;
    for (const set of this.#leaving) {
      const found = set.get(hash);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** The first location of a chunk stays. */
  add(locations: Iterable<ChunkLocation>): void {
    for (const location of locations) if (!this.#open.has(location.hash)) this.#open.set(location.hash, location);
  }

  /** Hands the set to the caller, who answers for it, and begins a new one. */
  take(): ChunkLocation[] {
    const taken = this.#open;
    this.#open = new Map();
    return [...taken.values()];
  }

  /** The same for a flush: what it took is found until `work` ends; then what `work` gives back is open again. */
  async leave(work: (leaving: ChunkLocation[]) => Promise<readonly ChunkLocation[]>): Promise<void> {
    const leaving = this.#open;
    this.#open = new Map();
    this.#leaving.add(leaving);
    let left: Iterable<ChunkLocation> = leaving.values();
    try {
      left = await work([...leaving.values()]);
    } finally {
      this.add(left);
      this.#leaving.delete(leaving);
    }
  }
}
