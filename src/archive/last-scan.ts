/**
 * When the folder of a source was last looked at. A file that nobody has touched since then is as that look found it; any other is
 * read again, whatever its size and time say.
 *
 * A scan that was published gives its batch a name that tells it. One that read something again and found nothing new makes no
 * snapshot: it leaves a note at `scans/<source>`, so that the same files are not read by every scan that follows. The note only
 * saves reading: it holds for the snapshot that it names, and without it, or when it is damaged, more is read.
 */
import { randomBytes } from 'node:crypto';
import { isFirnError } from '../errors.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import type { Snapshot } from '../snapshots/snapshot.ts';
import type { SnapshotStore } from '../snapshots/snapshot-store.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { hasTexts, parseJsonBlob } from '../storage/json-blob.ts';

const SCAN_PREFIX = 'scan-';

/** The batch of a scan. */
export function scanName(begun: Date): string {
  return `${SCAN_PREFIX}${begun.toISOString().replace(/[-:.]/g, '')}-${randomBytes(4).toString('hex')}`;
}

/** Tells the batches of scans from those of the inbox by their names. */
export function isScan(batch: string): boolean {
  return batch.startsWith(SCAN_PREFIX);
}

/** When the scan began that made this batch; undefined for a batch of the inbox. */
function begunOfBatch(batch: string): Date | undefined {
  const parts = /^scan-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z-/.exec(batch);
  if (parts === null) return undefined;
  const [, year, month, day, hour, minute, second, millisecond] = parts;
  return new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}.${millisecond}Z`);
}

/** Snapshots of uploads and removals between two scans that are looked through for the earlier one. */
const SNAPSHOTS_BACK_MAX = 32;

export interface LastScanParts {
  readonly snapshots: Pick<SnapshotStore, 'ancestors'>;
  readonly state: SealedBlobs;
}

/** When the latest scan began that found what this snapshot holds; undefined where none is near. */
export async function lastScanBegun(
  { snapshots, state }: LastScanParts,
  base: Snapshot,
  options: CallOptions,
): Promise<Date | undefined> {
  const [published, noted] = await Promise.all([
    publishedScanBegun(snapshots, base, options),
    notedScanBegun(state, base, options),
  ]);
  return noted !== undefined && (published === undefined || published < noted) ? noted : published;
}

async function publishedScanBegun(
  snapshots: LastScanParts['snapshots'],
  base: Snapshot,
  options: CallOptions,
): Promise<Date | undefined> {
  const begunOf = ({ batches }: Snapshot) =>
    batches.map(({ batch }) => begunOfBatch(batch)).find((begun) => begun !== undefined);
  let begun = begunOf(base);
  if (begun !== undefined) return begun;
  let back = 0;
  for await (const earlier of snapshots.ancestors(base, options)) {
    begun = begunOf(earlier);
    back += 1;
    if (begun !== undefined || back === SNAPSHOTS_BACK_MAX) break;
  }
  return begun;
}

const NOTE_FORMAT = 1;

function noteName(source: string): string {
  return `scans/${source}`;
}

async function notedScanBegun(
  state: SealedBlobs,
  { source, id }: Snapshot,
  options: CallOptions,
): Promise<Date | undefined> {
  const name = noteName(source);
  try {
    const found = await state.find('scan', name, options);
    const note = found && parseJsonBlob(name, found.body, NOTE_FORMAT);
    if (!hasTexts(note, 'snapshot', 'begun') || note.snapshot !== id) return undefined;
    const begun = new Date(note.begun);
    return Number.isNaN(begun.getTime()) ? undefined : begun;
  } catch (error) {
    if (isFirnError(error, 'FIRN_SEAL_BROKEN', 'FIRN_BLOB_DAMAGED')) return undefined;
    throw error;
  }
}

/** Leaves the note that a scan which began then found just what this snapshot holds. */
export async function noteScan(
  state: SealedBlobs,
  { source, id }: Snapshot,
  begun: Date,
  options: CallOptions,
): Promise<void> {
  const name = noteName(source);
  const body = Buffer.from(JSON.stringify({ format: NOTE_FORMAT, snapshot: id, begun: begun.toISOString() }));
  const there = await state.inspect('scan', name, options);
  // Where another scan is faster its note is as good.
  if (there === undefined) await state.create('scan', name, body, options);
  else await state.replace('scan', name, body, { ...options, ifMatch: there.etag });
}
