/**
 * The journal of a source: a durable list of what happened to its files and is not archived yet.
 *
 * Records are appended to the active partition, an append blob. A partition that has enough records, announces enough
 * bytes or is old enough is sealed and becomes a batch; batches are read, archived, published and retired. Promises:
 * a record is durable when its `append` resolves; it is then in exactly one batch, in the order of the appends; the names
 * of batches sort in that order, and no name comes back, not even where the journal was lost and began anew. Any number
 * of processes may work on one journal at once and die anywhere: what one left half done, the next call of anyone
 * completes. A record may be there twice (an append whose answer was lost is repeated, an event delivered again was not
 * recognised); reading drops the second of an id within a batch.
 *
 * Order of the steps: a partition is created and named in the manifest before the first record is appended; it is sealed
 * on storage, which shuts out late writers, before the manifest says so; a batch is marked as retired before its blob is
 * deleted, and forgotten after that.
 */
import type { BlobStore, CallOptions } from '../storage/blob-store.ts';
import { isBlobFailure } from '../storage/blob-store.ts';
import { ActivePartition } from './active-partition.ts';
import { AppendQueue } from './append-queue.ts';
import { type BatchInfo, infoOf } from './batch-info.ts';
import { type BatchReading, readBatch } from './batch-reading.ts';
import { type Compaction, type CompactOptions, compactJournal } from './compaction.ts';
import { forgetBatch } from './forgetting.ts';
import { inspectJournal, type JournalInspection } from './inspection.ts';
import { type JournalParts, type JournalSettings, withinLimits } from './journal-parts.ts';
import { leaveSource, rejoinSource } from './leaving.ts';
import { deleteRetired, takeUpStrays } from './left-behind.ts';
import { activePartition, batchName, batchPartitions, partitionBlobName } from './manifest.ts';
import { withHeld, withRetired } from './manifest-steps.ts';
import { ManifestStore } from './manifest-store.ts';
import { type JournalMetrics, MetricsRecorder } from './metrics.ts';
import { headerBytes } from './partition.ts';
import type { JournalRecord } from './record.ts';
import { checkSourceName, sourceNameProblem } from './source-name.ts';

export type { BatchInfo, JournalSettings };

export interface Journal extends AsyncDisposable {
  readonly source: string;
  /**
   * Resolves when the records are durable. Concurrent calls share blocks, so keep one journal a source in a process. Where
   * the storage is slower than the callers it takes as long as it takes: await it before you bring more.
   * @returns the batches that were sealed on the way. A process that dies tells nobody: `batches()` is the truth.
   * @throws FIRN_PATH_UNUSABLE when a record is too large; FIRN_JOURNAL_BUSY when too many calls wait already;
   * FIRN_JOURNAL_CLOSED; the signal's reason (the records may then be durable or not).
   *
   * An upload that is recorded already and still to be archived is not recorded again.
   */
  append(records: readonly JournalRecord[], options?: CallOptions): Promise<{ sealed: readonly string[] }>;
  /**
   * Makes a batch of the active partition if it is due, or with `force` if it holds anything; completes what others left
   * half done. @returns the batches that came to be.
   */
  sealDue(options?: CallOptions & { readonly force?: boolean }): Promise<readonly BatchInfo[]>;
  /** All batches that are neither retired nor left, oldest first. */
  batches(options?: CallOptions): Promise<readonly BatchInfo[]>;
  /** Something was appended that is in no batch yet. */
  hasOpenRecords(options?: CallOptions): Promise<boolean>;
  /**
   * What of it cannot be understood is set aside before the reading ends.
   * @throws while iterating: FIRN_BLOB_MISSING when there is no such batch (any more), FIRN_JOURNAL_DAMAGED when its
   * partition was lost or is another's, FIRN_REPOSITORY_NEWER.
   */
  read(batch: string, options?: CallOptions): BatchReading;
  /**
   * Keeps compaction away from batches that are about to be published, for good: to be called before a publish is decided.
   * @returns those that are batches still; the others were retired, left or compacted meanwhile.
   */
  hold(batches: readonly string[], options?: CallOptions): Promise<ReadonlySet<string>>;
  /**
   * Makes one batch of several small ones that nobody works on, if that is worth it, without what in them is dead.
   * @returns undefined when it was not.
   */
  compact(options: CompactOptions): Promise<Compaction | undefined>;
  /** Deletes batches whose records are archived and published. Unknown batches are passed over. */
  retire(batches: readonly string[], options?: CallOptions): Promise<void>;
  /**
   * Goes on without a batch whose partition is lost; what was known of it is written down among what was set aside. For a
   * person to decide.
   * @throws FIRN_BLOB_MISSING when there is no such batch; FIRN_USAGE when its partition is there.
   */
  forget(batch: string, options?: CallOptions): Promise<void>;
  /**
   * The source is finished: what is recorded and not published yet is no batch any more, and nobody archives it. Durable
   * when it resolves; appends of this object that were called before belong to it, those that are called after it resolved
   * do not. Leaving twice is leaving once.
   */
  leave(options?: CallOptions): Promise<void>;
  /**
   * Undoes the leaving. What was left is kept for seven days. It comes before what was recorded since, as long as that is not
   * published: removals among it are applied to whatever the snapshot has by then.
   * @returns the batches that come back.
   */
  rejoin(options?: CallOptions): Promise<readonly BatchInfo[]>;
  /** Everything that a person wants to know of it. It reads all partitions. */
  inspect(options?: CallOptions): Promise<JournalInspection>;
  /** What this object counted since it was opened. */
  metrics(): JournalMetrics;
  /**
   * Takes no more records, and resolves when every `append` that was called before is settled: its records are durable, or
   * its caller was told why not. It waits as long as that takes. Closing again waits for the same. Everything works on but
   * `append`, `leave` and `rejoin`.
   */
  close(): Promise<void>;
}

/** One append takes 4 MiB at most (Azure: Append Block). */
const BLOCK_BYTES_MAX = 4 * 1024 * 1024;
/** Two blocks: one to be written next while another fills. */
const QUEUE_BYTES_MAX = 2 * BLOCK_BYTES_MAX;
const CALLS_WAITING_MAX = 10_000;

/**
 * Does not touch the storage.
 * @param settings are moved into their limits.
 * @throws FIRN_SOURCE_NAME_INVALID.
 */
export function openJournal(
  state: BlobStore,
  source: string,
  settings: JournalSettings,
  { now = () => new Date() }: { readonly now?: () => Date } = {},
): Journal {
  checkSourceName(source);
  const manifests = new ManifestStore(state, source, now);
  const metrics = new MetricsRecorder();
  const parts: JournalParts = { state, source, settings: withinLimits(settings), manifests, metrics, now };
  const active = new ActivePartition(parts);
  const queue = new AppendQueue({
    source,
    blockBytesMax: BLOCK_BYTES_MAX,
    bytesMax: QUEUE_BYTES_MAX,
    callsMax: CALLS_WAITING_MAX,
    recordsMax: () => active.recordsLeft,
    sift: (records, options) => active.redeliveries.sift(records, options),
    write: (block) => active.append(block),
  });
  const close = () => queue.close();

  return {
    source,
    append: (records, options) => queue.append(records, options),

    async sealDue({ force = false, ...options } = {}) {
      const sealed = await takeUpStrays(parts, options);
      await deleteRetired(parts, options);
      const entry = activePartition((await manifests.load(options)).manifest);
      if (entry !== undefined && (await active.isDue(entry, force, options))) {
        sealed.push(...(await active.rotate(entry, options)));
      }
      return sealed.sort((a, b) => (a.batch < b.batch ? -1 : 1));
    },

    async batches(options) {
      return batchPartitions((await manifests.load(options)).manifest).map(infoOf);
    },

    async hasOpenRecords(options) {
      const entry = activePartition((await manifests.load(options)).manifest);
      if (entry === undefined) return false;
      try {
        const { bytes } = await state.properties(partitionBlobName(source, entry.blob), options);
        return bytes > headerBytes(source);
      } catch (error) {
        // It was retired meanwhile, or lost: `sealDue` makes a batch of it that says so.
        if (isBlobFailure(error, 'missing')) return true;
        throw error;
      }
    },

    read: (batch, options = {}) => readBatch(parts, batch, options),

    async hold(batches, options) {
      const wanted = new Set(batches);
      const { manifest } = await manifests.update((current) => withHeld(current, wanted), options);
      return new Set(
        batchPartitions(manifest)
          .map(batchName)
          .filter((batch) => wanted.has(batch)),
      );
    },

    compact: (options) => compactJournal(parts, options),

    async retire(batches, options) {
      if (batches.length > 0) await manifests.update((manifest) => withRetired(manifest, new Set(batches)), options);
      await deleteRetired(parts, options);
    },

    forget: (batch, options) => forgetBatch(parts, batch, options),

    async leave(options) {
      await queue.settled();
      await leaveSource(parts, active, options);
    },

    async rejoin(options) {
      await queue.settled();
      return await rejoinSource(parts, active, options);
    },

    inspect: (options) => inspectJournal(parts, options),
    metrics: () => metrics.read(queue.depth),
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** The sources that have a journal, in order. */
export async function* journalSources(state: BlobStore, options: CallOptions = {}): AsyncGenerator<string> {
  for await (const folder of state.listFolders({ ...options, prefix: 'journal/' })) {
    if (sourceNameProblem(folder) === undefined) yield folder;
  }
}
