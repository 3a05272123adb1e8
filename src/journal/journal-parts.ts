/** What the parts of one open journal share. */
import type { BlobStore } from '../storage/blob-store.ts';
import type { ManifestStore } from './manifest-store.ts';
import type { MetricsRecorder } from './metrics.ts';

export interface JournalSettings {
  /** Records of a batch: an append blob takes 50,000 blocks, and a block may hold one record only. */
  readonly recordsMax: number;
  /** Bytes of the uploads that a batch announces. The last upload may go beyond. */
  readonly uploadBytesMax: number;
  /** Seconds that a record waits in the active partition before `sealDue` makes a batch of it. */
  readonly ageSecondsMax: number;
}

/** The same as of the settings that they come from. */
export const journalLimits = {
  recordsMax: { min: 1, max: 40_000 },
  uploadBytesMax: { min: 1, max: 1024 ** 4 },
  ageSecondsMax: { min: 60, max: 86_400 },
} as const satisfies Record<keyof JournalSettings, { min: number; max: number }>;

/** Whatever is given: no value makes a journal seal for ever or never. What is no number is the least. */
export function withinLimits(settings: JournalSettings): JournalSettings {
  const limited = (name: keyof JournalSettings) => {
    const { min, max } = journalLimits[name];
    const value = Math.floor(settings[name]);
    return Number.isNaN(value) ? min : Math.min(Math.max(value, min), max);
  };
  return {
    recordsMax: limited('recordsMax'),
    uploadBytesMax: limited('uploadBytesMax'),
    ageSecondsMax: limited('ageSecondsMax'),
  };
}

export interface JournalParts {
  readonly state: BlobStore;
  readonly source: string;
  /** Within their limits. */
  readonly settings: JournalSettings;
  readonly manifests: ManifestStore;
  readonly metrics: MetricsRecorder;
  readonly now: () => Date;
}
