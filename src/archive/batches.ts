/**
 * The life of batches before they are archived: uploads are recorded, partitions sealed into batches, and each batch is
 * named to the queue until it has a receipt.
 *
 * A queue message can be lost between sealing and queueing, or end in the poison queue. So sealed batches without a
 * receipt are named again after `batchRetrySeconds`, for ever; `queued/<source>` remembers when each was named last. It
 * is only a memory: losing it names a batch once too often. Batches that pile up without being archived are compacted.
 */

import { FirnError, isFirnError } from '../errors.ts';
import { checkPath } from '../filetree/entry.ts';
import type { Compaction } from '../journal/compaction.ts';
import { journalSources } from '../journal/journal.ts';
import type { RemovalRecord, UploadRecord } from '../journal/record.ts';
import { checkSourceName, sourceNameProblem } from '../journal/source-name.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import { type CallOptions, isBlobFailure, propertiesIfThere } from '../storage/blob-store.ts';
import { parseJsonBlob } from '../storage/json-blob.ts';
import { storageProblem } from '../storage/storage-problem.ts';
import { compactIdle, type WaitingBatch } from './idle-batches.ts';
import type { ArchiveParts } from './parts.ts';
import { listReceipts } from './receipt.ts';

/** What a queue message carries: a reference, whatever the size of the batch. */
export interface BatchReference {
  readonly source: string;
  readonly batch: string;
}

const QUEUED_FORMAT = 1;
const FAILED_FORMAT = 1;
const FAILED_PREFIX = 'failed/';

/** What can be done without the keys of the repository: no batch is opened here, only named. */
export type BatchParts = Pick<ArchiveParts, 'inbox' | 'settings' | 'journalOf' | 'now' | 'onWarning'> & {
  readonly state: Pick<SealedBlobs, 'store'>;
};

/**
 * Records an upload that was announced by an event. What is recorded is the version that the inbox holds now, so a late
 * or repeated event costs nothing; an upload that is gone is passed over, and a name that has no source is reported.
 * @param name of the blob in the inbox: `<source>/<path>`.
 * @returns the batches that this sealed, which are to be queued.
 */
export async function recordUpload(parts: BatchParts, name: string, options?: CallOptions): Promise<BatchReference[]> {
  const upload = sourceOfUpload(name);
  const problem = upload === undefined ? 'it is not in the folder of a source' : sourceNameProblem(upload.source);
  if (upload === undefined || problem !== undefined) {
    parts.onWarning(new FirnError('FIRN_PATH_UNUSABLE', { path: name, problem: problem ?? '' }));
    return [];
  }
  const there = await propertiesIfThere(parts.inbox, name, options);
  if (there === undefined) return [];
  const { etag, bytes } = there;
  return await recordInJournal(parts, upload.source, { kind: 'upload', path: upload.path, etag, bytes }, options);
}

/** Splits the name of an inbox blob into its source and its path; undefined when it is in no source. */
export function sourceOfUpload(name: string): { source: string; path: string } | undefined {
  const slash = name.indexOf('/');
  if (slash <= 0 || slash === name.length - 1) return undefined;
  return { source: name.slice(0, slash), path: name.slice(slash + 1) };
}

/**
 * Records what happened to a source; durable when it resolves.
 * @returns the batches that this sealed, which are to be queued.
 */
export async function recordInJournal(
  parts: BatchParts,
  source: string,
  record: UploadRecord | RemovalRecord,
  options?: CallOptions,
): Promise<BatchReference[]> {
  checkSourceName(source);
  if (record.kind === 'removal') checkPath(record.path);
  const journal = parts.journalOf(source);
  const { sealed } = await journal.append([record], options);
  return sealed.map((batch) => ({ source, batch }));
}

/** Compactions in one run of the timer, of all sources: each is a matter of seconds. */
const COMPACTIONS_MAX = 8;

/**
 * Seals what is due (with `force` whatever is not empty) and finds batches that need to be named again. For all sources, as
 * the timer calls it, it also makes one batch of many that nobody works on.
 * @returns the batches to be queued.
 */
export async function sealDueBatches(
  parts: BatchParts,
  options: CallOptions & { readonly source?: string | undefined; readonly force?: boolean } = {},
): Promise<BatchReference[]> {
  const due: BatchReference[] = [];
  let compactions = options.source === undefined ? COMPACTIONS_MAX : 0;
  const sources = options.source === undefined ? journalSources(parts.state.store, options) : [options.source];
  for await (const source of sources) {
    try {
      const journal = parts.journalOf(source);
      const { force = false, signal } = options;
      const sealed = (await journal.sealDue({ force, signal })).map(({ batch }) => batch);
      for (const batch of sealed) due.push({ source, batch });
      let waiting = await batchesWithoutReceipt(parts, source, options);
      if (compactions > 0) {
        const compacted = await compactWaiting(parts, source, waiting, { signal });
        if (compacted !== undefined) {
          compactions -= 1;
          sealed.push(compacted.created.batch);
          due.push({ source, batch: compacted.created.batch });
          waiting = waiting.filter(({ batch }) => !compacted.replaced.includes(batch));
        }
      }
      const again = await batchesToNameAgain(parts, source, waiting, sealed, options);
      for (const batch of again) due.push({ source, batch });
    } catch (error) {
      // What is wrong with one source must not hold up the others.
      const problem = storageProblem(error, parts.state.store.url);
      if (options.source !== undefined || problem === undefined) throw error;
      parts.onWarning(problem);
    }
  }
  return due;
}

async function compactWaiting(
  parts: BatchParts,
  source: string,
  waiting: readonly WaitingBatch[],
  options: CallOptions,
): Promise<Compaction | undefined> {
  const { batchRetrySeconds } = parts.settings;
  try {
    const compacted = await compactIdle(parts.journalOf(source), waiting, parts.now(), batchRetrySeconds, options);
    // Nobody is going to archive these any more.
    for (const batch of compacted?.replaced ?? []) await clearBatchFailure(parts, { source, batch }, options);
    return compacted;
  } catch (error) {
    // The batches are as good as before, and are to be named again.
    const problem = storageProblem(error, parts.state.store.url);
    if (problem === undefined) throw error;
    parts.onWarning(problem);
    return undefined;
  }
}

/** Sealed batches of a source that have no receipt yet, oldest first. */
export async function batchesWithoutReceipt(
  parts: BatchParts,
  source: string,
  options?: CallOptions,
): Promise<WaitingBatch[]> {
  const sealed = await parts.journalOf(source).batches(options);
  if (sealed.length === 0) return [];
  return withoutReceipt(sealed, await Array.fromAsync(listReceipts(parts.state.store, source, options)));
}

/** Pure. */
export function withoutReceipt(
  sealed: readonly WaitingBatch[],
  receipts: readonly { readonly batch: string }[],
): WaitingBatch[] {
  const archived = new Set(receipts.map(({ batch }) => batch));
  return sealed.filter(({ batch }) => !archived.has(batch));
}

async function batchesToNameAgain(
  parts: BatchParts,
  source: string,
  waiting: readonly WaitingBatch[],
  sealedNow: readonly string[],
  options: CallOptions,
): Promise<string[]> {
  const name = `queued/${source}`;
  const found = await readQueued(parts, name, options);
  const now = parts.now();
  const retryAfterMs = parts.settings.batchRetrySeconds * 1000;
  const again = waiting
    .filter(({ batch }) => !sealedNow.includes(batch))
    .filter(({ batch, sealedAt }) => {
      const last = found?.queued[batch];
      const agoMs = now.getTime() - (last === undefined ? sealedAt.getTime() : Date.parse(last));
      // A time that lies ahead, or is none, says nothing: the batch is named again.
      return !(agoMs >= 0 && agoMs < retryAfterMs);
    })
    .map(({ batch }) => batch);
  if (again.length === 0) return [];
  const kept = waiting.flatMap(({ batch }) => {
    const last = again.includes(batch) ? now.toISOString() : found?.queued[batch];
    return last === undefined ? [] : [[batch, last] as const];
  });
  const body = Buffer.from(JSON.stringify({ format: QUEUED_FORMAT, queued: Object.fromEntries(kept) }));
  try {
    if (found === undefined) await parts.state.store.create(name, body, options);
    else await parts.state.store.replace(name, body, { ...options, ifMatch: found.etag });
  } catch (error) {
    // Another timer was faster and names them.
    if (isBlobFailure(error, 'exists', 'changed', 'missing')) return [];
    throw error;
  }
  return again;
}

async function readQueued(
  parts: BatchParts,
  name: string,
  options: CallOptions,
): Promise<{ queued: Readonly<Record<string, string>>; etag: string } | undefined> {
  try {
    const { body, properties } = await parts.state.store.read(name, options);
    const { etag } = properties;
    try {
      const { queued } = parseJsonBlob(name, body, QUEUED_FORMAT);
      return { queued: isTimes(queued) ? queued : {}, etag };
    } catch (error) {
      if (isFirnError(error, 'FIRN_BLOB_DAMAGED')) return { queued: {}, etag };
      throw error;
    }
  } catch (error) {
    if (isBlobFailure(error, 'missing')) return undefined;
    throw error;
  }
}

function isTimes(value: unknown): value is Record<string, string> {
  return typeof value === 'object' && value !== null && Object.values(value).every((each) => typeof each === 'string');
}

/** A batch that ended in the poison queue: it is still tried again, and shown until it is archived. */
export interface FailedBatch extends BatchReference {
  /** RFC 3339, UTC: the last time it was given up. */
  readonly time: string;
}

/** @throws FIRN_SOURCE_NAME_INVALID when the message names no source. */
export async function markBatchFailed(
  parts: BatchParts,
  { source, batch }: BatchReference,
  options?: CallOptions,
): Promise<FirnError> {
  checkSourceName(source);
  const name = `${FAILED_PREFIX}${source}/${batch}`;
  const failed: FailedBatch = { source, batch, time: parts.now().toISOString() };
  await parts.state.store.delete(name, options);
  try {
    await parts.state.store.create(name, Buffer.from(JSON.stringify({ format: FAILED_FORMAT, ...failed })), options);
  } catch (error) {
    if (!isBlobFailure(error, 'exists')) throw error;
  }
  // The message may have come here after another delivery of it succeeded.
  const waiting = await batchesWithoutReceipt(parts, source, options);
  if (!waiting.some((each) => each.batch === batch)) await clearBatchFailure(parts, { source, batch }, options);
  return new FirnError('FIRN_BATCH_FAILED', { source, batch, problem: 'every delivery of its message failed' });
}

export async function clearBatchFailure(
  parts: BatchParts,
  { source, batch }: BatchReference,
  options?: CallOptions,
): Promise<void> {
  await parts.state.store.delete(`${FAILED_PREFIX}${source}/${batch}`, options);
}

export async function* failedBatches(parts: BatchParts, options?: CallOptions): AsyncGenerator<FailedBatch> {
  for await (const { name, lastModified } of parts.state.store.list({ ...options, prefix: FAILED_PREFIX })) {
    const [, source, batch] = name.split('/');
    if (source && batch) yield { source, batch, time: lastModified.toISOString() };
  }
}
