/** One attempt at a batch, whatever its source: items through the pipeline into a receipt. */
import { isFirnError } from '../errors.ts';
import type { ChunkIndex } from '../index/chunk-index.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import type { ArchiveItem } from './item.ts';
import type { ArchiveParts } from './parts.ts';
import { type ArchiveProgress, archiveItems } from './pipeline.ts';
import {
  type ArchiveTotals,
  findReceipt,
  listReceipts,
  type Receipt,
  ReceiptWriter,
  readLocations,
} from './receipt.ts';

export interface ArchiveOptions extends CallOptions {
  readonly onProgress?: ((progress: ArchiveProgress) => void) | undefined;
}

export interface ArchiveRun {
  readonly totals: ArchiveTotals;
  /** Writes the receipt. @returns it, or the one of another attempt that was faster. */
  readonly finish: (of: Pick<Receipt, 'kind' | 'base'>) => Promise<Receipt>;
  /** Gives up what nobody needs a receipt for. */
  readonly discard: () => Promise<void>;
  readonly writer: ReceiptWriter;
}

/** Archives the items; every chunk they need is durable when it resolves. */
export async function runArchive(
  parts: ArchiveParts,
  source: string,
  batch: string,
  items: AsyncIterable<ArchiveItem> | Iterable<ArchiveItem>,
  { signal, onProgress }: ArchiveOptions = {},
): Promise<ArchiveRun> {
  const index = parts.createIndex();
  await consultPending(parts, index, { signal });
  const writer = new ReceiptWriter(parts.state, source, batch);
  const totals = await archiveItems(items, {
    keys: parts.keys,
    chunker: parts.chunker,
    index,
    filetrees: parts.filetrees,
    receipt: writer,
    createWriter: (onStored) => parts.createWriter(onStored, signal),
    filesInFlightMax: parts.settings.filesInFlightMax,
    onProgress,
    signal,
  }).catch(async (error) => {
    // Also after a cancellation; where the storage is what failed, the parts stay and are of no use to anybody.
    await writer.discard().catch(() => {});
    throw error;
  });
  const time = parts.now().toISOString();
  return {
    totals,
    writer,
    finish: ({ kind, base }) => writer.finish({ time, kind, base, totals }, index.take(), { signal }),
    discard: () => writer.discard({ signal }),
  };
}

/**
 * Lets lookups see the chunks of receipts that wait, so that batches with the same content store it once though none is
 * published yet. Beyond the setting's limit the rest is left out: that costs a second copy, nothing else.
 */
async function consultPending(parts: ArchiveParts, index: ChunkIndex, options: CallOptions): Promise<void> {
  let left = parts.settings.pendingEntriesMax;
  for await (const { source, batch } of listReceipts(parts.state.store, undefined, options)) {
    try {
      const receipt = await findReceipt(parts.state, source, batch, options);
      if (receipt === undefined || receipt.indexEntries > left) continue;
      const table = await readLocations(parts.state, receipt, options);
      if (table === undefined) continue;
      index.consult(table);
      left -= table.count;
    } catch (error) {
      // A receipt that is damaged, or published and retired meanwhile; publishing deals with it.
      if (!isFirnError(error, 'FIRN_RECEIPT_DAMAGED')) throw error;
    }
  }
}
