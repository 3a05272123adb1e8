/** What becomes of shards when locations arrive, are pushed down, or are laid out anew. Pure. */
import { type ChunkLocation, LocationTable } from '../chunks/location.ts';
import { hexDigits } from './root-view.ts';

/** A shard over this many entries splits sixteen ways: 192 KiB, so that one read answers a lookup. */
export const SHARD_ENTRIES_MAX = 2_048;

export interface ShardMerge {
  readonly table: LocationTable;
  /** Locations that were not there before. */
  readonly added: number;
  /** False: nothing needs to be written. */
  readonly changed: boolean;
}

/** Adds locations to a shard. A chunk that is there already keeps its place: the index keeps one of two copies. */
export function mergeShard(shard: LocationTable | undefined, incoming: readonly ChunkLocation[]): ShardMerge {
  const arriving = LocationTable.of(incoming);
  const table = shard === undefined ? arriving : LocationTable.merge([shard, arriving]);
  const added = table.count - (shard?.count ?? 0);
  return { table, added, changed: added > 0 };
}

/** The same for locations from a parent: they win, so that a lookup answers the same before and after a split. */
export function mergeFromParent(shard: LocationTable | undefined, incoming: readonly ChunkLocation[]): ShardMerge {
  const arriving = LocationTable.of(incoming);
  const table = shard === undefined ? arriving : LocationTable.merge([arriving, shard]);
  const changed = shard === undefined || !table.bytes.equals(shard.bytes);
  return { table, added: table.count - (shard?.count ?? 0), changed };
}

/**
 * Cuts all locations of a root (or of any prefix) into the shards that splitting would make of them: none over the
 * threshold, none that overlaps another, none empty.
 */
export function planShards(
  prefix: string,
  locations: LocationTable,
  entriesMax: number = SHARD_ENTRIES_MAX,
): Map<string, LocationTable> {
  const planned = new Map<string, LocationTable>();
  const cut = (under: string): void => {
    const count = locations.countUnder(under);
    if (count === 0) return;
    if (count <= entriesMax) planned.set(under, locations.under(under));
    else for (const digit of hexDigits) cut(under + digit);
  };
  cut(prefix);
  return planned;
}
