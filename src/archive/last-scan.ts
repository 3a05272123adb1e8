/**
 * The last look at the folder of a source. A file that its file system has not touched since then is as that look found it;
 * any other is read again, whatever its size and mtime say.
 *
 * A scan that was published is named so by its batch. One that read something again and found nothing new makes no snapshot: it
 * leaves a note at `scans/<source>`, so that the same files are not read by every scan that follows. The note only saves reading: it
 * holds for the snapshot that it names, and where it is missing, or cannot be used, more is read.
 */
import { randomBytes } from 'node:crypto';
import { isFirnError } from '../errors.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import type { SkippedPaths, Snapshot } from '../snapshots/snapshot.ts';
import type { SnapshotStore } from '../snapshots/snapshot-store.ts';
import { allEnded } from '../storage/all-ended.ts';
import { type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import { hasTexts, parseJsonBlob } from '../storage/json-blob.ts';

const SCAN_PREFIX = 'scan-';
/** Of a scan that reads what was touched, before the random digits of its name; those of older versions of Firn did not. */
const BY_CTIMES = 't';

/** The batch of a scan. @param byCtimes whether it reads what was touched since the one before. */
export function scanName(begun: Date, { byCtimes }: { byCtimes: boolean }): string {
  const time = begun.toISOString().replace(/[-:.]/g, '');
  return `${SCAN_PREFIX}${time}-${byCtimes ? BY_CTIMES : ''}${randomBytes(4).toString('hex')}`;
}

/** Tells the batches of scans from those of the inbox by their names. */
export function isScan(batch: string): boolean {
  return batch.startsWith(SCAN_PREFIX);
}

export interface LastScan {
  readonly begun: Date;
  /** Whether it has read all that was touched since the one before, but for what it has skipped. */
  readonly byCtimes: boolean;
  /** Files, and folders with all below them, that it could not read. */
  readonly skipped: ReadonlySet<string>;
}

const scanPattern = /^scan-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z-(t?)[0-9a-f]{8}$/;

/** The scan that went into this snapshot, if one did. */
function scanIn({ batches, skipped }: Snapshot): LastScan | undefined {
  for (const { batch } of batches) {
    const parts = scanPattern.exec(batch);
    if (parts === null) continue;
    const [, year, month, day, hour, minute, second, millisecond, byCtimes] = parts;
    return {
      begun: new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}.${millisecond}Z`),
      byCtimes: byCtimes === BY_CTIMES && isAllNamed(skipped),
      skipped: new Set(skipped.paths.map(({ path }) => path)),
    };
  }
  return undefined;
}

/** Where not all is named that a scan has skipped, nothing is known of what it has read. */
function isAllNamed({ count, paths }: SkippedPaths): boolean {
  return count === paths.length;
}

/** Snapshots of uploads and removals between two scans that are looked through for the earlier one. */
const SNAPSHOTS_BACK_MAX = 32;

export interface LastScanParts {
  readonly snapshots: Pick<SnapshotStore, 'ancestors'>;
  readonly state: SealedBlobs;
}

/**
 * The latest scan that found what this snapshot holds; undefined where none is near.
 * @param before the next scan, which begins then: one that claims to be later had another clock, and is not believed.
 */
export async function findLastScan(
  { snapshots, state }: LastScanParts,
  base: Snapshot,
  before: Date,
  options: CallOptions,
): Promise<LastScan | undefined> {
  const [noted, published] = await allEnded([readNote(state, base, options), publishedScan(snapshots, base, options)]);
  // The note was left when the snapshot was there.
  const last = noted ?? published;
  return last !== undefined && last.begun <= before ? last : undefined;
}

async function publishedScan(
  snapshots: LastScanParts['snapshots'],
  base: Snapshot,
  options: CallOptions,
): Promise<LastScan | undefined> {
  let scan = scanIn(base);
  if (scan !== undefined) return scan;
  let back = 0;
  for await (const earlier of snapshots.ancestors(base, options)) {
    scan = scanIn(earlier);
    back += 1;
    if (scan !== undefined || back === SNAPSHOTS_BACK_MAX) break;
  }
  return scan;
}

const NOTE_FORMAT = 1;

function noteName(source: string): string {
  return `scans/${source}`;
}

async function readNote(
  state: SealedBlobs,
  { source, id }: Snapshot,
  options: CallOptions,
): Promise<LastScan | undefined> {
  const name = noteName(source);
  try {
    const found = await state.find('scan', name, options);
    const note = found && parseJsonBlob(name, found.body, NOTE_FORMAT);
    if (!hasTexts(note, 'snapshot', 'begun') || note.snapshot !== id) return undefined;
    const begun = new Date(note.begun);
    if (Number.isNaN(begun.getTime()) || !('skipped' in note) || !isListOfTexts(note.skipped)) return undefined;
    return { begun, byCtimes: true, skipped: new Set(note.skipped) };
  } catch (error) {
    const useless = ['FIRN_SEAL_BROKEN', 'FIRN_BLOB_DAMAGED', 'FIRN_REPOSITORY_NEWER', 'FIRN_BLOB_OFFLINE'] as const;
    if (isFirnError(error, ...useless)) return undefined;
    throw error;
  }
}

function isListOfTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
}

/**
 * Leaves the note that a scan which began then, and read all that was touched but for what it skipped, found just what this snapshot
 * holds. Where that fails the next scan reads more, and nothing else is lost; so only a cancellation is thrown.
 */
export async function noteScan(
  state: SealedBlobs,
  { source, id }: Snapshot,
  { begun, skipped }: { readonly begun: Date; readonly skipped: SkippedPaths },
  { signal }: CallOptions,
): Promise<void> {
  if (!isAllNamed(skipped)) return;
  const name = noteName(source);
  const paths = skipped.paths.map(({ path }) => path);
  const body = Buffer.from(JSON.stringify({ format: NOTE_FORMAT, snapshot: id, begun, skipped: paths }));
  try {
    const ifMatch = await etagOf(state, name, { signal });
    // Where another scan is faster its note is as good.
    if (ifMatch === undefined) await state.create('scan', name, body, { signal });
    else await state.replace('scan', name, body, { signal, ifMatch });
  } catch {
    signal?.throwIfAborted();
  }
}

async function etagOf(state: SealedBlobs, name: string, options: CallOptions): Promise<string | undefined> {
  try {
    return (await state.store.properties(name, options)).etag;
  } catch (error) {
    if (isBlobFailure(error, 'missing')) return undefined;
    throw error;
  }
}
