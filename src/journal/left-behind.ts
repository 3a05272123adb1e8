/**
 * What processes that died left half done: partitions that no manifest names, filters of partitions that are gone, and retired
 * partitions that are not deleted.
 *
 * Whoever made a partition may be about to name it, however long it took: so a partition that is to be deleted is first named
 * as retired, in the manifest, where its maker meets it. Nothing is ever deleted that a manifest could still come to name.
 */
import pMap from 'p-map';
import { type BlobItem, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import { type BatchInfo, infoOf } from './batch-info.ts';
import { examinePartition } from './found-partition.ts';
import type { JournalParts } from './journal-parts.ts';
import { type Manifest, partitionOfBlob } from './manifest.ts';
import {
  type FoundCompacted,
  withDiscarded,
  withFound,
  withoutLeft,
  withoutRetired,
  withoutSpentMarks,
  withTakenUp,
} from './manifest-steps.ts';
import { deletePartition, listJournal, listPartitions, partitionExists } from './partition-blob.ts';

const DELETES_IN_FLIGHT = 16;
/** A partition that no manifest names is left alone for so long: someone may be about to name it. */
const STRAY_AGE_MS_MIN = 10 * 60 * 1000;
/** What was left can be rejoined for so long. */
const LEFT_KEPT_MS = 7 * 24 * 60 * 60 * 1000;

/** Takes up what no manifest names. @returns the batches that came to be. */
export async function takeUpStrays(parts: JournalParts, options?: CallOptions): Promise<BatchInfo[]> {
  const { state, source, manifests } = parts;
  const { manifest } = await manifests.load(options);
  const named = new Set(manifest.partitions.map(({ blob }) => blob));
  const adopted: BatchInfo[] = [];
  let lastPartition: string | undefined;
  // A filter follows its partition in the listing.
  for await (const { partition, filterOf, item } of listJournal(state, source, options)) {
    if (partition !== undefined) lastPartition = partition;
    const blob = partition ?? filterOf;
    if (named.has(blob) || !isOld(parts, item)) continue;
    if (filterOf !== undefined && filterOf !== lastPartition) await state.delete(item.name, options);
    if (partition !== undefined) adopted.push(...(await takeUpStray(parts, manifest, partition, item, options)));
  }
  return adopted;
}

/** @param manifest as it was before any stray was taken up. */
async function takeUpStray(
  parts: JournalParts,
  { next }: Manifest,
  blob: string,
  item: BlobItem,
  options?: CallOptions,
): Promise<BatchInfo[]> {
  const { state, source, manifests, now } = parts;
  const found = await examinePartition(state, source, blob, { ...options, now });
  const at = item.lastModified.toISOString();
  if (found.is === 'compacted' || found.is === 'broken') {
    const replaces = found.is === 'compacted' ? new Set(found.end.replaces) : undefined;
    const compacted = {
      blob,
      created: at,
      sealed: found.sealed,
      replaces,
      isUnknown: (partitionOfBlob(blob) ?? 0) >= next,
    };
    return await takeUpCompacted(parts, compacted, options);
  }
  // Only a log was ever acknowledged by itself. A leave or a rejoin counts from when the manifest names it.
  const step = async (current: Manifest) => {
    if (!(await partitionExists(state, source, blob, options))) return undefined;
    return found.is === 'log' ? withFound(current, blob, at, found.sealed) : withDiscarded(current, blob, at);
  };
  return infoIfSealed(blob, await manifests.update(step, options));
}

/** A compacted partition counts from when the manifest names it: before, all that it stands for is there, or was published. */
async function takeUpCompacted(
  { state, source, manifests }: JournalParts,
  compacted: FoundCompacted,
  options?: CallOptions,
): Promise<BatchInfo[]> {
  const { blob } = compacted;
  const step = async (current: Manifest) => {
    const existing = new Set(await Array.fromAsync(listPartitions(state, source, options), (each) => each.blob));
    return existing.has(blob) ? withTakenUp(current, compacted, (each) => !existing.has(each)) : undefined;
  };
  return infoIfSealed(blob, await manifests.update(step, options));
}

function infoIfSealed(blob: string, { manifest, changed }: { manifest: Manifest; changed: boolean }): BatchInfo[] {
  const entry = manifest.partitions.find((each) => each.blob === blob);
  return changed && entry?.state === 'sealed' ? [infoOf(entry)] : [];
}

/** Deletes a partition that this process made and could not name: another was faster. */
export async function deleteUnnamed(parts: JournalParts, blob: string, options?: CallOptions): Promise<void> {
  const { state, source, manifests } = parts;
  // The refusal may have been that of a repeated request whose first answer was lost, and others wrote since.
  const { manifest } = await manifests.load(options);
  if (manifest.partitions.some((each) => each.blob === blob)) return;
  await deletePartition(state, source, blob, options);
}

/** By the clock of this machine: when that runs far behind the service, «far in the future» is no reason to wait for ever. */
function isOld({ now }: JournalParts, { lastModified }: BlobItem): boolean {
  return Math.abs(now().getTime() - lastModified.getTime()) >= STRAY_AGE_MS_MIN;
}

/** Deletes what is retired. Before it retires what was left for long; after it, marks that nothing needs any more. */
export async function deleteRetired(parts: JournalParts, options?: CallOptions): Promise<void> {
  const { state, source, manifests, now } = parts;
  let { manifest } = await manifests.load(options);
  const hasMarks = manifest.partitions.some(({ mark }) => mark !== undefined);
  const before = (time: Date) => new Date(time.getTime() - LEFT_KEPT_MS).toISOString();
  // What this machine takes for the time is asked first, for it costs nothing, and is not believed.
  if (hasMarks && withoutLeft(manifest, before(now())) !== undefined) {
    const leftBefore = before(await manifests.serviceTime(options));
    ({ manifest } = await manifests.update((current) => withoutLeft(current, leftBefore), options));
  }
  const retired = manifest.partitions.filter((each) => each.state === 'retired').map(({ blob }) => blob);
  if (retired.length > 0) {
    const gone = new Set<string>();
    await pMap(
      retired,
      async (blob) => {
        try {
          await deletePartition(state, source, blob, options);
          gone.add(blob);
        } catch (error) {
          // Somebody keeps it by a lease: there is a next time.
          if (!isBlobFailure(error, 'leased')) throw error;
        }
      },
      { concurrency: DELETES_IN_FLIGHT },
    );
    await manifests.update((current) => withoutRetired(current, gone), options);
  }
  // These are deleted by the next call.
  if (hasMarks) await manifests.update(withoutSpentMarks, options);
}
