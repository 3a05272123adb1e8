/**
 * What processes that died left half done: partitions that no manifest names, filters of partitions that are gone, and retired
 * partitions that are not deleted.
 *
 * Whoever made a partition may be about to name it, however long it took: so a partition that is to be deleted is first named
 * as retired, in the manifest, where its maker meets it. Nothing is ever deleted that a manifest could still come to name.
 */
import pMap from 'p-map';
import type { BlobItem, CallOptions } from '../storage/blob-store.ts';
import { type BatchInfo, infoOf } from './batch-info.ts';
import { examinePartition } from './found-partition.ts';
import type { JournalParts } from './journal-parts.ts';
import type { Manifest } from './manifest.ts';
import { withDiscarded, withFound, withoutRetired, withoutSpentMarks } from './manifest-steps.ts';
import { deletePartition, listJournal } from './partition-blob.ts';

const DELETES_IN_FLIGHT = 16;
/** A partition that no manifest names is left alone for so long: someone may be about to name it. */
const STRAY_AGE_MS_MIN = 10 * 60 * 1000;

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
    if (partition !== undefined) adopted.push(...(await takeUpStray(parts, partition, item, options)));
  }
  return adopted;
}

async function takeUpStray(
  parts: JournalParts,
  blob: string,
  item: BlobItem,
  options?: CallOptions,
): Promise<BatchInfo[]> {
  const { state, source, manifests, now } = parts;
  const found = await examinePartition(state, source, blob, { ...options, now });
  const at = item.lastModified.toISOString();
  // Only a log was ever acknowledged by itself. A leave, a rejoin and a compaction count from when the manifest names them.
  const step = (current: Manifest) =>
    found.is === 'log' ? withFound(current, blob, at, found.sealed) : withDiscarded(current, blob, at);
  const { manifest, changed } = await manifests.update(step, options);
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

/** Deletes what is retired, then retires the marks that nothing needs any more; the next call deletes those. */
export async function deleteRetired(parts: JournalParts, options?: CallOptions): Promise<void> {
  const { state, source, manifests } = parts;
  const { manifest } = await manifests.load(options);
  const retired = manifest.partitions.filter((each) => each.state === 'retired').map(({ blob }) => blob);
  if (retired.length > 0) {
    await pMap(retired, (blob) => deletePartition(state, source, blob, options), { concurrency: DELETES_IN_FLIGHT });
    const gone = new Set(retired);
    await manifests.update((current) => withoutRetired(current, gone), options);
  }
  if (manifest.partitions.some(({ mark }) => mark !== undefined)) await manifests.update(withoutSpentMarks, options);
}
