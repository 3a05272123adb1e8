/**
 * Retiring batches: what was published leaves the journal and the receipts, and in an inbox that is consumed, the uploads
 * themselves. Doing it again changes nothing.
 *
 * The order makes dying half-way safe. Uploads go first, because the receipt names them: each only in the version that
 * was archived, only when the snapshot holds just that at its path (a later removal or upload may have come between), and
 * only when its content is really on storage (`content-check.ts`).
 * The journal partition goes before the receipt: a batch without a partition is never archived again, while a batch
 * without a receipt would be. What is left is found by the next plan, before it looks at anything else.
 */
import pMap from 'p-map';
import { isScan } from '../archive/last-scan.ts';
import {
  type ArchivedChange,
  type Attempts,
  deleteAttempts,
  findReceipt,
  listAttempts,
  readChanges,
} from '../archive/receipt.ts';
import { FirnError, isFirnError } from '../errors.ts';
import type { TreeEntry } from '../filetree/entry.ts';
import { findEntry, isDamage } from '../filetree/walk.ts';
import type { Hash } from '../sealing/keys.ts';
import type { PublishedBatch, Snapshot } from '../snapshots/snapshot.ts';
import { type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import { type ContentCheck, createContentCheck } from './content-check.ts';
import type { PublishParts } from './parts.ts';

const DELETES_IN_FLIGHT = 16;

type Retiring = Pick<Snapshot, 'source' | 'batches' | 'root'>;

/** What is left of the receipts of a snapshot's batches. */
export async function receiptsOf(
  { state }: Pick<PublishParts, 'state'>,
  { source, batches }: Pick<Retiring, 'source' | 'batches'>,
  options?: CallOptions,
): Promise<readonly Attempts[]> {
  const names = new Set(batches.map(({ batch }) => batch));
  const found: Attempts[] = [];
  for await (const attempts of listAttempts(state.store, source, options)) {
    if (names.has(attempts.batch) && attempts.receiptWritten !== undefined) found.push(attempts);
  }
  return found;
}

/**
 * Retires batches.
 * @param retiring with the root of the tree that holds what the batches brought.
 * @param found what `receiptsOf` gives of them.
 */
export async function retireBatches(
  parts: PublishParts,
  { source, batches, root }: Retiring,
  found: readonly Attempts[],
  options?: CallOptions,
): Promise<void> {
  if (batches.length === 0) return;
  const receipts = new Map(found.map((each) => [each.batch, each]));
  const left = batches.flatMap((published) => {
    const receipt = receipts.get(published.batch);
    return receipt === undefined ? [] : [{ published, receipt }];
  });
  if (parts.settings.inbox === 'consume') {
    const problemOf = createContentCheck(parts);
    for (const { published } of left) {
      await consumeUploads({ ...parts, problemOf }, source, published, root, options);
    }
  }
  const ofInbox = batches.map(({ batch }) => batch).filter((batch) => !isScan(batch));
  if (ofInbox.length > 0) await parts.journalOf(source).retire(ofInbox, options);
  for (const { receipt } of left) await deleteAttempts(parts.state, receipt, options);
}

async function consumeUploads(
  parts: PublishParts & { readonly problemOf: ContentCheck },
  source: string,
  batch: PublishedBatch,
  root: Hash,
  options?: CallOptions,
): Promise<void> {
  const kept: { path: string; problem: string }[] = [];
  await pMap(
    publishedChanges(parts, source, batch, options),
    async (change) => {
      try {
        const held = await heldEntry(parts, root, change, options);
        if (held === undefined) return;
        const problem = held.type === 'file' ? await parts.problemOf(held, options) : undefined;
        if (problem === undefined) await consumeUpload(parts, source, change, options);
        else kept.push({ path: change.path, problem });
      } catch (error) {
        // What cannot be read does not say that the content is there, and does not hold up the source.
        if (!isDamage(error)) throw error;
        kept.push({ path: change.path, problem: error.message });
      }
    },
    { concurrency: DELETES_IN_FLIGHT },
  );
  const [first] = kept;
  if (first) parts.onWarning(new FirnError('FIRN_UPLOAD_KEPT', { source, uploads: kept.length, ...first }));
}

/** What the receipt of the batch tells before it turns out to be damaged. */
async function* publishedChanges(
  { state, onWarning }: PublishParts,
  source: string,
  { batch, run }: PublishedBatch,
  options?: CallOptions,
): AsyncGenerator<ArchivedChange> {
  try {
    const receipt = await findReceipt(state, source, batch, options);
    // Another run's receipt came too late, and may name what was not published.
    if (receipt?.kind === 'inbox' && receipt.run === run) yield* readChanges(state, receipt, options);
  } catch (error) {
    // Without its receipt nothing says which uploads were archived: they stay in the inbox.
    if (!isFirnError(error, 'FIRN_RECEIPT_DAMAGED')) throw error;
    onWarning(error);
  }
}

/** What the tree has at the path, where that is just what the change put there. */
async function heldEntry(
  { filetrees }: PublishParts,
  root: Hash,
  change: ArchivedChange,
  options?: CallOptions,
): Promise<TreeEntry | undefined> {
  if (change.op !== 'put' || change.etag === undefined) return undefined;
  const { folder, file } = await findEntry(filetrees, root, change.path, options);
  const { entry } = change;
  if (entry.type === 'folder') return folder;
  if (entry.type === 'link') return file?.type === 'link' && file.target === entry.target ? file : undefined;
  return file?.type === 'file' && file.content === entry.content ? file : undefined;
}

/** One upload that cannot be deleted (it is leased, or held by a policy) stays, and does not hold up its source. */
async function consumeUpload(
  parts: PublishParts,
  source: string,
  { path, etag }: { path: string; etag?: string | undefined },
  options?: CallOptions,
): Promise<void> {
  try {
    await parts.inbox.delete(`${source}/${path}`, { ...options, ...(etag !== undefined && { ifMatch: etag }) });
  } catch (error) {
    if (isBlobFailure(error, 'changed')) return;
    const isRefused =
      isBlobFailure(error, 'leased') || isFirnError(error, 'FIRN_STORAGE_DENIED', 'FIRN_STORAGE_FAILED');
    if (!isRefused) throw error;
    const problem = 'it was archived, but could not be deleted from the inbox';
    parts.onWarning(new FirnError('FIRN_FILE_UNREADABLE', { path: `${source}/${path}`, problem }, { cause: error }));
  }
}
