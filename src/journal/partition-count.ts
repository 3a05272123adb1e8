/**
 * What a partition holds up to some byte: how many records, of which ids, how many bytes of uploads. Append blobs only
 * grow, so a count goes on from where it ended; what this process appends itself need not be read. Damaged and unknown
 * records do not count.
 *
 * It is a cache, and is held to the blob before it is used: a longer blob is read on, and one that is shorter, or as long
 * with another ETag, is counted anew.
 */
import type { BlobStore, CallOptions } from '../storage/blob-store.ts';
import { partitionBlobName } from './manifest.ts';
import type { PartitionKind } from './partition.ts';
import { readPartition } from './partition-reading.ts';
import type { ControlRecord } from './record.ts';

export interface CountedBlock {
  /** Where it begins in the partition; undefined where that is not certain. */
  readonly offset: number | undefined;
  readonly bytes: number;
  readonly records: number;
  readonly uploadBytes: number;
  readonly ids: readonly string[];
  /** Of the blob, once the block is in it. */
  readonly etag?: string | undefined;
}

export class PartitionCount {
  readonly #state: BlobStore;
  readonly #name: string;
  readonly #ids = new Set<string>();
  #etag: string | undefined;
  #kind: PartitionKind | undefined;
  #control: ControlRecord | undefined;
  #bytes: number;
  #records = 0;
  #uploadBytes = 0;

  /** @param bytes where to begin: 0, or the bytes of the header when nothing else was appended yet. */
  constructor(state: BlobStore, source: string, blob: string, bytes = 0) {
    this.#state = state;
    this.#name = partitionBlobName(source, blob);
    this.#bytes = bytes;
  }

  /** Counted so far; a record begins here. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Repeated records included. */
  get records(): number {
    return this.#records;
  }

  get uploadBytes(): number {
    return this.#uploadBytes;
  }

  /** Ids of records that are durable in the partition: all that were counted, and those that this process appended. */
  get ids(): ReadonlySet<string> {
    return this.#ids;
  }

  /** Undefined when the header was not read, or is damaged. */
  get kind(): PartitionKind | undefined {
    return this.#kind;
  }

  /** The last thing that was read of what the journal records about itself. */
  get control(): ControlRecord | undefined {
    return this.#control;
  }

  /** Counts a block that is in the partition, if it follows what was counted. */
  add(block: CountedBlock): void {
    for (const id of block.ids) this.#ids.add(id);
    if (block.offset !== this.#bytes) return;
    this.#bytes += block.bytes;
    this.#records += block.records;
    this.#uploadBytes += block.uploadBytes;
    this.#etag = block.etag;
  }

  /** Counts what follows, up to what the blob has now. @param blob its length, and its ETag where that is to be compared. */
  async readTo(blob: { readonly bytes: number; readonly etag?: string }, options: CallOptions = {}): Promise<void> {
    this.#validate(blob);
    while (this.#bytes < blob.bytes) {
      const offset = this.#bytes;
      const ids: string[] = [];
      let uploadBytes = 0;
      const range = { ...options, from: offset, to: blob.bytes };
      for await (const event of readPartition(this.#state, this.#name, range)) {
        if (event.kind === 'header') this.#kind = event.header.kind;
        if (event.kind === 'control') this.#control = event.record;
        if (event.kind !== 'record') continue;
        ids.push(event.id);
        if (event.record.kind === 'upload') uploadBytes += event.record.bytes;
      }
      // Meanwhile the same bytes may have been counted by `add` or by another call.
      this.add({ offset, bytes: blob.bytes - offset, records: ids.length, uploadBytes, ids, etag: blob.etag });
    }
  }

  #validate({ bytes, etag }: { readonly bytes: number; readonly etag?: string }): void {
    const isOther = etag !== undefined && this.#etag !== undefined && etag !== this.#etag;
    if (bytes > this.#bytes || (bytes === this.#bytes && !isOther)) return;
    this.#ids.clear();
    this.#etag = undefined;
    this.#kind = undefined;
    this.#control = undefined;
    this.#bytes = 0;
    this.#records = 0;
    this.#uploadBytes = 0;
  }
}
