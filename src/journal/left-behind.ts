/** What processes that died left half done: partitions that no manifest names, and retired ones that are not deleted. */
import pMap from 'p-map';
import type { CallOptions } from '../storage/blob-store.ts';
import { type BatchInfo, infoOf } from './batch-info.ts';
import type { JournalParts } from './journal-parts.ts';
import { withFound, withoutRetired } from './manifest.ts';
import { deletePartition, listPartitions, sealPartition } from './partition-blob.ts';

const DELETES_IN_FLIGHT = 16;
/** A partition that no manifest names is left alone for so long: someone may be about to name it. */
const STRAY_AGE_MS_MIN = 10 * 60 * 1000;

/** Partitions that no manifest names: left by a process that died, or by a manifest that was lost. */
export async function adoptStrays(parts: JournalParts, options?: CallOptions): Promise<BatchInfo[]> {
  const { state, source, manifests, now } = parts;
  const { manifest } = await manifests.load(options);
  const known = new Set(manifest.partitions.map(({ blob }) => blob));
  const adopted: BatchInfo[] = [];
  for await (const { blob, item } of listPartitions(state, source, options)) {
    if (known.has(blob) || now().getTime() - item.lastModified.getTime() < STRAY_AGE_MS_MIN) continue;
    const sealed = await sealPartition(state, source, blob, { ...options, now });
    if (sealed === undefined) {
      await deletePartition(state, source, blob, options);
      continue;
    }
    const created = item.lastModified.toISOString();
    const result = await manifests.update((current) => withFound(current, blob, created, sealed), options);
    const entry = result.manifest.partitions.find((each) => each.blob === blob);
    if (result.changed && entry !== undefined) adopted.push(infoOf(entry));
  }
  return adopted;
}

export async function deleteRetired(parts: JournalParts, options?: CallOptions): Promise<void> {
  const { state, source, manifests } = parts;
  const { manifest } = await manifests.load(options);
  const retired = manifest.partitions.filter((each) => each.state === 'retired').map(({ blob }) => blob);
  if (retired.length === 0) return;
  await pMap(retired, (blob) => deletePartition(state, source, blob, options), {
    concurrency: DELETES_IN_FLIGHT,
  });
  await manifests.update((current) => withoutRetired(current, new Set(retired)), options);
}
