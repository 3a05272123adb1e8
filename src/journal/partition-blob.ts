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
import { encodeHeader, encodeRecord, headerBytes, type PartitionHeader, type PartitionKind } from './partition.ts';
import type { PartitionCount } from './partition-count.ts';
import { filterBlobName, partitionOfFilter, writeFilter } from './partition-filter.ts';
import { readPartition } from './partition-reading.ts';
import type { PartitionRecord } from './record.ts';

/** Names tried; one is free by chance, but the answer to a create may be lost, and the repeated one be refused. */
const CREATES_MAX = 3;

/**
 * Creates a partition, with its first records where it is created with some.
 * @returns the name of its blob, without the folder.
 */
export async function createPartition(
  state: BlobStore,
  source: string,
  header: Omit<PartitionHeader, 'source'>,
  options: CallOptions & { readonly records?: readonly PartitionRecord[] } = {},
): Promise<string> {
  const records = (options.records ?? []).map((record) => encodeRecord(record));
  const first = Buffer.concat([encodeHeader({ ...header, source }), ...records]);
  for (let tries = 1; ; tries += 1) {
    const blob = `${partitionDigits(header.partition)}-${randomBytes(4).toString('hex')}`;
    try {
      await state.createAppend(partitionBlobName(source, blob), first, options);
      return blob;
    } catch (error) {
      if (!isBlobFailure(error, 'exists') || tries === CREATES_MAX) throw error;
    }
  }
}

/**
 * Seals a partition, so that nothing more is appended, counts it, and writes its filter.
 * @param count what is known of it already, to go on from.
 * @returns undefined when it holds nothing but its header. @throws `missing`.
 */
export async function sealPartition(
  state: BlobStore,
  source: string,
  blob: string,
  { now, count, ...options }: CallOptions & { readonly now: () => Date; readonly count: PartitionCount },
): Promise<SealedPartition | undefined> {
  const name = partitionBlobName(source, blob);
  const { lastModified, sealed } = await state.properties(name, options);
  if (!sealed) await state.seal(name, options);
  const { bytes: blobBytes } = await state.properties(name, options);
  if (blobBytes <= headerBytes(source)) return undefined;
  // Sealing may have changed the ETag, and nothing else.
  await count.readTo({ bytes: blobBytes }, options);
  const { records, uploadBytes, ids } = count;
  const filterBytes = await writeFilter(state, source, blob, ids, options);
  const sealedAt = now().toISOString();
  return { sealedAt, lastAt: lastModified.toISOString(), records, uploadBytes, blobBytes, filterBytes };
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

/**
 * To be asked between loading the manifest and naming a partition that was made before: it may have been named as retired,
 * deleted and forgotten, all since it was made.
 */
export async function partitionExists(
  state: BlobStore,
  source: string,
  blob: string,
  options?: CallOptions,
): Promise<boolean> {
  try {
    await state.properties(partitionBlobName(source, blob), options);
    return true;
  } catch (error) {
    if (isBlobFailure(error, 'missing')) return false;
    throw error;
  }
}

/** A blob under `journal/<source>/`: a partition, or the filter of one; names without the folder. */
export type JournalBlob =
  | { readonly partition: string; readonly filterOf?: undefined; readonly item: BlobItem }
  | { readonly partition?: undefined; readonly filterOf: string; readonly item: BlobItem };

/** The partitions of a source and their filters, in the order of their names. */
export async function* listJournal(
  state: BlobStore,
  source: string,
  options: CallOptions = {},
): AsyncGenerator<JournalBlob> {
  const prefix = journalPrefix(source);
  for await (const item of state.list({ ...options, prefix })) {
    const name = item.name.slice(prefix.length);
    const filterOf = partitionOfFilter(name);
    if (partitionOfBlob(name) !== undefined) yield { partition: name, item };
    else if (filterOf !== undefined) yield { filterOf, item };
  }
}

/** All partition blobs of a source, in the order of their numbers. */
export async function* listPartitions(
  state: BlobStore,
  source: string,
  options: CallOptions = {},
): AsyncGenerator<{ readonly blob: string; readonly item: BlobItem }> {
  for await (const { partition, item } of listJournal(state, source, options)) {
    if (partition !== undefined) yield { blob: partition, item };
  }
}

/** The kind that the header names; undefined when it is damaged. */
export async function readPartitionKind(
  state: BlobStore,
  source: string,
  blob: string,
  options?: CallOptions,
): Promise<PartitionKind | undefined> {
  const name = partitionBlobName(source, blob);
  for await (const event of readPartition(state, name, { ...options, to: headerBytes(source) })) {
    return event.kind === 'header' ? event.header.kind : undefined;
  }
  return undefined;
}
