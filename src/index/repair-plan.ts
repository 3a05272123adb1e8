/**
 * What repair decides, over plain data: which of several places of a chunk the index names, whether a pointer can be
 * true of the tar chunk it points into, and which entries of the present shards stay. Pure.
 */
import { type ChunkLocation, LocationTable } from '../chunks/location.ts';
import { FRAME_RAW_BYTES_MAX } from '../sealing/frame.ts';
import type { Hash } from '../sealing/keys.ts';
import type { KnownTar } from './known-tars.ts';
import { rootNumberOf } from './root-view.ts';

/** Why a place in a tar chunk makes no sense whatever that tar chunk is; undefined when it can be. */
export function placeProblem({ frameBytes, offsetInFrame, rawBytes }: ChunkLocation): string | undefined {
  if (frameBytes < 1) return 'it points at a frame of no bytes';
  if (offsetInFrame + rawBytes > FRAME_RAW_BYTES_MAX) return 'it points behind the end of any frame';
  return undefined;
}

/** Why a pointer into this tar chunk cannot be true; undefined when it can. */
export function pointerProblem(location: ChunkLocation, tar: KnownTar | undefined): string | undefined {
  const { frameOffset, frameBytes, blob } = location;
  if (tar === undefined) return `the tar chunk ${blob} that it points into is missing`;
  if (frameOffset + frameBytes > tar.bytes) return `it points behind the end of the tar chunk ${blob}`;
  return placeProblem(location);
}

/** Of several copies of a chunk the same one is always taken, whatever order they were met in. */
export function isBefore(a: ChunkLocation, b: ChunkLocation): boolean {
  if (a.kind !== b.kind) return a.kind === 'large';
  if (a.blob !== b.blob) return a.blob < b.blob;
  if (a.frameOffset !== b.frameOffset) return a.frameOffset < b.frameOffset;
  return a.offsetInFrame < b.offsetInFrame;
}

/** One location for each chunk. */
function choosePlaces(locations: Iterable<ChunkLocation>): LocationTable {
  const chosen = new Map<Hash, ChunkLocation>();
  for (const location of locations) {
    const known = chosen.get(location.hash);
    if (known === undefined || isBefore(location, known)) chosen.set(location.hash, location);
  }
  return LocationTable.of(chosen.values());
}

/**
 * The entries of the present shards of a root that the listing did not prove: published since, or without a pointer. By
 * shard, since of two that know a chunk one may be wrong.
 */
export function unprovedEntries(
  shards: Iterable<{ readonly prefix: string; readonly table: LocationTable | undefined }>,
  proved: LocationTable,
): LocationTable[] {
  const found: LocationTable[] = [];
  for (const { prefix, table } of shards) if (table !== undefined) found.push(table.under(prefix).without(proved));
  return found;
}

/** Locations packed at once, so that few of them are objects. */
const PACKED_AT_ONCE = 128;

/** Locations as they come, packed; of several places of a chunk one. */
class PackedPlaces {
  readonly #packed: LocationTable[] = [];
  #open: ChunkLocation[] = [];
  added = 0;

  add(location: ChunkLocation): void {
    this.added += 1;
    this.#open.push(location);
    if (this.#open.length < PACKED_AT_ONCE) return;
    this.#packed.push(choosePlaces(this.#open));
    this.#open = [];
  }

  /** Leaves nothing behind. */
  take(): LocationTable {
    return LocationTable.merge([...this.#packed.splice(0), choosePlaces(this.#open.splice(0))], isBefore);
  }
}

/** What was collected of a root. */
export interface CollectedRoot {
  readonly proved: LocationTable;
  /** Not held to their tar chunks yet. Apart, so that one that proves wrong does not push out another. */
  readonly pointers: LocationTable;
}

/**
 * Locations of some roots, held in at most so many bytes: when they become more, the last roots are let go, to be
 * collected by a later pass; but never the first. So every root below `to` is complete, and the passes come to an end.
 */
export class RootCollector {
  readonly from: number;
  #to: number;
  #count = 0;
  readonly #countMax: number;
  readonly #wanted: (root: number) => boolean;
  readonly #roots = new Map<number, { readonly proved: PackedPlaces; readonly pointers: PackedPlaces }>();

  constructor(range: { from: number; to: number }, countMax: number, wanted: (root: number) => boolean = () => true) {
    this.#wanted = wanted;
    this.from = range.from;
    this.#to = range.to;
    this.#countMax = countMax;
  }

  /** The first root that is not held. */
  get to(): number {
    return this.#to;
  }

  add(location: ChunkLocation, as: keyof CollectedRoot): void {
    const number = rootNumberOf(location.hash);
    if (number < this.from || number >= this.#to || !this.#wanted(number)) return;
    let root = this.#roots.get(number);
    if (root === undefined) {
      root = { proved: new PackedPlaces(), pointers: new PackedPlaces() };
      this.#roots.set(number, root);
    }
    root[as].add(location);
    this.#count += 1;
    while (this.#count > this.#countMax && this.#to > this.from + 1) {
      this.#to -= 1;
      const last = this.#roots.get(this.#to);
      this.#count -= (last?.proved.added ?? 0) + (last?.pointers.added ?? 0);
      this.#roots.delete(this.#to);
    }
  }

  /** Hands over what was collected of a root. */
  take(number: number): CollectedRoot {
    const root = this.#roots.get(number);
    this.#roots.delete(number);
    const none = LocationTable.of([]);
    return { proved: root?.proved.take() ?? none, pointers: root?.pointers.take() ?? none };
  }
}
