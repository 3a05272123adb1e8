/**
 * Archives a local folder: what differs from the source's latest snapshot becomes a receipt that is published alone, on
 * exactly that snapshot. A receipt that comes too late, because another publish was faster, is stale; the folder is then
 * scanned again, against the new head, and finds its chunks stored.
 */
import type { SkippedPaths, Snapshot } from '../snapshots/snapshot.ts';
import { type ArchiveOptions, runArchive } from './archive-run.ts';
import type { FolderListing } from './folder-listing.ts';
import { checkFolder, type FolderScan, type ScanOptions, scanFolder } from './folder-source.ts';
import { findLastScan, folderTag, type ScanSubject, scanName } from './last-scan.ts';
import type { ArchiveParts } from './parts.ts';
import type { ArchiveTotals } from './receipt.ts';

export interface FolderOutcome {
  /** The batch that waits for its publish; undefined when the folder is as the snapshot has it. */
  readonly batch: string | undefined;
  readonly subject: ScanSubject;
  readonly scan: Readonly<FolderScan>;
  readonly totals: ArchiveTotals;
  readonly skipped: SkippedPaths;
}

export interface ArchiveFolderOptions extends ArchiveOptions, Pick<ScanOptions, 'rehash' | 'ignoreCtime'> {}

/** @param listing of the folder; taken to its end. */
export async function archiveFolder(
  parts: ArchiveParts,
  listing: FolderListing,
  source: string,
  base: Snapshot | undefined,
  options: ArchiveFolderOptions = {},
): Promise<FolderOutcome> {
  await checkFolder(listing.folder);
  const scan: FolderScan = { unchangedFiles: 0, unchangedBytes: 0 };
  const { signal, rehash = false, ignoreCtime = false } = options;
  const { folder, begun } = listing;
  const subject = { folder: await folderTag(parts.keys, folder), begun, byCtimes: rehash || !ignoreCtime };
  const batch = scanName(subject);
  const known = base && {
    filetrees: parts.filetrees,
    root: base.root,
    lastScan: findLastScan(parts.state, base, subject, { signal }),
  };
  // The scan waits for it, and begins when the storage has been asked for more; until then a failure is not unhandled.
  known?.lastScan.catch(() => undefined);
  const items = scanFolder({ listing, base: known, rehash, ignoreCtime, signal }, scan);
  const run = await runArchive(parts, { source, batch, kind: 'scan', base: base?.id }, items, options);
  const { totals, writer } = run;
  const { changes, skipped } = writer;
  if (base !== undefined && changes === 0) {
    await run.discard();
    return { batch: undefined, subject, scan, totals, skipped };
  }
  await run.finish();
  return { batch, subject, scan, totals, skipped };
}
