/** Partitions on storage: creating, sealing, listing and deleting them. */
import { randomBytes } from 'node:crypto';
import { type BlobItem, type BlobStore, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import {
  journalPrefix,
  partitionBlobName,
  partitionDigits,
  partitionOfBlob,
  type SealedPartition,
} from './manifest.ts';
import { encodeHeader, headerBytes } from './partition.ts';
import { PartitionCount } from './partition-count.ts';
import { filterBlobName, writeFilter } from './partition-filter.ts';

/** Creates a partition that holds its header only. @returns the name of its blob, without the folder. */
export async function createPartition(
  state: BlobStore,
  source: string,
  partition: number,
  created: Date,
  options?: CallOptions,
): Promise<string> {
  const blob = `${partitionDigits(partition)}-${randomBytes(4).toString('hex')}`;
  const header = encodeHeader({ source, partition, created, kind: 'log' });
  await state.createAppend(partitionBlobName(source, blob), header, options);
  return blob;
}

/**
 * Seals a partition, so that nothing more is appended, counts it, and writes its filter.
 * @param count what is known of it already, to go on from.
 * @returns undefined when it holds nothing but its header.
 */
export async function sealPartition(
  state: BlobStore,
  source: string,
  blob: string,
  { now, count, ...options }: CallOptions & { readonly now: () => Date; readonly count?: PartitionCount | undefined },
): Promise<SealedPartition | undefined> {
  const name = partitionBlobName(source, blob);
  try {
    const { lastModified, sealed } = await state.properties(name, options);
    if (!sealed) await state.seal(name, options);
    const { bytes: blobBytes } = await state.properties(name, options);
    if (blobBytes <= headerBytes(source)) return undefined;
    const counted = count ?? new PartitionCount(state, source, blob);
    // Sealing may have changed the ETag, and nothing else.
    await counted.readTo({ bytes: blobBytes }, options);
    const { records, uploadBytes, ids } = counted;
    const filterBytes = await writeFilter(state, source, blob, ids, options);
    const sealedAt = now().toISOString();
    return { sealedAt, lastAt: lastModified.toISOString(), records, uploadBytes, blobBytes, filterBytes };
  } catch (error) {
    if (!isBlobFailure(error, 'missing')) throw error;
    // Someone deleted it. It becomes a batch all the same: reading that says what happened, and nothing is lost silently.
    const at = now().toISOString();
    return { sealedAt: at, lastAt: at, records: 0, uploadBytes: 0, blobBytes: 0 };
  }
}

/** Deletes a partition with its filter; the filter first, so that one that is left alone is never of a partition. */
export async function deletePartition(
  state: BlobStore,
  source: string,
  blob: string,
  options?: CallOptions,
): Promise<void> {
  await state.delete(filterBlobName(source, blob), options);
  await state.delete(partitionBlobName(source, blob), options);
}

/** All partition blobs of a source, in the order of their numbers. */
export async function* listPartitions(
  state: BlobStore,
  source: string,
  options: CallOptions = {},
): AsyncGenerator<{ readonly blob: string; readonly item: BlobItem }> {
  const prefix = journalPrefix(source);
  for await (const item of state.list({ ...options, prefix })) {
    const blob = item.name.slice(prefix.length);
    if (partitionOfBlob(blob) !== undefined) yield { blob, item };
  }
}
