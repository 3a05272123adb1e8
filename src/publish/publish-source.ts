/** A publish in one process: the same steps as the durable orchestration, in the same order. */
import { listAttempts } from '../archive/receipt.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import type { WaitOptions } from '../storage/locks.ts';
import type { PublishParts } from './parts.ts';
import { claimPlan } from './plan.ts';
import { underPublishLock } from './publish-lock.ts';
import { type PublishOutcome, publishPlanned } from './steps.ts';

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
  return (await hasReceipts(parts, source, options)) ? await publishWaiting(parts, source, options) : undefined;
}

/** The same for whoever knows that something waits. */
export async function publishWaiting(
  opened: PublishParts,
  source: string,
  options: PublishSourceOptions = {},
): Promise<PublishOutcome | undefined> {
  const parts = { ...opened, snapshots: opened.snapshots.forRun() };
  const waitMsMax = parts.settings.lockWaitSeconds * 1000;
  const held = { ...options, waitMsMax, by: 'firn' };
  return await underPublishLock(parts, source, held, async ({ signal }) => {
    const claimed = await claimPlan(parts, source, { signal });
    return claimed && (await publishPlanned(parts, claimed, { signal }));
  });
}

/** Also of attempts that died, which a plan sweeps. */
async function hasReceipts(parts: PublishParts, source: string, options: CallOptions): Promise<boolean> {
  for await (const _ of listAttempts(parts.state.store, source, { signal: options.signal })) return true;
  return false;
}
