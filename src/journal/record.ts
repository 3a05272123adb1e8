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
