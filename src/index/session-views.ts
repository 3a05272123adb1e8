/**
 * What one session knows of the layout: one listing for the run while the index has few shards, one for each root that
 * is touched when it has many. A listing costs no shard its download: ETags tell which of them changed.
 *
 * A view follows the session's own writes only where they replaced exactly what it lists; any other surprise drops the
 * view of that root, and the next use lists it again. So a view is always what storage was at some moment, or later.
 */
import { LRUCache } from 'lru-cache';
import { createSharedCalls, type SharedCalls } from '../chunks/shared-calls.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { allRoots, type ListedShard, RootView, rootOf } from './root-view.ts';
import type { ShardStore } from './shard-store.ts';

/** One page of a listing: so many shards are listed at once, more of them root by root. */
export const LISTED_AT_ONCE_MAX = 5_000;
/** Names of shards kept; each costs about 200 bytes. */
const NAMES_KEPT_MAX = 250_000;

interface Known {
  readonly view: RootView;
  /** When its listing began, as a count of the things that happened in this session. */
  readonly since: number;
}

export class SessionViews {
  readonly #shards: ShardStore;
  readonly #known = new LRUCache<string, Known>({
    maxSize: NAMES_KEPT_MAX,
    sizeCalculation: ({ view }) => view.size + 1,
  });
  readonly #listings: SharedCalls<boolean> = createSharedCalls();
  /** When this session last wrote to a root. */
  readonly #written = new Map<string, number>();
  #now = 0;
  #wholeTried = false;

  constructor(shards: ShardStore) {
    this.#shards = shards;
  }

  /** A moment, to ask for views that were listed after it. */
  moment(): number {
    this.#now += 1;
    return this.#now;
  }

  /** The root's shards, listed after the moment where one is given. */
  async current(root: string, options?: CallOptions, after = 0): Promise<RootView> {
    const fresh = () => {
      const known = this.#known.get(root);
      return known !== undefined && known.since >= after ? known.view : undefined;
    };
    const view = fresh();
    if (view !== undefined) return view;
    if (!this.#wholeTried) {
      await this.#listings.join('whole', async (signal) => await this.#listWhole({ signal }), options?.signal);
    }
    return fresh() ?? (await this.relist(root, options));
  }

  /** The root's shards as they are now. */
  async relist(root: string, options?: CallOptions): Promise<RootView> {
    const since = this.moment();
    const view = new RootView();
    for await (const { prefix, shard } of this.#shards.list(root, options)) view.set(prefix, shard);
    this.#keep(root, { view, since });
    return view;
  }

  /** Forgets what is known of a root. */
  drop(root: string): void {
    this.#known.delete(root);
  }

  /** A shard was written over this version (or none was there), or removed. */
  noteChange(prefix: string, over: string | undefined, now: ListedShard | undefined): void {
    const root = rootOf(prefix);
    this.#written.set(root, this.moment());
    const known = this.#known.get(root);
    if (known === undefined) return;
    if (known.view.get(prefix)?.etag !== over) this.drop(root);
    else if (now === undefined) known.view.delete(prefix);
    else known.view.set(prefix, now);
  }

  async #listWhole(options: CallOptions): Promise<boolean> {
    const since = this.moment();
    const views = new Map(allRoots.map((root) => [root, new RootView()]));
    let listed = 0;
    for await (const { prefix, shard } of this.#shards.list('', options)) {
      listed += 1;
      if (listed > LISTED_AT_ONCE_MAX) {
        this.#wholeTried = true;
        return false;
      }
      views.get(rootOf(prefix))?.set(prefix, shard);
    }
    for (const [root, view] of views) this.#keep(root, { view, since });
    this.#wholeTried = true;
    return true;
  }

  /** A listing that began before a write of this session may not know of it, and what is kept is older still. */
  #keep(root: string, known: Known): void {
    if (known.since < (this.#known.peek(root)?.since ?? 0)) return;
    if (known.since < (this.#written.get(root) ?? 0)) this.#known.delete(root);
    else this.#known.set(root, known);
  }
}
