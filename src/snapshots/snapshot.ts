/**
 * A snapshot: the immutable manifest of one publish of one source. Stored sealed under `snapshots/<utc>-<id>`, so that
 * a listing is in order of time. The body is JSON with the fields below in this order.
 */
import { FirnError } from '../errors.ts';
import type { FolderTotals } from '../filetree/entry.ts';
import { type Hash, isHash } from '../sealing/keys.ts';
import { hasCounts, hasTexts, parseJsonBlob } from '../storage/json-blob.ts';

const SNAPSHOT_FORMAT = 1;
export const SNAPSHOT_PREFIX = 'snapshots/';
/** So many skipped paths are named in a manifest; all are counted. */
export const SKIPPED_NAMED_MAX = 1_000;

/** A path that could not be archived. */
export interface SkippedPath {
  readonly path: string;
  /** A stable error code. */
  readonly code: string;
  readonly problem: string;
}

export interface SkippedPaths {
  readonly count: number;
  readonly paths: readonly SkippedPath[];
}

export interface PublishedBatch {
  readonly batch: string;
  readonly run: string;
}

/** Segments of the names of blobs, longer than any that Firn gives. */
const batchPattern = /^[\w-]{1,100}$/;
const idPattern = /^[0-9a-f]{16}$/;

export function isPublishedBatches(value: unknown): value is PublishedBatch[] {
  return (
    Array.isArray(value) &&
    value.every((each) => hasTexts(each, 'batch', 'run') && isBatch(each.batch) && isRun(each.run))
  );
}

function isBatch(name: string): boolean {
  return batchPattern.test(name);
}

/** Of an attempt at a batch. */
export function isRun(name: string): boolean {
  return idPattern.test(name);
}

export interface Snapshot {
  /** 16 hex digits. */
  readonly id: string;
  readonly source: string;
  /** RFC 3339 with milliseconds, UTC: when the publish was planned. */
  readonly time: string;
  /** Id of the snapshot that this one followed. */
  readonly parent: string | undefined;
  readonly root: Hash;
  readonly totals: FolderTotals;
  /** Files and links against the parent. */
  readonly changes: { readonly added: number; readonly changed: number; readonly removed: number };
  /** What this publish stored that was not there before. */
  readonly stored: { readonly newChunks: number; readonly newBytes: number; readonly storedBytes: number };
  /** The batches that went into it, each with the run whose receipt did. */
  readonly batches: readonly PublishedBatch[];
  readonly skipped: SkippedPaths;
}

export function snapshotName(snapshot: { id: string; time: string }): string {
  return `${SNAPSHOT_PREFIX}${snapshot.time.replace(/[-:.]/g, '')}-${snapshot.id}`;
}

const namePattern = /^snapshots\/(\d{8}T\d{9}Z)-([0-9a-f]{16})$/;

/** The id of a snapshot, or nothing in its place: of the parent of a first one. */
export function isParent(value: unknown): value is string | null | undefined {
  return value === null || value === undefined || (typeof value === 'string' && idPattern.test(value));
}

/** An id and a time that make the name of a snapshot. */
export function isSnapshotIdentity(value: unknown): value is Pick<Snapshot, 'id' | 'time'> {
  if (!hasTexts(value, 'id', 'time')) return false;
  const { id, time } = value;
  if (Number.isNaN(Date.parse(time)) || new Date(time).toISOString() !== time) return false;
  // Which holds the id to its form too, and the year to four digits.
  return namePattern.test(snapshotName({ id, time }));
}

/** What was skipped, as it is told in snapshots and receipts. */
export function isSkipped(value: unknown): value is SkippedPaths {
  return (
    hasCounts(value, 'count') &&
    'paths' in value &&
    Array.isArray(value.paths) &&
    value.paths.every((each) => hasTexts(each, 'path', 'code', 'problem'))
  );
}

/** The id in the name of a snapshot blob; undefined for a blob that is not ours. */
export function idInName(name: string): string | undefined {
  return namePattern.exec(name)?.[2];
}

export function encodeSnapshot(snapshot: Snapshot): Buffer {
  const { id, source, time, parent, root, totals, changes, stored, batches, skipped } = snapshot;
  return Buffer.from(
    JSON.stringify({
      format: SNAPSHOT_FORMAT,
      id,
      source,
      time,
      parent: parent ?? null,
      root,
      totals: { files: totals.files, folders: totals.folders, bytes: totals.bytes },
      changes: { added: changes.added, changed: changes.changed, removed: changes.removed },
      stored: { newChunks: stored.newChunks, newBytes: stored.newBytes, storedBytes: stored.storedBytes },
      batches: batches.map(({ batch, run }) => ({ batch, run })),
      skipped: {
        count: skipped.count,
        paths: skipped.paths.slice(0, SKIPPED_NAMED_MAX).map(({ path, code, problem }) => ({ path, code, problem })),
      },
    }),
  );
}

/** @throws FIRN_BLOB_DAMAGED, FIRN_REPOSITORY_NEWER. */
export function parseSnapshot(name: string, body: Buffer): Snapshot {
  const value = parseJsonBlob(name, body, SNAPSHOT_FORMAT);
  const { source, parent, root, totals, changes, stored, batches, skipped } = value;
  if (
    !isSnapshotIdentity(value) ||
    snapshotName(value) !== name ||
    typeof source !== 'string' ||
    !isParent(parent) ||
    typeof root !== 'string' ||
    !isHash(root) ||
    !hasCounts(totals, 'files', 'folders', 'bytes') ||
    !hasCounts(changes, 'added', 'changed', 'removed') ||
    !hasCounts(stored, 'newChunks', 'newBytes', 'storedBytes') ||
    !isPublishedBatches(batches) ||
    !isSkipped(skipped)
  ) {
    throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem: 'it is not the manifest of this snapshot' });
  }
  const { id, time } = value;
  return { id, source, time, parent: parent ?? undefined, root, totals, changes, stored, batches, skipped };
}
