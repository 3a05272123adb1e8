/**
 * Every setting of Firn, for the functions and the command line alike: name, default, unit, minimum and maximum.
 *
 * Settings come from the environment. A number below its minimum (or above its maximum) is moved to it with a warning,
 * so that no value causes an endless loop or a division by zero; a value that cannot be read at all is
 * FIRN_SETTING_INVALID and names the setting. An empty value counts as absent.
 */
import { FirnError } from './errors.ts';
import { type Tier, tiers } from './storage/blob-store.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

interface NumberRow {
  readonly env: string;
  readonly unit: 'bytes' | 'seconds' | 'days' | 'count' | 'level';
  readonly fallback: number;
  readonly min: number;
  readonly max: number;
  readonly about: string;
}

/** The numeric settings. `docs/operations.md` is checked against this table. */
export const numberSettings = {
  batchRecordsMax: {
    env: 'FIRN_BATCH_RECORDS_MAX',
    unit: 'count',
    fallback: 5_000,
    min: 1,
    max: 40_000,
    about: 'uploads in one batch',
  },
  batchBytesMax: {
    env: 'FIRN_BATCH_BYTES_MAX',
    unit: 'bytes',
    fallback: GiB,
    min: 1,
    max: 1024 * GiB,
    about: 'bytes of uploads after which a batch is sealed',
  },
  batchAgeSecondsMax: {
    env: 'FIRN_BATCH_AGE_SECONDS_MAX',
    unit: 'seconds',
    fallback: 60,
    min: 60,
    max: 86_400,
    about: 'age at which a batch is sealed, however small',
  },
  batchRetrySeconds: {
    env: 'FIRN_BATCH_RETRY_SECONDS',
    unit: 'seconds',
    fallback: 600,
    min: 60,
    max: 86_400,
    about: 'after which a sealed batch without a receipt is queued again',
  },
  publishAgeSecondsMax: {
    env: 'FIRN_PUBLISH_AGE_SECONDS_MAX',
    unit: 'seconds',
    fallback: 900,
    min: 60,
    max: 86_400,
    about: 'longest wait of a receipt for its source to become quiet before it is published anyway',
  },
  publishReceiptsMax: {
    env: 'FIRN_PUBLISH_RECEIPTS_MAX',
    unit: 'count',
    fallback: 64,
    min: 1,
    max: 1_000,
    about: 'receipts in one snapshot; memory grows with it by about 1 MiB each',
  },
  publishRetrySeconds: {
    env: 'FIRN_PUBLISH_RETRY_SECONDS',
    unit: 'seconds',
    fallback: 5,
    min: 1,
    max: 3_600,
    about: 'wait before a failed step of a publish is tried again; it doubles with each try',
  },
  lockWaitSeconds: {
    env: 'FIRN_LOCK_WAIT_SECONDS',
    unit: 'seconds',
    fallback: 600,
    min: 0,
    max: 86_400,
    about: 'longest wait of the command line for another publish of the same source; 0 does not wait',
  },
  flushRootsPerActivity: {
    env: 'FIRN_FLUSH_ROOTS_PER_ACTIVITY',
    unit: 'count',
    fallback: 2,
    min: 1,
    max: 16,
    about: 'roots of the chunk index that one activity flushes',
  },
  compressionLevel: {
    env: 'FIRN_COMPRESSION_LEVEL',
    unit: 'level',
    fallback: 3,
    min: 1,
    max: 19,
    about: 'zstd level of file content',
  },
  filesInFlightMax: {
    env: 'FIRN_FILES_IN_FLIGHT_MAX',
    unit: 'count',
    fallback: 16,
    min: 1,
    max: 256,
    about: 'files read or restored at the same time',
  },
  uploadsInFlightMax: {
    env: 'FIRN_UPLOADS_IN_FLIGHT_MAX',
    unit: 'count',
    fallback: 2,
    min: 1,
    max: 32,
    about: 'chunk blobs written at the same time; memory grows with it by about 20 MiB each',
  },
  frameCacheBytesMax: {
    env: 'FIRN_FRAME_CACHE_BYTES_MAX',
    unit: 'bytes',
    fallback: 16 * MiB,
    min: MiB,
    max: 64 * GiB,
    about: 'memory for decoded frames while restoring',
  },
  indexCacheBytesMax: {
    env: 'FIRN_INDEX_CACHE_BYTES_MAX',
    unit: 'bytes',
    fallback: 64 * MiB,
    min: MiB,
    max: 64 * GiB,
    about: 'memory for shards of the chunk index',
  },
  cacheFolderBytesMax: {
    env: 'FIRN_CACHE_BYTES_MAX',
    unit: 'bytes',
    fallback: GiB,
    // Each of the 272 parts of it holds the largest shard that stays: 2,048 entries of 96 bytes each, and the seal.
    min: 64 * MiB,
    max: 64 * GiB,
    about: 'size of the folder that FIRN_CACHE_FOLDER names; what was used least recently goes first',
  },
  pendingEntriesMax: {
    env: 'FIRN_PENDING_ENTRIES_MAX',
    unit: 'count',
    fallback: 500_000,
    min: 0,
    max: 50_000_000,
    about: 'chunk locations of unpublished receipts to look through; 96 bytes of memory each',
  },
  snapshotAgeDaysMax: {
    env: 'FIRN_SNAPSHOT_AGE_DAYS_MAX',
    unit: 'days',
    fallback: 0,
    min: 0,
    max: 3_650,
    about: 'without a new snapshot of a source, after which `checkSnapshots` warns; 0 for never',
  },
} as const satisfies Record<string, NumberRow>;

export type NumberSettings = { readonly [K in keyof typeof numberSettings]: number };

export interface Settings extends NumberSettings {
  /** FIRN_REPOSITORY: base of the names of the containers and the queue. */
  readonly repository: string;
  /** FIRN_INBOX: what happens to an upload whose snapshot is published. */
  readonly inbox: 'keep' | 'consume';
  /** FIRN_CHUNK_TIER: access tier of new chunk blobs. */
  readonly chunkTier: Tier;
  /** FIRN_SEAL_SCHEDULE: when batches are sealed, six fields from the second on. */
  readonly sealSchedule: string;
  /** FIRN_PUBLISH_SCHEDULE: when publishes that are due are started, and those that died are picked up. */
  readonly publishSchedule: string;
  /** FIRN_CACHE_FOLDER: a local folder that keeps sealed shards for later runs; none where undefined. */
  readonly cacheFolder: string | undefined;
  /** FIRN_REPAIR_SCHEDULE: when the chunk index is checked, and repaired where it drifted. */
  readonly repairSchedule: string;
  /** FIRN_SNAPSHOT_CHECK_SCHEDULE: when the age of the latest snapshots is looked at. */
  readonly snapshotCheckSchedule: string;
  /** FIRN_PASSPHRASE. */
  readonly passphrase: string | undefined;
}

export type Environment = Readonly<Record<string, string | undefined>>;

export interface SettingsReading {
  readonly settings: Settings;
  /** One sentence for each value that was moved to its limit. */
  readonly warnings: readonly string[];
}

export function settingText(environment: Environment, name: string): string | undefined {
  const value = environment[name];
  return value === undefined || value === '' ? undefined : value;
}

function readNumber(row: NumberRow, environment: Environment, warnings: string[]): number {
  const text = settingText(environment, row.env)?.trim();
  if (text === undefined) return row.fallback;
  const value = Number(text);
  if (!/^[+-]?\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw new FirnError('FIRN_SETTING_INVALID', { name: row.env, problem: `«${text}» is not a whole number` });
  }
  const limited = Math.min(Math.max(value, row.min), row.max);
  if (limited !== value) {
    warnings.push(`${row.env} is ${value}; ${limited} is used, the ${value < row.min ? 'smallest' : 'largest'} value.`);
  }
  return limited;
}

function readWord<T extends string>(name: string, words: readonly T[], fallback: T, environment: Environment): T {
  const text = settingText(environment, name);
  if (text === undefined) return fallback;
  const found = words.find((word) => word.toLowerCase() === text.toLowerCase());
  if (found === undefined) {
    throw new FirnError('FIRN_SETTING_INVALID', { name, problem: `«${text}» is not one of ${words.join(', ')}` });
  }
  return found;
}

/**
 * A reference to Key Vault that Azure could not resolve arrives as its own text. It must never become the passphrase of a
 * repository, so it counts as absent.
 */
function readPassphrase(environment: Environment, warnings: string[]): string | undefined {
  const passphrase = settingText(environment, 'FIRN_PASSPHRASE');
  if (!passphrase?.startsWith('@Microsoft.KeyVault(')) return passphrase;
  warnings.push('FIRN_PASSPHRASE is a reference to Key Vault that was not resolved; it is not used.');
  return undefined;
}

/** Container names have 3 to 63 letters, digits and single dashes; the longest suffix is «-batches-poison». */
const repositoryPattern = /^(?=.{1,48}$)[a-z0-9]+(-[a-z0-9]+)*$/;

export function readSettings(environment: Environment): SettingsReading {
  const warnings: string[] = [];
  const repository = settingText(environment, 'FIRN_REPOSITORY') ?? 'firn';
  if (!repositoryPattern.test(repository)) {
    throw new FirnError('FIRN_SETTING_INVALID', {
      name: 'FIRN_REPOSITORY',
      problem: `«${repository}» is not 1 to 48 lower-case letters, digits and single dashes`,
    });
  }
  const numbers = Object.fromEntries(
    Object.entries(numberSettings).map(([key, row]) => [key, readNumber(row, environment, warnings)]),
  ) as NumberSettings;
  const settings: Settings = {
    ...numbers,
    repository,
    inbox: readWord('FIRN_INBOX', ['keep', 'consume'] as const, 'keep', environment),
    chunkTier: readWord('FIRN_CHUNK_TIER', tiers, 'Hot', environment),
    sealSchedule: settingText(environment, 'FIRN_SEAL_SCHEDULE') ?? '0 * * * * *',
    publishSchedule: settingText(environment, 'FIRN_PUBLISH_SCHEDULE') ?? '30 * * * * *',
    cacheFolder: settingText(environment, 'FIRN_CACHE_FOLDER'),
    repairSchedule: settingText(environment, 'FIRN_REPAIR_SCHEDULE') ?? '0 0 3 * * 0',
    snapshotCheckSchedule: settingText(environment, 'FIRN_SNAPSHOT_CHECK_SCHEDULE') ?? '0 0 6 * * *',
    passphrase: readPassphrase(environment, warnings),
  };
  return { settings, warnings };
}

/** How the storage account is reached. */
export type StorageConnection =
  | { readonly connectionString: string }
  | { readonly blobServiceUri: string; readonly queueServiceUri: string; readonly clientId?: string | undefined };

/**
 * FIRN_STORAGE as a connection string (or `UseDevelopmentStorage=true`), or FIRN_STORAGE__blobServiceUri and
 * FIRN_STORAGE__queueServiceUri for the identity-based form that Azure Functions uses for its connections. (The host
 * reads FIRN_STORAGE__credential, too.)
 */
export function readStorageConnection(environment: Environment): StorageConnection {
  const connectionString = settingText(environment, 'FIRN_STORAGE');
  if (connectionString !== undefined) return { connectionString };
  const blobServiceUri = settingText(environment, 'FIRN_STORAGE__blobServiceUri');
  const queueServiceUri = settingText(environment, 'FIRN_STORAGE__queueServiceUri');
  if (blobServiceUri === undefined) {
    throw new FirnError('FIRN_SETTING_MISSING', {
      name: 'FIRN_STORAGE',
      problem: 'no storage account is named',
    });
  }
  return {
    blobServiceUri,
    queueServiceUri: queueServiceUri ?? blobServiceUri.replace('.blob.', '.queue.'),
    clientId: settingText(environment, 'FIRN_STORAGE__clientId'),
  };
}

/** The names that follow from the name of a repository. */
export function repositoryNames(repository: string) {
  return {
    inbox: `${repository}-inbox`,
    data: `${repository}-data`,
    state: `${repository}-state`,
    batchQueue: `${repository}-batches`,
    poisonQueue: `${repository}-batches-poison`,
  };
}
