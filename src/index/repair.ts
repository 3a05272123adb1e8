/**
 * Repair: brings the chunk index back from the chunk blobs, whatever state it is in. It may die anywhere and be run again,
 * and two may run at once.
 *
 *   1. the marker is set: from now on publishes and lookups refuse; who is under way is waited for (the caller's part);
 *   2. the chunk blobs are listed with their metadata (and pointers with a body read), root by root into memory;
 *   3. each root is rewritten (`repair-root.ts`), stale shards of it are deleted;
 *   4. the marker is removed, unless another repair has taken it over.
 *
 * Memory holds the locations of at most `locationsMax` chunks (96 bytes each), or of one root if that is more, and the
 * name of every tar chunk; and of the root that is being written some copies of its tables, but few locations as objects.
 * What does not fit is left to a further pass over the listings. What cannot be understood is set aside and reported; it
 * stops nothing, and nothing in the data container is changed.
 *
 * A flush that began before the marker may still write. It can only write over a version that it read, as repair does,
 * so neither loses what the other wrote. A lock (the caller's) keeps two repairs from doing the same work; without it
 * they come to the same.
 */

import { chunkBlobName } from '../chunks/chunk-blobs.ts';
import { LocationTable } from '../chunks/location.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { KnownTars } from './known-tars.ts';
import { removeRepairMarker, takeRepairMarker } from './marker.ts';
import { isBefore, pointerProblem, RootCollector } from './repair-plan.ts';
import { type RepairParts, type RootRepairOptions, repairRoot } from './repair-root.ts';
import { Quarantine, type QuarantinedBlob, type Survey, surveyAll, surveyRest } from './repair-survey.ts';
import { allRoots, isShardPrefix, rootNumberOf } from './root-view.ts';
import { removeShard, SHARD_PREFIX } from './shard-store.ts';

/** 96 MiB of locations. */
export const LOCATIONS_MAX = 1024 * 1024;

export interface RepairProgress {
  readonly listed: number;
  readonly roots: number;
}

export interface RepairOptions extends RootRepairOptions {
  /** Roots to repair; all where undefined. */
  readonly roots?: readonly string[] | undefined;
  /** Who repairs, for people. */
  readonly owner: string;
  readonly now?: () => Date;
  /** Called when the marker is set, before anything is read or changed; what it throws ends the repair. */
  readonly onMarked?: () => Promise<void>;
  /** Locations in memory at once; see above. */
  readonly locationsMax?: number;
  readonly onProgress?: (progress: RepairProgress) => void;
}

export interface RepairReport {
  /** Roots that were repaired. */
  readonly roots: number;
  /** Blobs that were listed under `chunks/` and `thin/`. */
  readonly listed: number;
  /** Entries of the index in these roots. */
  readonly entries: number;
  readonly shardsWritten: number;
  readonly shardsRemoved: number;
  /** Passes over the listings. */
  readonly passes: number;
  /** Blobs that were set aside. */
  readonly quarantinedCount: number;
  /** The first of them. */
  readonly quarantined: readonly QuarantinedBlob[];
  /** False when another repair took the marker over meanwhile: that one removes it. */
  readonly finished: boolean;
}

/**
 * Rebuilds the index.
 * @throws FIRN_REPAIR_UNFINISHED when a repair of more roots is unfinished, FIRN_REPOSITORY_NEWER when a shard is of a
 * newer Firn, FIRN_INDEX_CONTENDED, and storage errors. The marker then stays: run it again.
 */
export async function repairIndex(parts: RepairParts, options: RepairOptions): Promise<RepairReport> {
  const { roots, owner, onProgress, signal, shardEntriesMax } = options;
  const call = { signal };
  const started = (options.now?.() ?? new Date()).toISOString();
  const marker = await takeRepairMarker(parts.state.store, { started, owner, roots }, call);
  try {
    await options.onMarked?.();
  } catch (error) {
    // Nothing was changed yet: the index is as it was, unless it was under repair before.
    if (marker.isNew) await removeRepairMarker(parts.state.store, marker);
    throw error;
  }

  const numbers = roots?.map(rootNumberOf);
  const inRepair = (root: number) => numbers === undefined || numbers.includes(root);
  const last = numbers === undefined ? allRoots.length : Math.max(...numbers) + 1;
  const quarantine = new Quarantine();
  const tars = new KnownTars();
  const totals = { listed: 0, roots: 0, entries: 0, shardsWritten: 0, shardsRemoved: 0, passes: 0 };
  const progress = () => onProgress?.({ listed: totals.listed, roots: totals.roots });

  let from = numbers === undefined ? 0 : Math.min(...numbers);
  while (from < last) {
    const collector = new RootCollector({ from, to: last }, options.locationsMax ?? LOCATIONS_MAX, inRepair);
    const first = totals.passes === 0;
    const survey: Survey = {
      data: parts.data,
      tars,
      quarantine: first ? quarantine : undefined,
      inScope: (name) => roots === undefined || roots.some((root) => name.startsWith(chunkBlobName(root))),
      onListed() {
        if (first) totals.listed += 1;
        progress();
      },
    };
    await (first ? surveyAll : surveyRest)(survey, collector, call);
    totals.passes += 1;
    for (; from < collector.to; from += 1) {
      const root = allRoots[from];
      if (root === undefined || !inRepair(from)) continue;
      const { proved, pointers } = collector.take(from);
      const held = heldToTars(pointers, tars, quarantine);
      const { entries, written, removed } = await repairRoot(
        parts,
        root,
        LocationTable.merge([proved, held], isBefore),
        tars,
        { signal, shardEntriesMax },
      );
      totals.roots += 1;
      totals.entries += entries;
      totals.shardsWritten += written;
      totals.shardsRemoved += removed;
      progress();
    }
  }
  if (roots === undefined) totals.shardsRemoved += await removeStrays(parts, call);
  const finished = await removeRepairMarker(parts.state.store, marker, call);
  return { ...totals, quarantinedCount: quarantine.count, quarantined: quarantine.named, finished };
}

/** Pointers from blobs of their own come before the tar chunks in the listing, so they are held to them here. */
function heldToTars(pointers: LocationTable, tars: KnownTars, quarantine: Quarantine): LocationTable {
  return pointers.map((location) => {
    const tar = tars.get(location.blob);
    const problem = pointerProblem(location, tar);
    // The tier may have changed since the pointer was written.
    if (tar !== undefined && problem === undefined) return { ...location, tier: tar.tier };
    if (problem !== undefined) quarantine.add(chunkBlobName(location.hash), problem);
    return undefined;
  });
}

/** Blobs among the shards that no reader would look at. */
async function removeStrays({ state }: RepairParts, options: CallOptions): Promise<number> {
  let removed = 0;
  for await (const { name, etag } of state.store.list({ ...options, prefix: SHARD_PREFIX })) {
    const prefix = name.slice(SHARD_PREFIX.length);
    if (!isShardPrefix(prefix) && (await removeShard(state, prefix, etag, options)) === 'removed') removed += 1;
  }
  return removed;
}
