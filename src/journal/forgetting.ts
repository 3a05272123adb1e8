/**
 * Forgetting a batch whose partition is lost: the manifest names it, and its blob is gone. Batches are published in their
 * order, so it holds up its source, and no program can know what it said; a person decides to go on without it. What the
 * manifest knew of it is written down first, among what was set aside.
 */
import { FirnError } from '../errors.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import type { JournalParts } from './journal-parts.ts';
import { deleteRetired } from './left-behind.ts';
import { batchName } from './manifest.ts';
import { withRetired } from './manifest-steps.ts';
import { partitionExists } from './partition-blob.ts';
import { noteForgotten } from './set-aside.ts';

/** @throws FIRN_BLOB_MISSING when there is no such batch; FIRN_USAGE when its partition is there. */
export async function forgetBatch(parts: JournalParts, batch: string, options?: CallOptions): Promise<void> {
  const { state, source, manifests } = parts;
  const { manifest } = await manifests.load(options);
  const entry = manifest.partitions.find((each) => each.state === 'sealed' && !each.mark && batchName(each) === batch);
  if (entry === undefined) throw new FirnError('FIRN_BLOB_MISSING', { blob: `batch ${batch} of ${source}` });
  if (await partitionExists(state, source, entry.blob, options)) {
    throw new FirnError('FIRN_USAGE', { problem: `The batch ${batch} of ${source} is not lost: it can be archived.` });
  }
  await noteForgotten(parts, entry, options);
  await manifests.update((current) => withRetired(current, new Set([batch])), options);
  await deleteRetired(parts, options);
}
