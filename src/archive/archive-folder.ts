/**
 * Archives a local folder: what differs from the source's latest snapshot becomes a receipt that is published alone, on
 * exactly that snapshot. A receipt that comes too late, because another publish was faster, is stale; the folder is then
 * scanned again, against the new head, and finds its chunks stored.
 */
import { randomBytes } from 'node:crypto';
import type { SkippedPaths, Snapshot } from '../snapshots/snapshot.ts';
import type { SnapshotStore } from '../snapshots/snapshot-store.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { type ArchiveOptions, runArchive } from './archive-run.ts';
import type { FolderListing } from './folder-listing.ts';
import { checkFolder, type FolderScan, scanFolder } from './folder-source.ts';
import type { ArchiveParts } from './parts.ts';
import type { ArchiveTotals } from './receipt.ts';

const SCAN_PREFIX = 'scan-';

function scanName(begun: Date): string {
  return `${SCAN_PREFIX}${begun.toISOString().replace(/[-:.]/g, '')}-${randomBytes(4).toString('hex')}`;
}

/** When the scan began that made this batch; undefined for a batch of the inbox. */
function scanBegun(batch: string): Date | undefined {
  const parts = /^scan-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(\d{3})Z-/.exec(batch);
  if (parts === null) return undefined;
  const [, year, month, day, hour, minute, second, millisecond] = parts;
  return new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}.${millisecond}Z`);
}

/** Snapshots of uploads and removals between two scans that are looked through for the earlier one. */
const SNAPSHOTS_BACK_MAX = 32;

/** When the latest scan began whose files are in this snapshot; undefined where none is near. */
async function lastScanBegun(
  snapshots: Pick<SnapshotStore, 'ancestors'>,
  base: Snapshot,
  options: CallOptions,
): Promise<Date | undefined> {
  const begunOf = ({ batches }: Snapshot) =>
    batches.map(({ batch }) => scanBegun(batch)).find((begun) => begun !== undefined);
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

/** Tells the batches of scans from those of the inbox by their names. */
export function isScan(batch: string): boolean {
  return batch.startsWith(SCAN_PREFIX);
}

export interface FolderOutcome {
  /** The batch that waits for its publish; undefined when the folder is as the snapshot has it. */
  readonly batch: string | undefined;
  readonly scan: Readonly<FolderScan>;
  readonly totals: ArchiveTotals;
  readonly skipped: SkippedPaths;
}

/** @param listing of the folder; taken to its end. */
export async function archiveFolder(
  parts: ArchiveParts & { readonly snapshots: Pick<SnapshotStore, 'ancestors'> },
  listing: FolderListing,
  source: string,
  base: Snapshot | undefined,
  options: ArchiveOptions & { readonly rehash?: boolean } = {},
): Promise<FolderOutcome> {
  await checkFolder(listing.folder);
  const scan: FolderScan = { unchangedFiles: 0, unchangedBytes: 0 };
  const { signal, rehash = false } = options;
  const batch = scanName(listing.begun);
  const known = base && {
    filetrees: parts.filetrees,
    root: base.root,
    scanBegun: await lastScanBegun(parts.snapshots, base, { signal }),
  };
  const items = scanFolder({ listing, base: known, rehash, signal }, scan);
  const run = await runArchive(parts, { source, batch, kind: 'scan', base: base?.id }, items, options);
  const { totals, writer } = run;
  const { changes, skipped } = writer;
  if (base !== undefined && changes === 0) {
    await run.discard();
    return { batch: undefined, scan, totals, skipped };
  }
  await run.finish();
  return { batch, scan, totals, skipped };
}
