/** Which sources are to be published now. */
import { type BatchParts, withoutReceipt } from '../archive/batches.ts';
import { listAttempts, listReceipts, sweepIfAbandoned } from '../archive/receipt.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { storageProblem } from '../storage/storage-problem.ts';

export interface SourceState {
  /** When each waiting receipt was written. */
  readonly receiptsWritten: readonly Date[];
  /** Sealed batches that are not archived yet. */
  readonly batchesWaiting: number;
  /** Uploads are recorded that are in no sealed batch yet. */
  readonly openRecords: boolean;
}

/**
 * A source is due when it has receipts and is quiet (nothing is on its way to a receipt), so that one drop of many files
 * becomes one snapshot; or when a receipt has waited for `publishAgeSecondsMax`, quiet or not. Pure.
 */
export function isPublishDue(state: SourceState, now: Date, publishAgeSecondsMax: number): boolean {
  if (state.receiptsWritten.length === 0) return false;
  if (state.batchesWaiting === 0 && !state.openRecords) return true;
  const oldest = Math.min(...state.receiptsWritten.map((written) => written.getTime()));
  return now.getTime() - oldest >= publishAgeSecondsMax * 1000;
}

export async function readSourceState(parts: BatchParts, source: string, options?: CallOptions): Promise<SourceState> {
  const journal = parts.journalOf(source);
  const sealed = await journal.batches(options);
  const receipts = await Array.fromAsync(listReceipts(parts.state.store, source, options));
  return {
    receiptsWritten: receipts.map(({ written }) => written),
    batchesWaiting: withoutReceipt(sealed, receipts).length,
    openRecords: await journal.hasOpenRecords(options),
  };
}

export async function isSourceDue(parts: BatchParts, source: string, options?: CallOptions): Promise<boolean> {
  const state = await readSourceState(parts, source, options);
  return isPublishDue(state, parts.now(), parts.settings.publishAgeSecondsMax);
}

/** The sources that are due. What died attempts left is swept on the way, of whatever source. */
export async function* sourcesDue(parts: BatchParts, options?: CallOptions): AsyncGenerator<string> {
  const sources = new Set<string>();
  for await (const attempts of listAttempts(parts.state.store, undefined, options)) {
    if (attempts.receiptWritten !== undefined) sources.add(attempts.source);
    else await orWarn(parts, () => sweepIfAbandoned(parts.state, attempts, parts.now(), options));
  }
  for (const source of sources) {
    if (await orWarn(parts, () => isSourceDue(parts, source, options))) yield source;
  }
}

/** What is wrong with one source must not hold up the others. */
async function orWarn<T>({ state, onWarning }: BatchParts, work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    const problem = storageProblem(error, state.store.url);
    if (problem === undefined) throw error;
    onWarning(problem);
    return undefined;
  }
}
