/**
 * The lock of a publish: publishes of one source exclude each other, and a publish and a repair do.
 *
 * It spares the second publisher work that the first does already, and lets it say for whom it waits. Nothing is correct
 * because of it, so no step compares its fencing token: a plan claims its parent, shards and the head change by
 * compare-and-swap only, and a step whose plan was carried out or replaced finds that out. A holder that was paused past
 * its lease and writes on therefore does nothing that a publisher without a lock could not do. The token is in the owner
 * record all the same: it tells a person how often the lock has changed hands.
 *
 * A repair is looked for once the lock is held (`lock-names.ts` says why this order is enough), and by the steps that
 * take long while they run. Who meets one stops with FIRN_REPAIR_UNFINISHED; the plan stays for the next publish. A commit
 * that has begun is finished: it does not touch the index, and the repair waits for it.
 */
import { isFirnError } from '../errors.ts';
import { refuseDuringRepair } from '../index/marker.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { publishLock } from '../storage/lock-names.ts';
import type { WaitOptions } from '../storage/locks.ts';
import type { PublishParts } from './parts.ts';

export interface PublishLockOptions extends CallOptions, WaitOptions {
  /** The id of the lease that the steps of one run share; such a step leaves the lock to the others when it ends. */
  readonly leaseId?: string | undefined;
  /** Who publishes, for people. */
  readonly by: string;
}

export interface HeldPublish extends CallOptions {
  /** The caller's signal and that of the lock in one. */
  readonly signal: AbortSignal;
  /** Ends the run: gives back the lock that its steps share. */
  release(): Promise<void>;
}

/**
 * Works under the lock of the source.
 * @throws FIRN_LOCK_BUSY with the owner, FIRN_LOCK_LOST when it is lost while the work goes on, FIRN_REPAIR_UNFINISHED,
 * and what the work throws.
 */
export async function underPublishLock<T>(
  parts: PublishParts,
  source: string,
  { leaseId, by, ...options }: PublishLockOptions,
  work: (held: HeldPublish) => Promise<T>,
): Promise<T> {
  const reason = `publish of ${source} by ${by}`;
  await using lock = await parts.locks.acquire(publishLock(source), { ...options, reason, leaseId });
  try {
    const signal = options.signal ? AbortSignal.any([options.signal, lock.signal]) : lock.signal;
    await refuseDuringRepair(parts.state.store, { signal });
    const release = async () => void (await lock.release());
    return await work({ signal, release });
  } catch (error) {
    // Whatever fails then, fails because of that.
    if (lock.signal.aborted && !isFirnError(error)) throw lock.signal.reason;
    throw error;
  } finally {
    // Other steps of the run may hold it, or come for it.
    if (leaseId !== undefined) lock.leave();
  }
}

/** Ends a run whose last step could not: gives back what its steps have left. */
export async function endPublish(parts: PublishParts, source: string, leaseId: string): Promise<void> {
  await parts.locks.releaseLeft(publishLock(source), leaseId);
}
