/** What the journal of a source holds, as the rest of Firn sees it. Its bytes are the subject of `partition.ts`. */

export interface UploadRecord {
  readonly kind: 'upload';
  /** Path inside the source, without the source itself. */
  readonly path: string;
  /** The version of the blob that was announced, as the service writes it, quotes included. */
  readonly etag: string;
  readonly bytes: number;
}

/** A tombstone: the path, and all below it, is to be absent from the next snapshot. */
export interface RemovalRecord {
  readonly kind: 'removal';
  readonly path: string;
  /** Makes two removals of one path two records. */
  readonly nonce: string;
}

export type JournalRecord = UploadRecord | RemovalRecord;

/** The source is finished: what was recorded before is not to be archived any more. */
export interface LeaveRecord {
  readonly kind: 'leave';
  readonly nonce: string;
}

/** Undoes the leaving before it. */
export interface RejoinRecord {
  readonly kind: 'rejoin';
  readonly nonce: string;
}

/** The last record of a compacted partition: without it the partition is not whole. */
export interface CompactionEnd {
  readonly kind: 'end';
  /** Names of the partition blobs that this one stands for, without their folder. */
  readonly replaces: readonly string[];
  /** Records in this partition, this one not counted. */
  readonly records: number;
  readonly nonce: string;
}

/** What the journal records about itself. */
export type ControlRecord = LeaveRecord | RejoinRecord | CompactionEnd;

export type PartitionRecord = JournalRecord | ControlRecord;
