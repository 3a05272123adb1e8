/**
 * Small batches that nobody gets to archive are compacted: a source whose archiving is blocked for a day would else end up
 * with a batch for every minute of it. The journal compacts; what is decided here is which batches nobody works on.
 */
import type { Compaction } from '../journal/compaction.ts';
import { RUN_PARTITIONS_MIN } from '../journal/compaction-plan.ts';
import type { Journal } from '../journal/journal.ts';
import type { CallOptions } from '../storage/blob-store.ts';

/** So often a batch is named to the queue before it may be compacted. */
const TRIES_MIN = 6;

export interface WaitingBatch {
  readonly batch: string;
  readonly sealedAt: Date;
}

/**
 * A batch without a receipt is idle when it was sealed long enough ago to have been named to the queue six times. Should
 * somebody archive it just then, that work is lost and begins anew with the compacted batch, which then has its own six
 * tries. A time that lies ahead is no proof: then the batch is not idle. Pure.
 */
export function isIdleBatch(sealedAt: Date, now: Date, batchRetrySeconds: number): boolean {
  return now.getTime() - sealedAt.getTime() >= TRIES_MIN * batchRetrySeconds * 1000;
}

/** @param waiting those without a receipt. @returns undefined when nothing was compacted. */
export async function compactIdle(
  journal: Journal,
  waiting: readonly WaitingBatch[],
  now: Date,
  batchRetrySeconds: number,
  options?: CallOptions,
): Promise<Compaction | undefined> {
  const isIdle = ({ sealedAt }: WaitingBatch) => isIdleBatch(sealedAt, now, batchRetrySeconds);
  const idle = new Set(waiting.filter(isIdle).map(({ batch }) => batch));
  // Most of the time there is nothing, and nothing is asked.
  if (idle.size < RUN_PARTITIONS_MIN) return undefined;
  return await journal.compact({ ...options, isIdle: ({ batch }) => idle.has(batch) });
}
