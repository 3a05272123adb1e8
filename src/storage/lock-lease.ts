/** Keeps the lease of a lock that was just taken: renews it, notices when it is lost, gives it back. */
import { FirnError } from '../errors.ts';
import { abortable } from './abortable.ts';
import { type BlobStore, isBlobFailure } from './blob-store.ts';
import type { LockClock } from './lock-clock.ts';

/** Between a renewal that got no answer and the next. */
const RENEW_AGAIN_MS = 1_000;

export interface Lock {
  readonly name: string;
  /** Grows with every change of owner of this lock. */
  readonly token: number;
  /** Fires with FIRN_LOCK_LOST when the lock is lost or could not be renewed in time. Never after a release. */
  readonly signal: AbortSignal;
  /**
   * Gives the lock back, at once; true when it was still held. Harmless after it was lost, and a second time. Where the
   * storage cannot be reached it gives false, and the lease ends by itself.
   */
  release(): Promise<boolean>;
  /** Stops renewing and leaves the lease to the next step that brings its id, or to its end. Then disposing does nothing. */
  leave(): void;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface Taken {
  readonly name: string;
  readonly blob: string;
  readonly leaseId: string;
  readonly ttlSeconds: number;
  readonly token: number;
  /** When the request that took the lease was sent. */
  readonly asked: number;
}

export function keepLease(store: BlobStore, clock: LockClock, held: Taken): Lock {
  const { name, blob, leaseId, token } = held;
  const ttlMs = held.ttlSeconds * 1000;
  const lost = new AbortController();
  /** Ends the renewal that is under way when the lock ends in any way. */
  const ended = new AbortController();
  let cancelRenewal = (): void => undefined;
  let cancelExpiry = (): void => undefined;

  function end(): void {
    cancelRenewal();
    cancelExpiry();
    ended.abort();
  }

  function lose(cause?: unknown): void {
    if (ended.signal.aborted) return;
    end();
    lost.abort(new FirnError('FIRN_LOCK_LOST', { lock: name }, { cause }));
  }

  /** The lease is ours until `ttlMs` after this moment. */
  function heldFrom(asked: number): void {
    cancelExpiry();
    cancelExpiry = clock.after(Math.max(0, asked + ttlMs - clock.now()), lose);
    renewAfter(asked + ttlMs / 3 - clock.now());
  }

  function renewAfter(ms: number): void {
    cancelRenewal = clock.after(Math.max(0, ms), () => void renew());
  }

  async function renew(): Promise<void> {
    const asked = clock.now();
    try {
      await abortable(store.renewLease(blob, leaseId, { signal: ended.signal }), ended.signal);
      if (!ended.signal.aborted) heldFrom(asked);
    } catch (error) {
      if (ended.signal.aborted) return;
      if (isBlobFailure(error, 'lease-lost', 'missing')) lose(error);
      else renewAfter(RENEW_AGAIN_MS);
    }
  }

  let releasing: Promise<boolean> | undefined;
  let left = false;
  const lock: Lock = {
    name,
    token,
    signal: lost.signal,
    release() {
      end();
      releasing ??= left ? Promise.resolve(false) : giveBack(store, blob, leaseId);
      return releasing;
    },
    leave() {
      left = true;
      end();
    },
    async [Symbol.asyncDispose]() {
      await lock.release();
    },
  };
  heldFrom(held.asked);
  return lock;
}

/** Releases a lease if it is this one. Where that fails the lease ends by itself, so nothing hangs on it. */
export async function giveBack(store: BlobStore, blob: string, leaseId: string): Promise<boolean> {
  try {
    return await store.releaseLease(blob, leaseId);
  } catch {
    return false;
  }
}
