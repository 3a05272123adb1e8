/**
 * Locks over blob leases: one holder at a time among all processes, released by scope, with an owner for people and a
 * fencing token for stores that can compare it.
 *
 * A lock saves work and keeps apart what should not run together. It does not make anything correct: a holder may be
 * paused past its lease and not know yet. So what is written under a lock is conditional all the same, and `signal`
 * tells the holder to stop.
 *
 * A lock lives in `locks/<name>`: the lease says that it is held, the body (`LockRecord`) by whom. The lease is renewed
 * at a third of its time. Its end is counted on this machine from *before* the last request that succeeded, so it comes
 * here before it comes at the service, whatever the clocks say.
 */
import { createHash, randomUUID } from 'node:crypto';
import { FirnError } from '../errors.ts';
import { checkLeaseSeconds, LEASE_SECONDS_MAX } from './blob-rules.ts';
import { type BlobStore, type CallOptions, isBlobFailure } from './blob-store.ts';
import { type LockClock, poll, systemClock } from './lock-clock.ts';
import { giveBack, keepLease, type Lock } from './lock-lease.ts';
import { LOCK_PREFIX, type LockRecord, ownerText, readLockBlob, writeLockRecord } from './lock-record.ts';
import { findLock, type LockState, listLocks } from './lock-states.ts';

export interface LocksOptions {
  /** Who holds what is acquired here, for people: for instance host, process and program. */
  readonly owner: string;
  readonly clock?: LockClock;
}

export interface TryAcquireOptions {
  /** 15 to 60; 60 where undefined. How long a holder that died keeps others waiting. */
  readonly ttlSeconds?: number;
  /** Why, for people. */
  readonly reason: string;
  readonly signal?: AbortSignal | undefined;
  /**
   * The id of a lease that the steps of one run share (see `leaseIdFor`), one after the other or at the same time: a step
   * that comes with the id of the lease that is held holds the lock too, with the same token. A step that ends leaves
   * the lock (`leave`); the last one releases it, for all of them.
   */
  readonly leaseId?: string | undefined;
}

export interface WaitOptions {
  /** How long to wait for another holder; 0 tries once. */
  readonly waitMsMax: number;
  /** Called once, before the first wait, with the FIRN_LOCK_BUSY that it will be if nothing changes. */
  readonly onWait?: ((busy: FirnError) => void) | undefined;
}

export type AcquireOptions = TryAcquireOptions & WaitOptions;

export interface Locks {
  /** @throws FIRN_LOCK_BUSY with the owner when it was not free in time; the signal's reason. */
  acquire(name: string, options: AcquireOptions): Promise<Lock>;
  /** Undefined when another holds it. */
  tryAcquire(name: string, options: TryAcquireOptions): Promise<Lock | undefined>;
  /** Releases what the steps of a run have left; true when it was still theirs. Harmless when it is another's. */
  releaseLeft(name: string, leaseId: string): Promise<boolean>;
  /** The last owner of the lock, who may have released it since; undefined when it never had one. */
  owner(name: string, options?: CallOptions): Promise<LockRecord | undefined>;
  /**
   * Waits until every lock whose name begins with `prefix` and that is held now was given back, has ended or has another
   * owner. Whoever takes one later is not waited for.
   * @throws FIRN_LOCK_BUSY with one that is still held when the time is over; the signal's reason.
   */
  waitForHolders(prefix: string, options: WaitOptions & CallOptions): Promise<void>;
}

/** How often a lock blob that vanishes while it is acquired is made again. */
const TRIES_MAX = 5;

/** A lease id that follows from a text, for instance from the id of an orchestration and the name of the lock. */
export function leaseIdFor(text: string): string {
  const hex = createHash('sha256').update(`firn lease ${text}`).digest('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20, 32)].join(
    '-',
  );
}

/** Locks in a state container, which must exist. */
export function createLocks(store: BlobStore, { owner, clock = systemClock }: LocksOptions): Locks {
  /** @param options `isFirst`: the lock may well be free, so that its record is worth reading before the lease is there. */
  async function tryAcquire(
    name: string,
    { isFirst = true, ...options }: TryAcquireOptions & { readonly isFirst?: boolean },
  ): Promise<Lock | undefined> {
    const blob = LOCK_PREFIX + name;
    const leaseId = options.leaseId ?? randomUUID();
    const ttlSeconds = options.ttlSeconds ?? LEASE_SECONDS_MAX;
    const { signal } = options;
    checkLeaseSeconds(ttlSeconds);
    for (let tries = 1; ; tries += 1) {
      const asked = clock.now();
      // At the same time: what was read counts where the lease found the same version.
      const reading = isFirst ? readLockBlob(store, name, { signal }).catch(() => undefined) : undefined;
      try {
        const { etag } = await store.acquireLease(blob, leaseId, ttlSeconds, { signal });
        const seen = await reading;
        const current = seen !== undefined && seen.etag === etag ? seen : await readLockBlob(store, name, { signal });
        const record = await takeOver(name, current.record, leaseId, options);
        return keepLease(store, clock, { name, blob, leaseId, ttlSeconds, token: record.token, asked });
      } catch (error) {
        if (isBlobFailure(error, 'leased', 'lease-lost')) return undefined;
        if (!isBlobFailure(error, 'missing') || tries >= TRIES_MAX) {
          // The lease may have been taken although the answer is an error. Who cancelled need not wait for its end.
          if (options.leaseId === undefined) void giveBack(store, blob, leaseId);
          throw error;
        }
      } finally {
        await reading;
      }
      await createLockBlob(blob, signal);
    }
  }

  /** Under the lease: writes the owner, with the next token unless the lease goes on from an earlier step. */
  async function takeOver(
    name: string,
    last: LockRecord | undefined,
    leaseId: string,
    options: TryAcquireOptions,
  ): Promise<LockRecord> {
    const { signal } = options;
    const lease = createHash('sha256').update(leaseId).digest('hex').slice(0, 16);
    if (last !== undefined && last.lease === lease) return last;
    const since = clock.date();
    // A record that cannot be read hides its token; the time is greater than any count of owners.
    const token = last === undefined ? since.getTime() : last.token + 1;
    const record = { owner, reason: options.reason, since: since.toISOString(), token, lease };
    await store.writeLeased(LOCK_PREFIX + name, writeLockRecord(record), leaseId, { signal });
    return record;
  }

  async function createLockBlob(blob: string, signal: AbortSignal | undefined): Promise<void> {
    const nobody = { owner: '', reason: '', since: clock.date().toISOString(), token: 0, lease: '' };
    try {
      await store.create(blob, writeLockRecord(nobody), { signal });
    } catch (error) {
      if (!isBlobFailure(error, 'exists')) throw error;
    }
  }

  async function lastOwner(name: string, options: CallOptions): Promise<LockRecord | undefined> {
    return (await findLock(store, name, options))?.last;
  }

  /** Those of the locks that the same owner still holds. */
  async function stillHeld(locks: readonly LockState[], options: CallOptions): Promise<LockState[]> {
    const held: LockState[] = [];
    for (const lock of locks) {
      const now = await findLock(store, lock.name, options);
      if (now?.held && now.last?.token === lock.last?.token) held.push(lock);
    }
    return held;
  }

  return {
    tryAcquire,

    async acquire(name, options) {
      const { signal, waitMsMax, onWait } = options;
      const busy = async () => busyWith(name, await lastOwner(name, { signal }));
      let isFirst = true;
      const take = async () => {
        const taken = await tryAcquire(name, { ...options, isFirst });
        isFirst = false;
        return taken;
      };
      const lock = await poll(clock, take, {
        waitMsMax,
        signal,
        onWait: async () => onWait?.(await busy()),
      });
      if (lock === undefined) throw await busy();
      return lock;
    },

    async releaseLeft(name, leaseId) {
      return await giveBack(store, LOCK_PREFIX + name, leaseId);
    },

    async owner(name, options = {}) {
      return await lastOwner(name, options);
    },

    async waitForHolders(prefix, { waitMsMax, signal, onWait }) {
      const all = await Array.fromAsync(listLocks(store, { prefix, signal }));
      let holders = all.filter(({ held }) => held);
      const busy = () => busyWith(holders[0]?.name ?? prefix, holders[0]?.last);
      const look = async () => {
        holders = await stillHeld(holders, { signal });
        return holders.length === 0 ? true : undefined;
      };
      const isFree = await poll(clock, look, { waitMsMax, signal, onWait: async () => onWait?.(busy()) });
      if (isFree === undefined) throw busy();
    },
  };
}

function busyWith(lock: string, record: LockRecord | undefined): FirnError {
  return new FirnError('FIRN_LOCK_BUSY', { lock, owner: ownerText(record) });
}
