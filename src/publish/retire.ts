/**
 * Retiring batches: what was published (or will never be) leaves the journal and the receipts, and in an inbox that is
 * consumed, the uploads themselves. Doing it again changes nothing.
 *
 * The order makes dying half-way safe. Uploads go first, because the receipt names them, each only in the version that
 * was archived. The journal partition goes before the receipt: a batch without a partition is never archived again,
 * while a batch without a receipt would be. What is left is found by the next plan, before it looks at anything else.
 */
import pMap from 'p-map';
import { deleteReceipt, findReceipt, listReceipts, type Receipt, readChanges } from '../archive/receipt.ts';
import { isFirnError } from '../errors.ts';
import { type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import type { PublishParts } from './parts.ts';

const DELETES_IN_FLIGHT = 16;

export async function retireBatches(
  parts: PublishParts,
  source: string,
  batches: readonly string[],
  options?: CallOptions,
): Promise<void> {
  if (batches.length === 0) return;
  const withReceipt = new Set<string>();
  for await (const { batch } of listReceipts(parts.state.store, source, options)) withReceipt.add(batch);
  const left = batches.filter((batch) => withReceipt.has(batch));
  if (parts.settings.inbox === 'consume') {
    for (const batch of left) await consumeUploads(parts, source, batch, options);
  }
  await parts.journalOf(source).retire(batches);
  for (const batch of left) await deleteReceipt(parts.state, source, batch, options);
}

async function consumeUploads(
  parts: PublishParts,
  source: string,
  batch: string,
  options?: CallOptions,
): Promise<void> {
  let receipt: Receipt | undefined;
  try {
    receipt = await findReceipt(parts.state, source, batch, options);
    if (receipt?.kind !== 'inbox') return;
    await pMap(
      readChanges(parts.state, receipt, options),
      async (change) => {
        if (change.op === 'put' && change.etag)
          await deleteVersion(parts, `${source}/${change.path}`, change.etag, options);
      },
      { concurrency: DELETES_IN_FLIGHT },
    );
  } catch (error) {
    // Without its receipt nothing says which uploads were archived: they stay in the inbox.
    if (!isFirnError(error, 'FIRN_RECEIPT_DAMAGED')) throw error;
    parts.onWarning(error);
  }
}

async function deleteVersion(parts: PublishParts, name: string, etag: string, options?: CallOptions): Promise<void> {
  try {
    await parts.inbox.delete(name, { ...options, ifMatch: etag });
  } catch (error) {
    if (!isBlobFailure(error, 'changed')) throw error;
  }
}
