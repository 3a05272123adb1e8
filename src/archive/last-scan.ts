/**
 * The scan that found what a snapshot holds. A file that its file system has not touched since then is as that scan found it;
 * any other is read again, whatever its size and mtime say.
 *
 * A scan that was published is named by its batch. One that read something again and found nothing new makes no snapshot: it leaves a
 * note at `scans/<source>`, so that the same files are not read by every scan that follows. Either is believed only of the
 * snapshot that it found, and of the folder that it looked at. The note only saves reading: where it is missing, or cannot be
 * used, more is read.
 */
import { randomBytes } from 'node:crypto';
import { realpath, stat } from 'node:fs/promises';
import { isFirnError } from '../errors.ts';
import type { Keys } from '../sealing/keys.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import type { SkippedPaths, Snapshot } from '../snapshots/snapshot.ts';
import { type CallOptions, propertiesIfThere } from '../storage/blob-store.ts';
import { hasTexts, parseJsonBlob } from '../storage/json-blob.ts';

/** What a scan looks at, and how. */
export interface ScanSubject {
  /** Tells the folder from others, and not where it is; see `folderTag`. */
  readonly folder: string;
  /** Before anything was looked at. */
  readonly begun: Date;
  /** Whether it reads what was touched since the scan before; else it rests on size, mtime and mode. */
  readonly byCtimes: boolean;
}

/** One that has ended. */
export interface LastScan extends ScanSubject {
  /** Files, and folders with all below them, that it could not read. */
  readonly skipped: ReadonlySet<string>;
}

/** The same for one folder as long as it lies where it is; 16 hex digits. */
export async function folderTag(keys: Pick<Keys, 'hash'>, folder: string): Promise<string> {
  const [place, { ino }] = await Promise.all([realpath(folder), stat(folder, { bigint: true })]);
  return keys.hash(Buffer.from(`folder\0${ino}\0${place}`)).slice(0, 16);
}

const SCAN_PREFIX = 'scan-';

/** The batch of a scan. */
export function scanName({ folder, begun, byCtimes }: ScanSubject): string {
  const time = begun.toISOString().replace(/[-:.]/g, '');
  return `${SCAN_PREFIX}${time}-${folder}-${byCtimes ? 'c' : 'm'}${randomBytes(4).toString('hex')}`;
}

/** Tells the batches of scans from those of the inbox by their names. */
export function isScan(batch: string): boolean {
  return batch.startsWith(SCAN_PREFIX);
}

// What older versions of Firn named otherwise is not believed: they did not look at times of change.
const scanPattern = /^scan-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z-([0-9a-f]{16})-([cm])[0-9a-f]{8}$/;

/** The scan that was published as this snapshot. */
function scanIn({ batches, skipped }: Snapshot): LastScan | undefined {
  const parts = scanPattern.exec(batches[0]?.batch ?? '');
  if (parts === null || !isAllNamed(skipped)) return undefined;
  const [, year, month, day, hour, minute, second, millisecond, folder = '', kind] = parts;
  return {
    folder,
    begun: new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}.${millisecond}Z`),
    byCtimes: kind === 'c',
    skipped: new Set(pathsOf(skipped)),
  };
}

/** Where not all is named that a scan has skipped, nothing is known of what it has read. */
function isAllNamed({ count, paths }: SkippedPaths): boolean {
  return count === paths.length;
}

function pathsOf({ paths }: SkippedPaths): string[] {
  return paths.map(({ path }) => path);
}

/**
 * The latest scan that found just what this snapshot holds in the folder of the next scan; undefined where none is known. One that
 * claims to have begun after the next had another clock, and is not believed.
 */
export async function findLastScan(
  state: SealedBlobs,
  base: Snapshot,
  next: ScanSubject,
  options: CallOptions,
): Promise<LastScan | undefined> {
  // The note was left when the snapshot was there.
  const last = (await readNote(state, base, options)) ?? scanIn(base);
  return last !== undefined && last.folder === next.folder && last.begun <= next.begun ? last : undefined;
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
    return isNote(note) && note.snapshot === id
      ? { ...note, begun: new Date(note.begun), skipped: new Set(note.skipped) }
      : undefined;
  } catch (error) {
    const useless = ['FIRN_SEAL_BROKEN', 'FIRN_BLOB_DAMAGED', 'FIRN_REPOSITORY_NEWER', 'FIRN_BLOB_OFFLINE'] as const;
    if (isFirnError(error, ...useless)) return undefined;
    throw error;
  }
}

interface Note {
  readonly snapshot: string;
  readonly folder: string;
  readonly begun: string;
  readonly byCtimes: boolean;
  readonly skipped: readonly string[];
}

function isNote(value: unknown): value is Note {
  if (!hasTexts(value, 'snapshot', 'folder', 'begun') || Number.isNaN(Date.parse(value.begun))) return false;
  const { byCtimes, skipped } = value as Partial<Record<keyof Note, unknown>>;
  return typeof byCtimes === 'boolean' && Array.isArray(skipped) && skipped.every((each) => typeof each === 'string');
}

/**
 * Leaves the note that a scan found just what this snapshot holds, but for what it skipped. Where that fails the next scan
 * reads more, and nothing else is lost; so only a cancellation is thrown.
 */
export async function noteScan(
  state: SealedBlobs,
  { source, id }: Snapshot,
  { folder, begun, byCtimes }: ScanSubject,
  skipped: SkippedPaths,
  { signal }: CallOptions,
): Promise<void> {
  if (!isAllNamed(skipped)) return;
  const name = noteName(source);
  const note: Note = { snapshot: id, folder, begun: begun.toISOString(), byCtimes, skipped: pathsOf(skipped) };
  const body = Buffer.from(JSON.stringify({ format: NOTE_FORMAT, ...note }));
  try {
    const ifMatch = (await propertiesIfThere(state.store, name, { signal }))?.etag;
    // Where another scan is faster its note is as good.
    if (ifMatch === undefined) await state.create('scan', name, body, { signal });
    else await state.replace('scan', name, body, { signal, ifMatch });
  } catch {
    signal?.throwIfAborted();
  }
}
