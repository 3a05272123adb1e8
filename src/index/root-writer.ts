/**
 * Merges locations into the shards of one root, splits what grows over the threshold, and heals what an interrupted
 * split left.
 *
 * Locations go to the shallowest shard on their path; where there is none, to a new one at the depth of its siblings (or
 * deeper, where more come than one shard may hold), created only after a fresh listing. A split writes all children before
 * it deletes the parent, with the ETag that was read: when that changed, it pushes down what came since and tries again. So
 * a location only ever moves to a deeper shard on its path and is never in none, and a reader that goes from the top down
 * cannot miss it. Whatever dies in between leaves parent and children side by side; a flush that touches the root pushes
 * such a parent down again.
 */
import pMap from 'p-map';
import { type ChunkLocation, LocationTable } from '../chunks/location.ts';
import type { Slots } from '../chunks/slots.ts';
import { FirnError } from '../errors.ts';
import type { Hash } from '../sealing/keys.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { type ListedShard, PREFIX_DIGITS_MIN, type RootView } from './root-view.ts';
import type { SessionViews } from './session-views.ts';
import { mergeFromParent, mergeShard, planShards, type ShardMerge } from './shard.ts';
import type { StoredShard } from './shard-cache.ts';
import type { ShardStore } from './shard-store.ts';

/**
 * Shards written at the same time by all flushes of a process, whatever roots they are of. Each writer holds what its
 * shard has (192 KiB, or more where a split has not followed yet) and what arrives for it, merged and sealed; only then
 * is it split.
 */
export const WRITERS_MAX = 64;
/** Compare-and-swap rounds on one root or shard. Each lost round means that another writer won one. */
const TRIES_MAX = 100;

type Merge = (shard: StoredShard['table'] | undefined, incoming: readonly ChunkLocation[]) => ShardMerge;

export interface RootWriterParts {
  readonly shards: ShardStore;
  readonly views: SessionViews;
  readonly entriesMax: number;
  /** Shared by all roots of all flushes. A writer holds one for a merge only, and never waits for another meanwhile. */
  readonly writers: Slots;
}

export class RootWriter {
  added = 0;
  shardsWritten = 0;
  conflicts = 0;
  readonly #root: string;
  readonly #parts: RootWriterParts;
  readonly #options: CallOptions | undefined;
  /** A shard is created only by a listing younger than this. */
  readonly #since: number;
  readonly #oversized = new Map<string, StoredShard>();

  constructor(root: string, parts: RootWriterParts, since: number, options: CallOptions | undefined) {
    this.#root = root;
    this.#parts = parts;
    this.#since = since;
    this.#options = options;
  }

  /** All of it is durable and in the index when this resolves. @throws FIRN_INDEX_CONTENDED and what storage throws. */
  async flush(locations: readonly ChunkLocation[]): Promise<void> {
    this.added += await this.#place(locations, PREFIX_DIGITS_MIN, mergeShard);
    await this.#splitOversized();
    const view = await this.#parts.views.current(this.#root, this.#options);
    for (const prefix of view.overlapping()) {
      const parent = await this.#parts.shards.load(prefix, this.#options);
      if (parent === undefined) this.#parts.views.drop(this.#root);
      else await this.#split(prefix, parent);
    }
  }

  async #splitOversized(): Promise<void> {
    for (;;) {
      const [next] = this.#oversized;
      if (next === undefined) return;
      const [prefix, shard] = next;
      this.#oversized.delete(prefix);
      await this.#split(prefix, shard);
    }
  }

  async #split(prefix: string, read: StoredShard): Promise<void> {
    const { shards, views } = this.#parts;
    const pushed = new Set<Hash>();
    let parent = read;
    for (let tries = 0; tries < TRIES_MAX; tries += 1) {
      const locations = [...parent.table.locations()].filter(({ hash }) => !pushed.has(hash));
      await this.#place(locations, prefix.length + 1, mergeFromParent);
      for (const { hash } of locations) pushed.add(hash);
      // While the parent is there, the next flush sees that the split is not finished.
      await this.#splitOversized();
      if (await shards.remove(prefix, parent.etag, this.#options)) {
        views.noteChange(prefix, parent.etag, undefined);
        return;
      }
      this.conflicts += 1;
      views.drop(this.#root);
      const now = await shards.load(prefix, this.#options);
      if (now === undefined) return;
      parent = now;
    }
    throw this.#contended(prefix);
  }

  /** Merges each location into its place at this depth or below; gives how many were new there. */
  async #place(locations: readonly ChunkLocation[], digits: number, merge: Merge): Promise<number> {
    let added = 0;
    let left = locations;
    for (let tries = 0; left.length > 0; tries += 1) {
      if (tries === TRIES_MAX) throw this.#contended(this.#root);
      this.#options?.signal?.throwIfAborted();
      const view = await this.#viewFor(left, digits);
      const lost: ChunkLocation[] = [];
      const failures: unknown[] = [];
      await pMap(
        this.#placesOf(left, view, digits),
        async ([prefix, group]) => {
          const release = await this.#parts.writers.acquire();
          try {
            const merged = await this.#mergeInto(prefix, view.get(prefix), group, merge);
            if (merged === undefined) lost.push(...group);
            else added += merged;
          } catch (error) {
            failures.push(error);
          } finally {
            release();
          }
        },
        { concurrency: WRITERS_MAX },
      );
      if (failures.length > 0) throw failures[0];
      left = lost;
      if (lost.length > 0) {
        this.conflicts += 1;
        this.#parts.views.drop(this.#root);
      }
    }
    return added;
  }

  /** The locations by the shard they go to. More than a new shard may hold are cut into those that it would split into. */
  #placesOf(locations: readonly ChunkLocation[], view: RootView, digits: number): Map<string, ChunkLocation[]> {
    const { entriesMax } = this.#parts;
    const places = Map.groupBy(locations, ({ hash }) => view.placeOf(hash, digits));
    for (const [prefix, group] of [...places]) {
      if (group.length <= entriesMax || view.get(prefix) !== undefined) continue;
      places.delete(prefix);
      for (const [below, table] of planShards(prefix, LocationTable.of(group), entriesMax)) {
        places.set(below, [...table.locations()]);
      }
    }
    return places;
  }

  /** A view of the root; a listing of this flush where a shard has to be created. */
  async #viewFor(locations: readonly ChunkLocation[], digits: number) {
    const { views } = this.#parts;
    const view = await views.current(this.#root, this.#options);
    if (locations.every(({ hash }) => view.get(view.placeOf(hash, digits)) !== undefined)) return view;
    return await views.current(this.#root, this.#options, this.#since);
  }

  /** @returns how many were new, or undefined when the shard is not what the view says: look again. */
  async #mergeInto(
    prefix: string,
    listed: ListedShard | undefined,
    locations: readonly ChunkLocation[],
    merge: Merge,
  ): Promise<number | undefined> {
    const { shards, views, entriesMax } = this.#parts;
    const shard = listed === undefined ? undefined : await shards.find(prefix, listed, this.#options);
    if (listed !== undefined && shard === undefined) return undefined;
    const { table, added, changed } = merge(shard?.table, locations);
    let etag = shard?.etag;
    if (changed) {
      const written = await shards.write(prefix, table, etag, this.#options);
      if (written === undefined) return undefined;
      views.noteChange(prefix, etag, written);
      etag = written.etag;
      this.shardsWritten += 1;
    }
    if (etag !== undefined && table.count > entriesMax) this.#oversized.set(prefix, { table, etag });
    return added;
  }

  #contended(shard: string): FirnError {
    return new FirnError('FIRN_INDEX_CONTENDED', { shard, tries: TRIES_MAX });
  }
}
