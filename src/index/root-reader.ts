/**
 * Reads the shards of one root from the top down: the shallowest on a path first, and on a miss those below it.
 *
 * A shard that vanished or changed since it was listed may have been split: after reading it the root is listed once
 * more, and the search goes on below, where the split has put its entries. Entries move down only, and each listing is
 * younger than the miss that called for it; so whatever was in the index when the view was listed is found, whatever
 * splits meanwhile.
 */
import pMap from 'p-map';
import { type ChunkLocation, LocationTable } from '../chunks/location.ts';
import type { Hash } from '../sealing/keys.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { hexDigits, rootOf } from './root-view.ts';
import type { SessionViews } from './session-views.ts';
import { mergeFromParent } from './shard.ts';
import type { ShardStore } from './shard-store.ts';

/** Shards below one prefix asked for at the same time; the shard store bounds the reads. */
const BRANCHES = 16;

export interface RootReaderParts {
  readonly shards: ShardStore;
  readonly views: SessionViews;
}

/** Calls `found` for each of these hashes, which are all of this root, that is in a shard. */
export async function lookupInRoot(
  parts: RootReaderParts,
  root: string,
  hashes: readonly Hash[],
  found: (location: ChunkLocation) => void,
  options?: CallOptions,
): Promise<void> {
  const seen = { vanished: false };
  const missing = await lookupUnder(parts, root, hashes, found, seen, options);
  // What vanished was split, and then nothing is found by this; or a repair laid out the root anew, also upwards.
  if (seen.vanished && missing.length > 0) await lookupUnder(parts, root, missing, found, seen, options);
}

/** @returns the hashes that were not found. */
async function lookupUnder(
  parts: RootReaderParts,
  prefix: string,
  hashes: readonly Hash[],
  found: (location: ChunkLocation) => void,
  seen: { vanished: boolean },
  options: CallOptions | undefined,
): Promise<readonly Hash[]> {
  const goesOn = (table: LocationTable | undefined) => hashes.some((hash) => table?.find(hash) === undefined);
  const { table, hasBelow, vanished } = await readLevel(parts, prefix, goesOn, options);
  if (vanished) seen.vanished = true;
  const missing: Hash[] = [];
  for (const hash of hashes) {
    const location = table?.find(hash);
    if (location) found(location);
    else missing.push(hash);
  }
  if (missing.length === 0 || !hasBelow) return missing;
  const left = await pMap(
    Map.groupBy(missing, (hash) => hash.slice(0, prefix.length + 1)),
    async ([below, group]) => await lookupUnder(parts, below, group, found, seen, options),
    { concurrency: BRANCHES },
  );
  return left.flat();
}

/**
 * All locations under a prefix, as tables in ascending order that do not overlap: each chunk once, as a lookup would
 * find it. Memory holds the shards on one path.
 */
export async function* tablesUnder(
  parts: RootReaderParts,
  prefix: string,
  options?: CallOptions,
  fromAbove?: LocationTable,
): AsyncGenerator<LocationTable> {
  const { table, hasBelow } = await readLevel(parts, prefix, () => true, options);
  const merged = fromAbove === undefined ? table : mergeFromParent(table, [...fromAbove.locations()]).table;
  if (!hasBelow) {
    if (merged !== undefined && merged.count > 0) yield merged;
    return;
  }
  for (const digit of hexDigits) {
    const own = merged && LocationTable.of(merged.locationsUnder(prefix + digit));
    yield* tablesUnder(parts, prefix + digit, options, own?.count === 0 ? undefined : own);
  }
}

interface Level {
  readonly table: LocationTable | undefined;
  /** Whether there are shards below, as of a moment not before this one was read. */
  readonly hasBelow: boolean;
  /** It was listed, and is not there. */
  readonly vanished: boolean;
}

async function readLevel(
  { shards, views }: RootReaderParts,
  prefix: string,
  goesOn: (table: LocationTable | undefined) => boolean,
  options: CallOptions | undefined,
): Promise<Level> {
  const view = await views.current(rootOf(prefix), options);
  const listed = view.get(prefix);
  if (listed === undefined) return { table: undefined, hasBelow: view.hasBelow(prefix), vanished: false };
  const shard = await shards.find(prefix, listed, options);
  const vanished = shard === undefined;
  const table = shard?.table;
  if (shard?.etag === listed.etag) return { table, hasBelow: view.hasBelow(prefix), vanished };
  if (!goesOn(table)) return { table, hasBelow: false, vanished };
  const now = await views.relist(rootOf(prefix), options);
  return { table, hasBelow: now.hasBelow(prefix), vanished };
}
