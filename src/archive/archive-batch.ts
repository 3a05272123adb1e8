/**
 * Archives one batch of the inbox: a sealed partition of the journal in, a receipt out. Running it again, or twice at
 * once, comes to one receipt; a batch that was retired is left alone.
 */
import { FirnError, isFirnError } from '../errors.ts';
import { RECORD_TYPE_MAX } from '../journal/partition.ts';
import type { JournalRecord } from '../journal/record.ts';
import { type ArchiveOptions, runArchive } from './archive-run.ts';
import { type BatchReference, recordUpload } from './batches.ts';
import { inboxItems, resolveRecords } from './inbox-source.ts';
import type { ArchiveItem } from './item.ts';
import type { ArchiveParts } from './parts.ts';
import { deleteReceipt, findUsableReceipt, type Receipt } from './receipt.ts';

export type BatchOutcome =
  | {
      readonly outcome: 'archived';
      readonly receipt: Receipt;
      /** Batches that were sealed on the way, to be queued: uploads in a version that nobody announced were recorded. */
      readonly sealed: readonly BatchReference[];
    }
  /** It has its receipt from an earlier delivery of the message. */
  | { readonly outcome: 'repeated'; readonly receipt: Receipt }
  /** It was published and retired. */
  | { readonly outcome: 'retired' };

export async function archiveBatch(
  parts: ArchiveParts,
  { source, batch }: BatchReference,
  options: ArchiveOptions = {},
): Promise<BatchOutcome> {
  const earlier = await findUsableReceipt(parts, source, batch, options);
  if (earlier !== undefined) return { outcome: 'repeated', receipt: earlier };
  const read = await readBatch(parts, source, batch, options);
  if (read === undefined) return { outcome: 'retired' };
  const replaced = new Set<string>();
  const uploads = inboxItems(parts.inbox, source, resolveRecords(read.records), (path) => replaced.add(path));
  const subject = { source, batch, kind: 'inbox', base: undefined } as const;
  const run = await runArchive(parts, subject, eachOf<ArchiveItem>(read.damage, uploads), options);
  const sealed: BatchReference[] = [];
  for (const path of replaced) {
    // Nothing else announces this version, unless it waits in a batch already.
    sealed.push(...(await recordUpload(parts, `${source}/${path}`, { signal: options.signal })));
  }
  const receipt = await run.finish();
  const waiting = await parts.journalOf(source).batches(options);
  if (waiting.some((each) => each.batch === batch)) return { outcome: 'archived', receipt, sealed };
  // Another attempt was faster by so much that its receipt is published: this one must not be applied on top.
  await deleteReceipt(parts.state, source, batch, options);
  return { outcome: 'retired' };
}

function* eachOf<T>(...lists: readonly Iterable<T>[]): Generator<T> {
  for (const list of lists) yield* list;
}

interface ReadBatch {
  readonly records: readonly JournalRecord[];
  /** What could not be read, for the snapshot to name: nobody knows which uploads it was about. */
  readonly damage: readonly Extract<ArchiveItem, { op: 'skip' }>[];
}

/**
 * All records of a batch: 40,000 by its limit, some 20 MB with paths of a hundred characters. A few more where several
 * processes filled the partition at the same moment.
 */
async function readBatch(
  parts: ArchiveParts,
  source: string,
  batch: string,
  options: ArchiveOptions,
): Promise<ReadBatch | undefined> {
  const journal = parts.journalOf(source);
  const records: JournalRecord[] = [];
  try {
    const reading = journal.read(batch, { signal: options.signal });
    for await (const record of reading) records.push(record);
    const { corrupt, unknown } = reading.report();
    const [newer] = unknown;
    if (newer) {
      // Archiving around it would lose what it says.
      const what = `journal of ${source} (record of type ${newer.type})`;
      throw new FirnError('FIRN_REPOSITORY_NEWER', { what, version: newer.type, supported: RECORD_TYPE_MAX });
    }
    const [first] = corrupt;
    if (first === undefined) return { records, damage: [] };
    const path = `journal/${source}/${batch}`;
    const problem = `${corrupt.length} records, the first at byte ${first.offset}: ${first.reason}`;
    const error = new FirnError('FIRN_JOURNAL_DAMAGED', { blob: path, problem });
    parts.onWarning(error);
    return { records, damage: [{ path, op: 'skip', code: error.code, problem: error.message }] };
  } catch (error) {
    if (isFirnError(error, 'FIRN_BLOB_MISSING')) return undefined;
    throw error;
  }
}
