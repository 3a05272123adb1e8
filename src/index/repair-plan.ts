/**
 * What repair decides, over plain data: which of several places of a chunk the index names, whether a pointer can be
 * true of the tar chunk it points into, and which entries of the present shards stay. Pure.
 */
import { type ChunkLocation, LocationTable } from '../chunks/location.ts';
import { FRAME_RAW_BYTES_MAX } from '../sealing/frame.ts';
import type { Hash } from '../sealing/keys.ts';
import type { Tier } from '../storage/blob-store.ts';

/** What is known of a tar chunk that exists. */
export interface KnownTar {
  readonly bytes: number;
  readonly tier: Tier;
}

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
function isBefore(a: ChunkLocation, b: ChunkLocation): boolean {
  if (a.kind !== b.kind) return a.kind === 'large';
  if (a.blob !== b.blob) return a.blob < b.blob;
  if (a.frameOffset !== b.frameOffset) return a.frameOffset < b.frameOffset;
  return a.offsetInFrame < b.offsetInFrame;
}

/** One location for each chunk. */
export function choosePlaces(locations: Iterable<ChunkLocation>): Map<Hash, ChunkLocation> {
  const chosen = new Map<Hash, ChunkLocation>();
  for (const location of locations) {
    const known = chosen.get(location.hash);
    if (known === undefined || isBefore(location, known)) chosen.set(location.hash, location);
  }
  return chosen;
}

/** The entries of the present shards of a root that the listing did not prove: published since, or without a pointer. */
export function unprovedEntries(
  shards: Iterable<{ readonly prefix: string; readonly table: LocationTable | undefined }>,
  proved: ReadonlyMap<Hash, ChunkLocation>,
): ChunkLocation[] {
  const found: ChunkLocation[] = [];
  for (const { prefix, table } of shards) {
    for (const location of table?.locationsUnder(prefix) ?? []) if (!proved.has(location.hash)) found.push(location);
  }
  return found;
}

/** Locations packed at once, so that few of them are objects. */
const PACKED_AT_ONCE = 512;

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
  readonly #roots = new Map<number, { packed: LocationTable[]; open: ChunkLocation[]; count: number }>();

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

  add(location: ChunkLocation): void {
    const number = Number.parseInt(location.hash.slice(0, 2), 16);
    if (number < this.from || number >= this.#to || !this.#wanted(number)) return;
    let root = this.#roots.get(number);
    if (root === undefined) {
      root = { packed: [], open: [], count: 0 };
      this.#roots.set(number, root);
    }
    root.open.push(location);
    root.count += 1;
    this.#count += 1;
    if (root.open.length >= PACKED_AT_ONCE)
      root.packed.push(LocationTable.of(choosePlaces(root.open.splice(0)).values()));
    while (this.#count > this.#countMax && this.#to > this.from + 1) {
      this.#to -= 1;
      this.#count -= this.#roots.get(this.#to)?.count ?? 0;
      this.#roots.delete(this.#to);
    }
  }

  /** Hands over what was collected of a root. */
  *take(number: number): Generator<ChunkLocation> {
    const root = this.#roots.get(number);
    this.#roots.delete(number);
    for (const table of root?.packed ?? []) yield* table.locations();
    yield* root?.open ?? [];
  }
}
