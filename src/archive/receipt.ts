/**
 * Receipts: the durable result of archiving one batch, waiting to be published. A receipt is a small JSON blob and the
 * parts that it names; the parts are written first, so a receipt that can be seen is whole, and whatever died half-way
 * left parts that nobody reads.
 *
 *     receipts/<source>/<batch>/receipt                  the receipt, sealed JSON
 *     receipts/<source>/<batch>/<run>/changes-<n>        changes in `compareChanges` order, one JSON object a line
 *     receipts/<source>/<batch>/<run>/index              the locations of the chunks it needs, a location table
 *
 * Each attempt at a batch writes under a run of its own, so two attempts at once never mix their parts; the first
 * receipt stays and the other attempt adopts it.
 */
import { randomBytes } from 'node:crypto';
import pMap, { pMapIterable } from 'p-map';
import { type ChunkLocation, LocationTable } from '../chunks/location.ts';
import { FirnError, isFirnError } from '../errors.ts';
import { type Change, compareChanges, type EntryAttributes, pathProblem } from '../filetree/entry.ts';
import { attributesProblem, contentProblem } from '../filetree/node.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import {
  isParent,
  isRun,
  isSkipped,
  SKIPPED_NAMED_MAX,
  type SkippedPath,
  type SkippedPaths,
} from '../snapshots/snapshot.ts';
import { allEnded } from '../storage/all-ended.ts';
import type { BlobStore, CallOptions } from '../storage/blob-store.ts';
import { hasCounts, hasTexts, parseJsonBlob } from '../storage/json-blob.ts';

const RECEIPT_FORMAT = 1;
export const RECEIPT_PREFIX = 'receipts/';
/** Raw bytes of a part of changes. A publish holds a part of each of the many receipts of an inbox, and one of a scan. */
const changesPartBytesTarget = { inbox: 256 * 1024, scan: 2 * 1024 * 1024 } as const;
const DELETES_IN_FLIGHT = 16;

/** A change, with the version of the upload that it came from; without one where that is another batch's to consume. */
export type ArchivedChange = Change & { readonly etag?: string | undefined };

export interface ArchiveTotals {
  /** Files and links read. */
  readonly files: number;
  readonly bytes: number;
  readonly newChunks: number;
  /** Times that a chunk was needed which was there already, in the repository or earlier in the batch. */
  readonly knownChunks: number;
  /** Raw bytes of the new chunks. */
  readonly newBytes: number;
  /** Bytes that they take on storage. */
  readonly storedBytes: number;
  /** Uploads that were deleted before they could be read. */
  readonly gone: number;
}

export interface Receipt {
  readonly source: string;
  readonly batch: string;
  /** Names the folder of its parts. */
  readonly run: string;
  /** RFC 3339, UTC. */
  readonly time: string;
  /**
   * `inbox`: its changes apply to whatever the head is. `scan`: they are the difference between a local folder and the
   * snapshot `base` (undefined: no snapshot), and apply to nothing else.
   */
  readonly kind: 'inbox' | 'scan';
  readonly base: string | undefined;
  readonly changesParts: number;
  readonly changes: number;
  readonly indexEntries: number;
  readonly totals: ArchiveTotals;
  readonly skipped: SkippedPaths;
}

/** What a receipt is about. */
export type ReceiptSubject = Pick<Receipt, 'source' | 'batch' | 'kind' | 'base'>;

function folderOf(source: string, batch: string): string {
  return `${RECEIPT_PREFIX}${source}/${batch}/`;
}

function receiptName(source: string, batch: string): string {
  return `${folderOf(source, batch)}receipt`;
}

function changesName({ source, batch, run }: Pick<Receipt, 'source' | 'batch' | 'run'>, part: number): string {
  return `${folderOf(source, batch)}${run}/changes-${String(part).padStart(6, '0')}`;
}

function indexName({ source, batch, run }: Pick<Receipt, 'source' | 'batch' | 'run'>): string {
  return `${folderOf(source, batch)}${run}/index`;
}

/** Writes the receipt of one attempt at one batch. */
export class ReceiptWriter {
  readonly #state: SealedBlobs;
  readonly #at: ReceiptSubject & Pick<Receipt, 'run'>;
  readonly #skipped: SkippedPath[] = [];
  #skippedCount = 0;
  #lines: string[] = [];
  #lineBytes = 0;
  #parts = 0;
  /** The parts so far: durable, or why not. */
  #written: Promise<unknown> = Promise.resolve();
  #beganToWrite = false;
  #changes = 0;
  #last: Change | undefined;

  constructor(state: SealedBlobs, subject: ReceiptSubject) {
    this.#state = state;
    this.#at = { ...subject, run: randomBytes(8).toString('hex') };
  }

  /** Adds a change; they must come in `compareChanges` order. */
  async addChange(change: ArchivedChange, options?: CallOptions): Promise<void> {
    if (this.#last && compareChanges(this.#last, change) >= 0) throw new Error(`${change.path} is out of order.`);
    this.#last = change;
    const line = `${JSON.stringify(change)}\n`;
    this.#lines.push(line);
    this.#lineBytes += Buffer.byteLength(line);
    this.#changes += 1;
    if (this.#lineBytes >= changesPartBytesTarget[this.#at.kind]) await this.#startPart(options);
  }

  addSkipped(skipped: SkippedPath): void {
    this.#skippedCount += 1;
    if (this.#skipped.length < SKIPPED_NAMED_MAX) this.#skipped.push(skipped);
  }

  get changes(): number {
    return this.#changes;
  }

  get skipped(): SkippedPaths {
    return { count: this.#skippedCount, paths: this.#skipped };
  }

  /** Waits for the part before only, so that changes go on while this one is written. */
  async #startPart(options?: CallOptions): Promise<void> {
    const body = Buffer.from(this.#lines.join(''));
    this.#lines = [];
    this.#lineBytes = 0;
    await this.#written;
    this.#beganToWrite = true;
    const name = changesName(this.#at, this.#parts);
    this.#parts += 1;
    this.#written = this.#state.create('receipt', name, body, options);
    // Whoever adds more, or finishes, is told.
    this.#written.catch(() => undefined);
  }

  /**
   * Makes the receipt visible. Every chunk it needs must be durable.
   * @returns this receipt, or the one that another attempt at the batch wrote before.
   */
  async finish(
    receipt: Pick<Receipt, 'time' | 'totals'>,
    locations: readonly ChunkLocation[],
    options?: CallOptions,
  ): Promise<Receipt> {
    const table = LocationTable.of(locations);
    if (this.#lines.length > 0) await this.#startPart(options);
    await allEnded([this.#written, this.#writeIndex(table, options)]);
    const whole: Receipt = {
      ...this.#at,
      ...receipt,
      changesParts: this.#parts,
      changes: this.#changes,
      indexEntries: table.count,
      skipped: this.skipped,
    };
    const { source, batch } = this.#at;
    const body = Buffer.from(JSON.stringify({ format: RECEIPT_FORMAT, ...whole, base: whole.base ?? null }));
    const created = await this.#state.create('receipt', receiptName(source, batch), body, options);
    if (created !== undefined) return whole;
    const other = await findReceipt(this.#state, source, batch, options);
    // The answer to a create that succeeded may be lost; its retry then meets its own work.
    if (other?.run === whole.run) return whole;
    await this.discard(options);
    // It was there and is gone: the batch was published and retired meanwhile.
    return other ?? whole;
  }

  async #writeIndex(table: LocationTable, options?: CallOptions): Promise<void> {
    if (table.count === 0) return;
    this.#beganToWrite = true;
    await this.#state.create('receipt-index', indexName(this.#at), table.bytes, options);
  }

  /** Removes the parts of this attempt, if it wrote any. */
  async discard(options?: CallOptions): Promise<void> {
    if (!this.#beganToWrite) return;
    await this.#written.catch(() => undefined);
    const { source, batch, run } = this.#at;
    const left = attemptsUnder(this.#state.store, `${folderOf(source, batch)}${run}/`, options);
    for await (const attempts of left) await deleteAttempts(this.#state, attempts, options);
  }
}

/** @returns undefined when the batch has none. @throws FIRN_RECEIPT_DAMAGED. */
export async function findReceipt(
  state: SealedBlobs,
  source: string,
  batch: string,
  options?: CallOptions,
): Promise<Receipt | undefined> {
  const name = receiptName(source, batch);
  return await orDamaged(name, async () => {
    const found = await state.find('receipt', name, options);
    return found && parseReceipt(name, found.body);
  });
}

/** The same where a damaged receipt is taken out of the way: its batch is still in the journal and is archived again. */
export async function findUsableReceipt(
  { state, onWarning }: { readonly state: SealedBlobs; readonly onWarning: (error: FirnError) => void },
  source: string,
  batch: string,
  options?: CallOptions,
): Promise<Receipt | undefined> {
  try {
    return await findReceipt(state, source, batch, options);
  } catch (error) {
    if (!isFirnError(error, 'FIRN_RECEIPT_DAMAGED')) throw error;
    onWarning(error);
    await deleteReceipt(state, source, batch, options);
    return undefined;
  }
}

function parseReceipt(name: string, body: Buffer): Receipt {
  const { format: _, ...value } = parseJsonBlob(name, body, RECEIPT_FORMAT);
  const { kind, base, totals, skipped } = value;
  if (
    !hasTexts(value, 'source', 'batch', 'run', 'time') ||
    receiptName(value.source, value.batch) !== name ||
    !isRun(value.run) ||
    (kind !== 'inbox' && kind !== 'scan') ||
    !isParent(base) ||
    !hasCounts(value, 'changesParts', 'changes', 'indexEntries') ||
    !hasCounts(totals, 'files', 'bytes', 'newChunks', 'newBytes', 'storedBytes', 'gone') ||
    !isSkipped(skipped)
  ) {
    throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem: 'it is not the receipt of this batch' });
  }
  const { source, batch, run, time, changesParts, changes, indexEntries } = value;
  return {
    source,
    batch,
    run,
    time,
    kind,
    base: base ?? undefined,
    changesParts,
    changes,
    indexEntries,
    // Receipts of earlier versions do not have it.
    totals: { ...totals, knownChunks: hasCounts(totals, 'knownChunks') ? totals.knownChunks : 0 },
    skipped,
  };
}

/** One by one: a receipt may claim any number of parts. */
function* changesNames(receipt: Receipt): Generator<string> {
  for (let part = 0; part < receipt.changesParts; part += 1) yield changesName(receipt, part);
}

/** The changes of a receipt, in order; one part in memory at a time, and the bytes of the next. @throws FIRN_RECEIPT_DAMAGED. */
export async function* readChanges(
  state: SealedBlobs,
  receipt: Receipt,
  options?: CallOptions,
): AsyncGenerator<ArchivedChange> {
  let count = 0;
  let last: ArchivedChange | undefined;
  const read = async (name: string) => {
    const { body } = await orDamaged(name, () => state.get('receipt', name, options));
    return { name, body };
  };
  // The next is read while one is taken.
  for await (const { name, body } of pMapIterable(changesNames(receipt), read, { concurrency: 1 })) {
    const changes = await orDamaged(name, async () => {
      const lines = body.toString().split('\n');
      return lines.filter((line) => line !== '').map((line) => parseChange(name, line));
    });
    for (const change of changes) {
      if (last !== undefined && compareChanges(last, change) >= 0) {
        throw new FirnError('FIRN_RECEIPT_DAMAGED', { blob: name, problem: 'its changes are not in order' });
      }
      last = change;
      count += 1;
      yield change;
    }
  }
  if (count !== receipt.changes) {
    const blob = receiptName(receipt.source, receipt.batch);
    throw new FirnError('FIRN_RECEIPT_DAMAGED', { blob, problem: 'it does not have all its changes' });
  }
}

/** @throws SyntaxError, FIRN_BLOB_DAMAGED. */
function parseChange(blob: string, line: string): ArchivedChange {
  const value: unknown = JSON.parse(line);
  const problem = changeProblem(value);
  if (problem !== undefined) throw new FirnError('FIRN_BLOB_DAMAGED', { blob, problem });
  return value as ArchivedChange;
}

function changeProblem(value: unknown): string | undefined {
  if (!hasTexts(value, 'path', 'op')) return 'it holds what is no change';
  const { path, op } = value;
  const { entry, etag } = value as { entry?: unknown; etag?: unknown };
  if (pathProblem(path) !== undefined) return 'a path of it cannot be archived';
  if (op === 'remove') return undefined;
  if (op !== 'put' || !hasTexts(entry, 'type')) return 'it holds what is no change';
  if (etag !== undefined && typeof etag !== 'string') return 'it names no version of an upload';
  return attributesProblem(entry as EntryAttributes) ?? contentProblem(entry);
}

/** The chunk locations of a receipt; undefined when it needs none. @throws FIRN_RECEIPT_DAMAGED. */
export async function readLocations(
  state: SealedBlobs,
  receipt: Receipt,
  options?: CallOptions,
): Promise<LocationTable | undefined> {
  if (receipt.indexEntries === 0) return undefined;
  const name = indexName(receipt);
  return await orDamaged(name, async () => {
    const table = LocationTable.from(name, (await state.get('receipt-index', name, options)).body);
    if (table.count === receipt.indexEntries) return table;
    throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem: 'it does not have all its chunks' });
  });
}

/** What lies under `receipts/` of one batch: its receipt, or what attempts left that have none (yet). */
export interface Attempts {
  readonly source: string;
  readonly batch: string;
  /** When the receipt was written; undefined without one. */
  readonly receiptWritten: Date | undefined;
  readonly newest: Date;
  /** Of all blobs. */
  readonly names: readonly string[];
}

/** In the order of the names of the batches; of one source, or of all when undefined. */
export function listAttempts(
  state: BlobStore,
  source: string | undefined,
  options?: CallOptions,
): AsyncGenerator<Attempts> {
  return attemptsUnder(state, source === undefined ? RECEIPT_PREFIX : `${RECEIPT_PREFIX}${source}/`, options);
}

async function* attemptsUnder(state: BlobStore, prefix: string, options?: CallOptions): AsyncGenerator<Attempts> {
  let open: (Attempts & { readonly names: string[] }) | undefined;
  for await (const { name, lastModified } of state.list({ ...options, prefix })) {
    const [, source, batch, last] = name.split('/');
    if (!source || !batch) continue;
    if (open?.source !== source || open.batch !== batch) {
      if (open) yield open;
      open = { source, batch, receiptWritten: undefined, newest: lastModified, names: [] };
    }
    const newest = lastModified > open.newest ? lastModified : open.newest;
    open = { ...open, newest, ...(last === 'receipt' && { receiptWritten: lastModified }) };
    open.names.push(name);
  }
  if (open) yield open;
}

/** Which batches of a source (of all sources when undefined) have a receipt, in the order of their names. */
export async function* listReceipts(
  state: BlobStore,
  source: string | undefined,
  options?: CallOptions,
): AsyncGenerator<{ source: string; batch: string; written: Date }> {
  for await (const { receiptWritten: written, ...of } of listAttempts(state, source, options)) {
    if (written !== undefined) yield { source: of.source, batch: of.batch, written };
  }
}

/**
 * Parts without a receipt, and nothing was written for so long: whoever wrote them died. Should one live after all, its
 * receipt is found to miss its parts, and its batch is archived again.
 */
const ABANDONED_AFTER_MS = 7 * 24 * 60 * 60 * 1000;

/** Removes the parts of attempts that died. @returns whether these did. */
export async function sweepIfAbandoned(
  state: Pick<SealedBlobs, 'store'>,
  attempts: Attempts,
  now: Date,
  options?: CallOptions,
): Promise<boolean> {
  const { receiptWritten, newest } = attempts;
  if (receiptWritten !== undefined || now.getTime() - newest.getTime() < ABANDONED_AFTER_MS) return false;
  await deleteAttempts(state, attempts, options);
  return true;
}

/** Removes a receipt with all its parts. */
export async function deleteReceipt(
  state: Pick<SealedBlobs, 'store'>,
  source: string,
  batch: string,
  options?: CallOptions,
): Promise<void> {
  const left = attemptsUnder(state.store, folderOf(source, batch), options);
  for await (const attempts of left) await deleteAttempts(state, attempts, options);
}

/** Removes what was listed of a batch; the receipt itself last, so that dying half-way leaves it to be found. */
export async function deleteAttempts(
  { store }: Pick<SealedBlobs, 'store'>,
  { source, batch, names }: Attempts,
  options?: CallOptions,
): Promise<void> {
  const receipt = receiptName(source, batch);
  const parts = names.filter((name) => name !== receipt);
  await pMap(parts, async (name) => await store.delete(name, options), { concurrency: DELETES_IN_FLIGHT });
  if (parts.length < names.length) await store.delete(receipt, options);
}

async function orDamaged<T>(blob: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    const damaged =
      error instanceof SyntaxError || isFirnError(error, 'FIRN_SEAL_BROKEN', 'FIRN_BLOB_DAMAGED', 'FIRN_BLOB_MISSING');
    if (!damaged) throw error;
    throw new FirnError('FIRN_RECEIPT_DAMAGED', { blob, problem: error.message }, { cause: error });
  }
}
