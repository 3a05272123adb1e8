/**
 * A publish in one process: the same steps as the durable orchestration, in the same order. Where the orchestration has an
 * activity for each group of roots, here one flush is for all of them.
 */
import { listAttempts } from '../archive/receipt.ts';
import { isFirnError } from '../errors.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import type { WaitOptions } from '../storage/locks.ts';
import type { PublishParts } from './parts.ts';
import { planPublish, wholeIndex } from './plan.ts';
import { underPublishLock } from './publish-lock.ts';
import { buildFiletrees, commitSnapshot, flushShards, type PublishOutcome } from './steps.ts';

/** Waits for `lockWaitSeconds` at most while another publish of the source runs. */
export type PublishSourceOptions = CallOptions & Pick<WaitOptions, 'onWait'>;

/**
 * Publishes what waits of a source. Where nothing does, no lock is taken.
 * @returns undefined when nothing waits.
 * @throws FIRN_LOCK_BUSY, FIRN_LOCK_LOST, FIRN_REPAIR_UNFINISHED, FIRN_PUBLISH_CONFLICT, FIRN_RECEIPT_DAMAGED,
 * FIRN_INDEX_CONTENDED and storage errors; nothing is lost, the receipts stay.
 */
export async function publishSource(
  parts: PublishParts,
  source: string,
  options: PublishSourceOptions = {},
): Promise<PublishOutcome | undefined> {
  if (!(await hasReceipts(parts, source, options))) return undefined;
  const waitMsMax = parts.settings.lockWaitSeconds * 1000;
  const held = { ...options, waitMsMax, by: 'firn' };
  return await underPublishLock(parts, source, held, ({ signal }) => publishUnderLock(parts, source, { signal }));
}

/** Also of attempts that died, which a plan sweeps. */
async function hasReceipts(parts: PublishParts, source: string, options: CallOptions): Promise<boolean> {
  for await (const _ of listAttempts(parts.state.store, source, { signal: options.signal })) return true;
  return false;
}

async function publishUnderLock(
  parts: PublishParts,
  source: string,
  options: CallOptions,
): Promise<PublishOutcome | undefined> {
  const plan = await planPublish(parts, source, options);
  if (plan === undefined) return undefined;
  const [flushed, built] = await Promise.allSettled([
    flushShards(parts, plan, wholeIndex, options),
    buildFiletrees(parts, plan, options),
  ]);
  if (flushed.status === 'fulfilled' && built.status === 'fulfilled') {
    return await commitSnapshot(parts, plan, built.value, options);
  }
  throw causeOf([flushed, built].flatMap((each) => (each.status === 'rejected' ? [each.reason] : [])));
}

/** A step that finds a receipt damaged removes the plan, and the steps beside it then miss the plan: that is no cause. */
function causeOf(failures: readonly unknown[]): unknown {
  return failures.find((failure) => !isFirnError(failure, 'FIRN_PUBLISH_CONFLICT')) ?? failures[0];
}
