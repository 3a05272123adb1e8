/**
 * A snapshot: the immutable manifest of one publish of one source. Stored sealed under `snapshots/<utc>-<id>`, so that
 * a listing is in order of time. The body is JSON with the fields below in this order.
 */
import { FirnError } from '../errors.ts';
import type { FolderTotals } from '../filetree/entry.ts';
import { hasNumbers, parseJsonBlob } from '../sealing/json-blob.ts';
import { type Hash, isHash } from '../sealing/keys.ts';

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

export function isPublishedBatches(value: unknown): value is PublishedBatch[] {
  const isBatch = (each: unknown) =>
    typeof each === 'object' &&
    each !== null &&
    typeof (each as Partial<PublishedBatch>).batch === 'string' &&
    typeof (each as Partial<PublishedBatch>).run === 'string';
  return Array.isArray(value) && value.every(isBatch);
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
  const { id, source, time, parent, root, totals, changes, stored, batches, skipped } = value as Partial<Snapshot> & {
    parent?: string | null;
  };
  if (
    typeof id !== 'string' ||
    typeof source !== 'string' ||
    typeof time !== 'string' ||
    typeof root !== 'string' ||
    !isHash(root) ||
    !hasNumbers(totals, 'files', 'folders', 'bytes') ||
    !hasNumbers(changes, 'added', 'changed', 'removed') ||
    !hasNumbers(stored, 'newChunks', 'newBytes', 'storedBytes') ||
    !isPublishedBatches(batches) ||
    !hasNumbers(skipped, 'count') ||
    !Array.isArray(skipped.paths) ||
    snapshotName({ id, time }) !== name
  ) {
    throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem: 'it is not the manifest of this snapshot' });
  }
  return { id, source, time, parent: parent ?? undefined, root, totals, changes, stored, batches, skipped };
}
