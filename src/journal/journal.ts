/**
 * The journal of a source: a durable list of what happened to its files and is not archived yet.
 *
 * Records are appended to the active partition, an append blob. A partition that has enough records, announces enough
 * bytes or is old enough is sealed and becomes a batch; batches are read, archived, published and retired. Promises:
 * a record is durable when its `append` resolves; it is then in exactly one batch, in the order of the appends; the names
 * of batches sort in that order, and no name comes back, not even where the journal was lost and began anew. Any number
 * of processes may work on one journal at once and die anywhere: what one left half done, the next call of anyone
 * completes. A record may be there twice (an append whose answer was lost is repeated); reading drops the second of an id
 * within a batch.
 *
 * Order of the steps: a partition is created and named in the manifest before the first record is appended; it is sealed
 * on storage, which shuts out late writers, before the manifest says so; a batch is marked as retired before its blob is
 * deleted, and forgotten after that. It does not yet compact, nor bound the records that wait for a slow storage.
 */
import pMap from 'p-map';
import { FirnError } from '../errors.ts';
import { type BlobStore, BlobStoreError, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import { AppendQueue, type Block } from './append-queue.ts';
import { type BatchReading, readBatch } from './batch-reading.ts';
import {
  activePartition,
  batchName,
  type PartitionEntry,
  sealedPartitions,
  withActive,
  withFound,
  withoutRetired,
  withRetired,
  withSealed,
} from './manifest.ts';
import { ManifestStore } from './manifest-store.ts';
import { headerBytes } from './partition.ts';
import { createPartition, listPartitions, PartitionCount, partitionBlobName, sealPartition } from './partition-blob.ts';
import type { JournalRecord } from './record.ts';
import { checkSourceName, sourceNameProblem } from './source-name.ts';

export interface JournalSettings {
  /** Records of a batch, 1 to 40,000: an append blob takes 50,000 blocks, and a block may hold one record only. */
  readonly recordsMax: number;
  /** Bytes of the uploads that a batch announces; 1 or more. The last upload may go beyond. */
  readonly uploadBytesMax: number;
  /** Seconds that a record waits in the active partition before `sealDue` makes a batch of it. */
  readonly ageSecondsMax: number;
}

export const JOURNAL_RECORDS_MAX = 40_000;

export interface BatchInfo {
  /** The name: ten digits, which give the order, a dash, and eight random hex digits. It is never given again. */
  readonly batch: string;
  readonly sealedAt: Date;
  /** Repeated records included. */
  readonly records: number;
  readonly uploadBytes: number;
}

export interface Journal {
  readonly source: string;
  /**
   * Resolves when the records are durable. Concurrent calls share blocks, so keep one journal a source in a process.
   * @returns the batches that were sealed on the way. A process that dies tells nobody: `batches()` is the truth.
   * @throws FIRN_PATH_UNUSABLE when a record is too large; the signal's reason (the records may then be durable or not).
   */
  append(records: readonly JournalRecord[], options?: CallOptions): Promise<{ sealed: readonly string[] }>;
  /**
   * Makes a batch of the active partition if it is due, or with `force` if it holds anything; completes what others left
   * half done. @returns the batches that came to be.
   */
  sealDue(options?: CallOptions & { readonly force?: boolean }): Promise<readonly BatchInfo[]>;
  /** All batches that are not retired, oldest first. */
  batches(options?: CallOptions): Promise<readonly BatchInfo[]>;
  /** Something was appended that is in no batch yet. */
  hasOpenRecords(options?: CallOptions): Promise<boolean>;
  /**
   * @throws while iterating: FIRN_BLOB_MISSING when there is no such batch (any more), FIRN_JOURNAL_DAMAGED when its
   * partition was lost or is another's, FIRN_REPOSITORY_NEWER.
   */
  read(batch: string, options?: CallOptions): BatchReading;
  /** Deletes batches whose records are archived and published. Unknown batches are passed over. */
  retire(batches: readonly string[], options?: CallOptions): Promise<void>;
}

/** One append takes 4 MiB at most (Azure: Append Block). */
const BLOCK_BYTES_MAX = 4 * 1024 * 1024;
const APPEND_TRIES_MAX = 20;
const DELETES_IN_FLIGHT = 16;
/** A partition that no manifest names is left alone for so long: someone may be about to name it. */
const STRAY_AGE_MS_MIN = 10 * 60 * 1000;

/** The active partition as this process sees it. */
interface Active {
  readonly entry: PartitionEntry;
  readonly count: PartitionCount;
  /** Blocks and records that this process appended. */
  ownBlocks: number;
  ownRecords: number;
  ownUploadBytes: number;
  /** Records in the partition, as far as can be told without reading: a block of another process counts as one. */
  records: number;
}

/** @throws FIRN_SOURCE_NAME_INVALID. Does not touch the storage. */
export function openJournal(
  state: BlobStore,
  source: string,
  settings: JournalSettings,
  { now = () => new Date() }: { readonly now?: () => Date } = {},
): Journal {
  checkSourceName(source);
  const recordsMax = Math.min(JOURNAL_RECORDS_MAX, Math.max(1, settings.recordsMax));
  const manifests = new ManifestStore(state, source, now);
  let active: Active | undefined;
  const queue = new AppendQueue({
    blockBytesMax: BLOCK_BYTES_MAX,
    recordsMax: () => recordsMax - (active?.records ?? 0),
    write: appendBlock,
  });

  function remember(entry: PartitionEntry, bytes: number): Active {
    if (active?.entry.blob !== entry.blob) {
      const count = new PartitionCount(state, source, entry.blob, bytes);
      active = { entry, count, ownBlocks: 0, ownRecords: 0, ownUploadBytes: 0, records: 0 };
    }
    return active;
  }

  async function openActive(): Promise<Active> {
    for (let tries = 0; tries < APPEND_TRIES_MAX; tries += 1) {
      if (active !== undefined) return active;
      const loaded = await manifests.load();
      const entry = activePartition(loaded.manifest);
      if (entry !== undefined) return remember(entry, 0);
      const created = now();
      const blob = await createPartition(state, source, loaded.manifest.next, created);
      const manifest = withActive(loaded.manifest, blob, created.toISOString());
      const written = manifest && (await manifests.tryWrite(loaded, manifest));
      const started = written && activePartition(written.manifest);
      if (started !== undefined) return remember(started, headerBytes(source));
      // Another was faster, and nobody has seen this one.
      await state.delete(partitionBlobName(source, blob));
    }
    const problem = `others changed the journal of ${source} each of ${APPEND_TRIES_MAX} times`;
    throw new FirnError('FIRN_STORAGE_FAILED', { url: state.url, problem });
  }

  async function appendBlock(block: Block): Promise<readonly string[]> {
    const sealed: string[] = [];
    for (let tries = 1; ; tries += 1) {
      const current = await openActive();
      try {
        const { offset, blocks } = await state.append(partitionBlobName(source, current.entry.blob), block.bytes);
        current.count.add({ ...block, bytes: block.bytes.length, offset });
        current.ownBlocks += 1;
        current.ownRecords += block.records;
        current.ownUploadBytes += block.uploadBytes;
        current.records = current.ownRecords + Math.max(0, blocks - 1 - current.ownBlocks);
        const due = current.records >= recordsMax || current.ownUploadBytes >= settings.uploadBytesMax;
        if (due) sealed.push(...(await rotateAfterAppend(current)));
        return sealed;
      } catch (error) {
        if (!isBlobFailure(error, 'sealed', 'full', 'missing') || tries >= APPEND_TRIES_MAX) throw error;
        // Others went on in another partition; or whoever sealed this one died before the manifest said so.
        sealed.push(...(await rotate(current.entry)).map(({ batch }) => batch));
      }
    }
  }

  /** The records are durable already: a failure here is no failure of the append, and the next one meets it again. */
  async function rotateAfterAppend({ entry }: Active): Promise<string[]> {
    try {
      return (await rotate(entry)).map(({ batch }) => batch);
    } catch (error) {
      if (error instanceof FirnError || error instanceof BlobStoreError) return [];
      throw error;
    }
  }

  /** Makes a batch of an active partition. @returns it, unless another process was faster. */
  async function rotate(entry: PartitionEntry, options?: CallOptions): Promise<BatchInfo[]> {
    const { blob } = entry;
    if (activePartition((await manifests.load(options)).manifest)?.blob !== blob) {
      if (active?.entry.blob === blob) active = undefined;
      return [];
    }
    const count = active?.entry.blob === blob ? active.count : undefined;
    const sealed = await sealPartition(state, source, blob, { ...options, now, count });
    const { changed } = await manifests.update((manifest) => withSealed(manifest, blob, sealed), options);
    if (active?.entry.blob === blob) active = undefined;
    if (!changed) return [];
    if (sealed !== undefined) return [infoOf({ ...entry, ...sealed })];
    await state.delete(partitionBlobName(source, blob), options);
    return [];
  }

  async function isDue(entry: PartitionEntry, force: boolean, options?: CallOptions): Promise<boolean> {
    const { count } = remember(entry, 0);
    const name = partitionBlobName(source, entry.blob);
    try {
      const { bytes, sealed } = await state.properties(name, options);
      if (sealed) return true;
      if (bytes <= headerBytes(source)) return false;
      const ageMs = now().getTime() - Date.parse(entry.created);
      if (force || ageMs >= settings.ageSecondsMax * 1000) return true;
      await count.readTo(bytes, options);
      return count.records >= recordsMax || count.uploadBytes >= settings.uploadBytesMax;
    } catch (error) {
      if (isBlobFailure(error, 'missing')) return true;
      throw error;
    }
  }

  /** Partitions that no manifest names: left by a process that died, or by a manifest that was lost. */
  async function adoptStrays(options?: CallOptions): Promise<BatchInfo[]> {
    const { manifest } = await manifests.load(options);
    const known = new Set(manifest.partitions.map(({ blob }) => blob));
    const adopted: BatchInfo[] = [];
    for await (const { blob, item } of listPartitions(state, source, options)) {
      if (known.has(blob) || now().getTime() - item.lastModified.getTime() < STRAY_AGE_MS_MIN) continue;
      const sealed = await sealPartition(state, source, blob, { ...options, now });
      if (sealed === undefined) {
        await state.delete(partitionBlobName(source, blob), options);
        continue;
      }
      const created = item.lastModified.toISOString();
      const result = await manifests.update((current) => withFound(current, blob, created, sealed), options);
      const entry = result.manifest.partitions.find((each) => each.blob === blob);
      if (result.changed && entry !== undefined) adopted.push(infoOf(entry));
    }
    return adopted;
  }

  async function deleteRetired(options?: CallOptions): Promise<void> {
    const { manifest } = await manifests.load(options);
    const retired = manifest.partitions.filter((each) => each.state === 'retired').map(({ blob }) => blob);
    if (retired.length === 0) return;
    await pMap(retired, (blob) => state.delete(partitionBlobName(source, blob), options), {
      concurrency: DELETES_IN_FLIGHT,
    });
    await manifests.update((current) => withoutRetired(current, new Set(retired)), options);
  }

  return {
    source,
    append: (records, options) => queue.append(records, options),

    async sealDue({ force = false, ...options } = {}) {
      await deleteRetired(options);
      const sealed = await adoptStrays(options);
      const entry = activePartition((await manifests.load(options)).manifest);
      if (entry !== undefined && (await isDue(entry, force, options))) sealed.push(...(await rotate(entry, options)));
      return sealed.sort((a, b) => (a.batch < b.batch ? -1 : 1));
    },

    async batches(options) {
      return sealedPartitions((await manifests.load(options)).manifest).map(infoOf);
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

    read: (batch, options = {}) => readBatch(state, source, manifests, batch, options),

    async retire(batches, options) {
      if (batches.length > 0) await manifests.update((manifest) => withRetired(manifest, new Set(batches)), options);
      await deleteRetired(options);
    },
  };
}

function infoOf(entry: PartitionEntry): BatchInfo {
  return {
    batch: batchName(entry),
    sealedAt: new Date(entry.sealedAt ?? entry.created),
    records: entry.records ?? 0,
    uploadBytes: entry.uploadBytes ?? 0,
  };
}

/** The sources that have a journal, in order. */
export async function* journalSources(state: BlobStore, options: CallOptions = {}): AsyncGenerator<string> {
  for await (const folder of state.listFolders({ ...options, prefix: 'journal/' })) {
    if (sourceNameProblem(folder) === undefined) yield folder;
  }
}
