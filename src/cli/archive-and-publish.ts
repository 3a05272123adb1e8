/**
 * Archives a folder and publishes it, in one process. What a scan found applies to the snapshot that it was compared
 * with and to nothing else; when another publish of the source is faster, the folder is scanned again.
 */
import { type ArchiveFolderOptions, archiveFolder, type FolderOutcome } from '../archive/archive-folder.ts';
import { FolderListing } from '../archive/folder-listing.ts';
import { noteScan } from '../archive/last-scan.ts';
import { findReceipt } from '../archive/receipt.ts';
import { isFirnError } from '../errors.ts';
import { checkSourceName } from '../journal/source-name.ts';
import { type PublishSourceOptions, publishWaiting } from '../publish/publish-source.ts';
import type { PublishOutcome } from '../publish/steps.ts';
import type { Repository } from '../repository.ts';
import { type HeadDifference, headDifference, publishConflict } from '../snapshots/head-difference.ts';
import type { Snapshot } from '../snapshots/snapshot.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import type { BegunScan } from './begun-scan.ts';

const SCANS_MAX = 5;
/** Publishes of the source that may come first, each a plan that someone else began. */
const PUBLISHES_MAX = 20;

export interface ArchivedFolder {
  /** The snapshot that holds the folder as it was found. */
  readonly snapshot: Snapshot;
  /** The folder was as the snapshot has it; no new one was made. */
  readonly unchanged: boolean;
  /** Of the last scan. */
  readonly outcome: FolderOutcome;
  /** Of all scans: what was stored for a scan that came too late was stored all the same. */
  readonly stored: { readonly newChunks: number; readonly newBytes: number; readonly storedBytes: number };
}

export interface ArchiveAndPublishOptions extends ArchiveFolderOptions, PublishSourceOptions {
  /** The first scan of the folder, if it was begun already. */
  readonly begun?: Pick<BegunScan, 'takeListing'>;
  /** Told when a scan is done and published. */
  readonly onPublish?: () => void;
  /** Told when the folder is scanned again: how the head differs from the one that was scanned against, if it does. */
  readonly onScanAgain?: (difference: HeadDifference | undefined) => void;
}

/** @throws FIRN_PUBLISH_CONFLICT when others were faster five times, and what archiving and publishing throw. */
export async function archiveAndPublish(
  opened: Repository,
  folder: string,
  source: string,
  options: ArchiveAndPublishOptions = {},
): Promise<ArchivedFolder> {
  checkSourceName(source);
  const repository = { ...opened, snapshots: opened.snapshots.forRun() };
  const { signal, onPublish, onScanAgain, onWait } = options;
  const stored = { newChunks: 0, newBytes: 0, storedBytes: 0 };
  let head = await repository.snapshots.readHead(source, { signal });
  let difference: HeadDifference | undefined;
  for (let scans = 0; scans < SCANS_MAX; scans += 1) {
    if (scans > 0) onScanAgain?.(difference);
    const base = head?.snapshot;
    const begun = await options.begun?.takeListing(head?.etag);
    using listing = begun ?? new FolderListing(folder, repository.now());
    const outcome = await archiveFolder(repository, listing, source, base, options);
    stored.newChunks += outcome.totals.newChunks;
    stored.newBytes += outcome.totals.newBytes;
    stored.storedBytes += outcome.totals.storedBytes;
    const { batch } = outcome;
    if (batch === undefined && base !== undefined) return { snapshot: base, unchanged: true, outcome, stored };
    if (batch !== undefined) {
      onPublish?.();
      const published = await publishBatch(repository, source, batch, base, { signal, onWait });
      if (published !== undefined) {
        const { subject, skipped } = outcome;
        if (published.unchanged) await noteScan(repository.state, published.snapshot, subject, skipped, { signal });
        return { ...published, outcome, stored };
      }
    }
    head = await repository.snapshots.readHead(source, { signal });
    difference = headDifference(base?.id, head?.snapshot.id);
  }
  throw publishConflict(source, difference);
}

/** @returns undefined when the batch came too late. */
async function publishBatch(
  repository: Repository,
  source: string,
  batch: string,
  base: Snapshot | undefined,
  options: PublishSourceOptions,
): Promise<{ snapshot: Snapshot; unchanged: boolean } | undefined> {
  for (let publishes = 0; publishes < PUBLISHES_MAX; publishes += 1) {
    const outcome = await publishOrYield(repository, source, options);
    if (outcome?.outcome === 'published' && holds(outcome.snapshot, batch)) {
      return { snapshot: outcome.snapshot, unchanged: false };
    }
    // Of two scans on one base only one is published: the outcome of the other says nothing.
    if (outcome?.outcome === 'unchanged' && base !== undefined && holds(outcome, batch)) {
      return { snapshot: base, unchanged: true };
    }
    const next = await snapshotAfter(repository, source, base, options);
    if (next !== undefined) return holds(next, batch) ? { snapshot: next, unchanged: false } : undefined;
    if (!(await hasReceipt(repository, source, batch, options))) return undefined;
  }
  throw publishConflict(source);
}

function holds({ batches }: Pick<Snapshot, 'batches'>, batch: string): boolean {
  return batches.some((each) => each.batch === batch);
}

/** One publish; that another was faster, or damage that the next one does without, is for the caller to look at. */
async function publishOrYield(
  repository: Repository,
  source: string,
  options: PublishSourceOptions,
): Promise<PublishOutcome | undefined> {
  try {
    return await publishWaiting(repository, source, options);
  } catch (error) {
    if (isFirnError(error, 'FIRN_PUBLISH_CONFLICT', 'FIRN_RECEIPT_DAMAGED')) return undefined;
    throw error;
  }
}

async function hasReceipt(
  repository: Repository,
  source: string,
  batch: string,
  options: CallOptions,
): Promise<boolean> {
  try {
    return (await findReceipt(repository.state, source, batch, options)) !== undefined;
  } catch (error) {
    if (isFirnError(error, 'FIRN_RECEIPT_DAMAGED')) return false;
    throw error;
  }
}

/** The snapshot of the source that followed `base`; undefined when none has. */
async function snapshotAfter(
  { snapshots }: Repository,
  source: string,
  base: Snapshot | undefined,
  options: CallOptions,
): Promise<Snapshot | undefined> {
  let at = (await snapshots.readHead(source, options))?.snapshot;
  while (at !== undefined && at.id !== base?.id) {
    if (at.parent === base?.id) return at;
    at = at.parent === undefined ? undefined : await snapshots.resolve(at.parent, options);
  }
  return undefined;
}
