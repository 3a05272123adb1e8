/**
 * Reading a batch: its records once each, in the order they were appended, and a report on what was not read. What could not
 * be understood is set aside before the last record is followed by the end: so it outlives the batch, which nobody retires
 * without having read it.
 */
import { FirnError } from '../errors.ts';
import { type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import type { JournalParts } from './journal-parts.ts';
import { batchName, batchPartitions, type PartitionEntry, partitionBlobName, partitionOfBlob } from './manifest.ts';
import type { PartitionHeader } from './partition.ts';
import type { CorruptRange, UnknownRecord } from './partition-decoding.ts';
import { readPartition } from './partition-reading.ts';
import type { JournalRecord } from './record.ts';
import { setRangesAside } from './set-aside.ts';

export interface ReadReport {
  /** Records given. */
  readonly records: number;
  /** Records passed over because one of the same id was given before. */
  readonly duplicates: number;
  readonly corrupt: readonly CorruptRange[];
  /** Whole records of a type that a newer Firn wrote. */
  readonly unknown: readonly UnknownRecord[];
  /** The batch was read to its end. */
  readonly complete: boolean;
}

/** Iterate it once; `report()` tells how far it came, and after the last record, how the batch is. */
export interface BatchReading extends AsyncIterable<JournalRecord> {
  report(): ReadReport;
}

interface Progress {
  records: number;
  duplicates: number;
  readonly corrupt: CorruptRange[];
  readonly unknown: UnknownRecord[];
  complete: boolean;
}

export function readBatch(parts: JournalParts, batch: string, options: CallOptions): BatchReading {
  const progress: Progress = { records: 0, duplicates: 0, corrupt: [], unknown: [], complete: false };
  const records = recordsOf(parts, batch, options, progress);
  return {
    [Symbol.asyncIterator]: () => records,
    report: () => ({ ...progress, corrupt: [...progress.corrupt], unknown: [...progress.unknown] }),
  };
}

async function* recordsOf(
  parts: JournalParts,
  batch: string,
  options: CallOptions,
  progress: Progress,
): AsyncGenerator<JournalRecord> {
  const { state, source, metrics } = parts;
  const entry = await entryOf(parts, batch, options);
  const name = partitionBlobName(source, entry.blob);
  const seen = new Set<string>();
  try {
    for await (const event of readPartition(state, name, { ...options, blobBytes: entry.blobBytes })) {
      if (event.kind === 'header') {
        checkHeader(event.header, source, entry.blob, name);
      } else if (event.kind === 'corrupt') {
        metrics.metCorrupt();
        progress.corrupt.push(event.range);
      } else if (event.kind === 'unknown') {
        progress.unknown.push(event.unknown);
      } else if (event.kind === 'control') {
        // What the journal says of itself is no record of a batch.
      } else if (seen.has(event.id)) {
        progress.duplicates += 1;
      } else {
        seen.add(event.id);
        progress.records += 1;
        yield event.record;
      }
    }
    await setRangesAside(parts, entry, [...progress.corrupt, ...progress.unknown], options);
    progress.complete = true;
  } catch (error) {
    if (!isBlobFailure(error, 'missing')) throw error;
    // Retired meanwhile is one thing, lost is another.
    await entryOf(parts, batch, options);
    throw lost(source, entry, error);
  }
}

function lost(source: string, entry: PartitionEntry, cause: unknown): FirnError {
  const details = { blob: partitionBlobName(source, entry.blob), problem: 'it is missing' };
  const advice = `Its records are lost, and what follows waits for it. Restore the blob from a copy if there is one. Else compare the inbox with the snapshot, upload again what is missing, and let the source go on: firn journal ${source} --forget ${batchName(entry)}`;
  return new FirnError('FIRN_JOURNAL_DAMAGED', details, { cause, advice });
}

async function entryOf(
  { source, manifests }: JournalParts,
  batch: string,
  options: CallOptions,
): Promise<PartitionEntry> {
  const { manifest } = await manifests.load(options);
  const entry = batchPartitions(manifest).find((each) => batchName(each) === batch);
  if (entry === undefined) {
    throw new FirnError('FIRN_BLOB_MISSING', { blob: partitionBlobName(source, batch) });
  }
  return entry;
}

function checkHeader(header: PartitionHeader, source: string, blob: string, name: string): void {
  if (header.source === source && header.partition === partitionOfBlob(blob)) return;
  const problem = `it was written as partition ${header.partition} of the source ${header.source}`;
  throw new FirnError('FIRN_JOURNAL_DAMAGED', { blob: name, problem });
}
