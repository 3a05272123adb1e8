/** Which batches are worth to be compacted into one, and which of their records still count. Pure. */
import { batchName, type PartitionEntry } from './manifest.ts';
import type { JournalRecord } from './record.ts';
import { removedAt } from './removals.ts';

/** Fewer batches are not worth it: each compaction makes batches wait that could be archived as they are. */
export const RUN_PARTITIONS_MIN = 8;
/** So that one compaction is a matter of seconds, and holds no more than this in memory. */
const RUN_PARTITIONS_MAX = 500;
const RUN_BLOB_BYTES_MAX = 32 * 1024 * 1024;

export interface CompactionLimits {
  /** Of a batch, as for any other. */
  readonly recordsMax: number;
  readonly uploadBytesMax: number;
}

/**
 * Chooses neighbours that fit into one batch together, the oldest first. What a batch holds that is dead is not known
 * without reading it, and costs little more than its reading when it is archived: so dead records go where batches are
 * compacted for their number, and are no reason of their own.
 * @param batches in the order of their numbers.
 * @param isFree says that nobody archives or publishes the batch, and that it can be read.
 * @returns undefined when nothing is worth it.
 */
export function planCompaction(
  batches: readonly PartitionEntry[],
  isFree: (batch: string) => boolean,
  limits: CompactionLimits,
): readonly PartitionEntry[] | undefined {
  const isCandidate = (entry: PartitionEntry) => !entry.held && (entry.blobBytes ?? 0) > 0 && isFree(batchName(entry));
  for (let from = 0; from + RUN_PARTITIONS_MIN <= batches.length; from += 1) {
    const room = { ...limits, blobBytes: RUN_BLOB_BYTES_MAX };
    let to = from;
    for (; to < batches.length && to - from < RUN_PARTITIONS_MAX; to += 1) {
      const entry = batches[to];
      if (entry === undefined || !isCandidate(entry)) break;
      room.recordsMax -= entry.records ?? 0;
      room.uploadBytesMax -= entry.uploadBytes ?? 0;
      room.blobBytes -= entry.blobBytes ?? 0;
      if (room.recordsMax < 0 || room.uploadBytesMax < 0 || room.blobBytes < 0) break;
    }
    if (to - from >= RUN_PARTITIONS_MIN) return batches.slice(from, to);
  }
  return undefined;
}

/** A record of one of the batches, as a reader gives it: once an id in a batch. */
export interface BatchRecord {
  readonly id: string;
  readonly record: JournalRecord;
}

/**
 * What is left of the records of several batches, in their order. An upload that stands already is dropped, and so is one
 * before a removal of its path, or of a folder above it; a removal that a later one covers goes too. Two versions of one
 * path both stay: events come out of order, and only reading tells which is there.
 *
 * An upload that was recorded again after a removal stays where it was recorded again: there it brings the file back.
 */
export class LiveRecords {
  readonly #kept = new Map<string, { readonly record: JournalRecord; readonly at: number }>();
  readonly #removals = new Map<string, number>();
  #at = 0;

  add({ id, record }: BatchRecord): void {
    this.#at += 1;
    const earlier = this.#kept.get(id);
    if (earlier !== undefined && earlier.at >= removedAt(this.#removals, record.path)) return;
    this.#kept.delete(id);
    this.#kept.set(id, { record, at: this.#at });
    if (record.kind === 'removal') this.#removals.set(record.path, this.#at);
  }

  *records(): Generator<JournalRecord> {
    for (const { record, at } of this.#kept.values()) {
      if (at >= removedAt(this.#removals, record.path)) yield record;
    }
  }
}
