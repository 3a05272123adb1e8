/** One attempt at a batch, whatever its source: items through the pipeline into a receipt. */
import type { CallOptions } from '../storage/blob-store.ts';
import type { ArchiveItem } from './item.ts';
import type { ArchiveParts } from './parts.ts';
import { type ArchiveProgress, archiveItems } from './pipeline.ts';
import { type ArchiveTotals, type Receipt, type ReceiptSubject, ReceiptWriter } from './receipt.ts';

export interface ArchiveOptions extends CallOptions {
  readonly onProgress?: ((progress: ArchiveProgress) => void) | undefined;
}

export interface ArchiveRun {
  readonly totals: ArchiveTotals;
  /** Writes the receipt. @returns it, or the one of another attempt that was faster. */
  readonly finish: () => Promise<Receipt>;
  /** Gives up what nobody needs a receipt for. */
  readonly discard: () => Promise<void>;
  readonly writer: ReceiptWriter;
}

/** Archives the items; every chunk they need is durable when it resolves. */
export async function runArchive(
  parts: ArchiveParts,
  subject: ReceiptSubject,
  items: AsyncIterable<ArchiveItem> | Iterable<ArchiveItem>,
  { signal, onProgress }: ArchiveOptions = {},
): Promise<ArchiveRun> {
  const index = parts.createIndex();
  for (const table of await parts.pendingChunks.tables({ signal })) index.consult(table);
  const writer = new ReceiptWriter(parts.state, subject);
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
    finish: () => writer.finish({ time, totals }, index.take(), { signal }),
    discard: () => writer.discard({ signal }),
  };
}
