/** What the parts of one open journal share. */
import type { BlobStore } from '../storage/blob-store.ts';
import type { ManifestStore } from './manifest-store.ts';
import type { MetricsRecorder } from './metrics.ts';

export interface JournalSettings {
  /** Records of a batch, 1 to 40,000: an append blob takes 50,000 blocks, and a block may hold one record only. */
  readonly recordsMax: number;
  /** Bytes of the uploads that a batch announces; 1 or more. The last upload may go beyond. */
  readonly uploadBytesMax: number;
  /** Seconds that a record waits in the active partition before `sealDue` makes a batch of it. */
  readonly ageSecondsMax: number;
}

export const JOURNAL_RECORDS_MAX = 40_000;

export interface JournalParts {
  readonly state: BlobStore;
  readonly source: string;
  /** Within their limits. */
  readonly settings: JournalSettings;
  readonly manifests: ManifestStore;
  readonly metrics: MetricsRecorder;
  readonly now: () => Date;
}
