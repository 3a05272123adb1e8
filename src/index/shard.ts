/** What becomes of a shard when new locations arrive. Pure. */
import { type ChunkLocation, LocationTable } from '../chunks/location.ts';

export interface ShardMerge {
  readonly table: LocationTable;
  /** Locations that were not there before. 0 means that nothing needs to be written. */
  readonly added: number;
}

/** Adds locations to a shard. A chunk that is there already keeps its place: the index keeps one of two copies. */
export function mergeShard(shard: LocationTable | undefined, incoming: readonly ChunkLocation[]): ShardMerge {
  const known = shard === undefined ? [] : [...shard.locations()];
  const table = LocationTable.of([...known, ...incoming]);
  return { table, added: table.count - known.length };
}
