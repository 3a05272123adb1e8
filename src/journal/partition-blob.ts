/** Partitions on storage: creating them, counting what they hold, and finding those that no manifest names. */
import { randomBytes } from 'node:crypto';
import { type BlobItem, type BlobStore, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import { journalPrefix, partitionDigits, partitionOfBlob, type SealedPartition } from './manifest.ts';
import { decodePartition, encodeHeader, headerBytes } from './partition.ts';

export function partitionBlobName(source: string, blob: string): string {
  return `${journalPrefix(source)}${blob}`;
}

/** Creates a partition that holds its header only. @returns the name of its blob, without the folder. */
export async function createPartition(
  state: BlobStore,
  source: string,
  partition: number,
  created: Date,
  options?: CallOptions,
): Promise<string> {
  const blob = `${partitionDigits(partition)}-${randomBytes(4).toString('hex')}`;
  const header = encodeHeader({ source, partition, created });
  await state.createAppend(partitionBlobName(source, blob), header, options);
  return blob;
}

/**
 * What a partition holds up to some byte. Blocks are only ever added, so the count goes on from where it ended; what this
 * process appends itself need not be read. Damaged and unknown records do not count.
 */
export class PartitionCount {
  readonly #state: BlobStore;
  readonly #name: string;
  /** Counted so far; a record begins here. */
  bytes: number;
  records = 0;
  uploadBytes = 0;

  /** @param bytes where to begin: 0, or the bytes of the header when nothing else was appended yet. */
  constructor(state: BlobStore, source: string, blob: string, bytes = 0) {
    this.#state = state;
    this.#name = partitionBlobName(source, blob);
    this.bytes = bytes;
  }

  /** Counts a block that was appended by this process, if it follows what was counted. */
  add(block: { readonly offset: number; readonly bytes: number; readonly records: number; uploadBytes: number }): void {
    if (block.offset !== this.bytes) return;
    this.bytes += block.bytes;
    this.records += block.records;
    this.uploadBytes += block.uploadBytes;
  }

  /** Reads what follows, up to the byte `end`. */
  async readTo(end: number, options: CallOptions = {}): Promise<void> {
    while (this.bytes < end) {
      const offset = this.bytes;
      const range = { offset, length: end - offset };
      const { body } = await this.#state.readStream(this.#name, { ...options, ...range });
      let records = 0;
      let uploadBytes = 0;
      for await (const event of decodePartition(body, { blob: this.#name, offset })) {
        if (event.kind !== 'record') continue;
        records += 1;
        if (event.record.kind === 'upload') uploadBytes += event.record.bytes;
      }
      // Meanwhile the same bytes may have been counted by `add` or by another call.
      this.add({ offset, bytes: end - offset, records, uploadBytes });
    }
  }
}

/**
 * Seals a partition, so that nothing more is appended, and counts it.
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
    await counted.readTo(blobBytes, options);
    const { records, uploadBytes } = counted;
    return { sealedAt: now().toISOString(), lastAt: lastModified.toISOString(), records, uploadBytes, blobBytes };
  } catch (error) {
    if (!isBlobFailure(error, 'missing')) throw error;
    // Someone deleted it. It becomes a batch all the same: reading that says what happened, and nothing is lost silently.
    const at = now().toISOString();
    return { sealedAt: at, lastAt: at, records: 0, uploadBytes: 0, blobBytes: 0 };
  }
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
