/**
 * A manifest made anew from the partitions. Pure.
 *
 * Everything that is whole becomes a batch again, in the order of the numbers, also what was published and not deleted yet:
 * nothing is lost, and something may be archived twice. A compacted partition that has its end stands for those that it
 * replaces, if it has all its records; one without its end is not whole and goes, unless it is sealed: then its end was damaged,
 * and it may be all that is left of what it replaced. A leave holds for what has a smaller number, unless a rejoin follows.
 */
import type { FoundPartition } from './found-partition.ts';
import { emptyManifest, type Manifest } from './manifest.ts';
import { withDiscarded, withFound, withRejoined } from './manifest-steps.ts';

export interface FoundBlob {
  /** Without the folder. */
  readonly blob: string;
  /** RFC 3339, UTC. */
  readonly lastModified: string;
  readonly found: FoundPartition;
}

/** @param blobs in the order of their names. */
export function rebuildManifest(blobs: readonly FoundBlob[]): Manifest {
  const replaced = new Set(blobs.flatMap(({ found }) => (found.is === 'compacted' ? found.end.replaces : [])));
  let manifest = emptyManifest;
  for (const { blob, lastModified, found } of blobs) {
    // One without records may belong to someone who is about to name it in the first manifest of this journal.
    if (found.is === 'empty' || found.is === 'gone') continue;
    const goes = replaced.has(blob) || found.is === 'unfinished';
    manifest =
      (goes ? withDiscarded(manifest, blob, lastModified) : taken(manifest, blob, lastModified, found)) ?? manifest;
  }
  return withRejoined(manifest) ?? manifest;
}

function taken(
  manifest: Manifest,
  blob: string,
  created: string,
  found: Exclude<FoundPartition, { is: 'empty' } | { is: 'gone' } | { is: 'unfinished' }>,
): Manifest | undefined {
  if (found.is === 'mark') return withFound(manifest, blob, created, { ...found.sealed, mark: found.mark });
  if (found.is === 'compacted') return withFound(manifest, blob, created, { ...found.sealed, compacted: true });
  return withFound(manifest, blob, created, found.sealed);
}
