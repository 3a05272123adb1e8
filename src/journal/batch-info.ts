/** A batch as the journal tells of it. */
import { batchName, type PartitionEntry } from './manifest.ts';

export interface BatchInfo {
  /** The name: ten digits, which give the order, a dash, and eight random hex digits. It is never given again. */
  readonly batch: string;
  readonly sealedAt: Date;
  /** Repeated records included. */
  readonly records: number;
  readonly uploadBytes: number;
}

export function infoOf(entry: PartitionEntry): BatchInfo {
  return {
    batch: batchName(entry),
    sealedAt: new Date(entry.sealedAt ?? entry.created),
    records: entry.records ?? 0,
    uploadBytes: entry.uploadBytes ?? 0,
  };
}
