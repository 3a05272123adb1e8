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
import { abortable } from './abortable.ts';
import { checkLeaseSeconds, LEASE_SECONDS_MAX } from './blob-rules.ts';
import { type BlobStore, isBlobFailure } from './blob-store.ts';
import { type LockRecord, readLockRecord, writeLockRecord } from './lock-record.ts';

export interface LockClock {
  /** Milliseconds that only grow. */
  now(): number;
  date(): Date;
  /** Calls once after so many milliseconds, without keeping the process alive; gives the way to call it off. */
  after(ms: number, call: () => void): () => void;
}

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
   * The id of a lease that several steps of one run share, one after the other (see `leaseIdFor`): a step that comes
   * with the id of the lease that is held takes the lock over, with the same token.
   */
  readonly leaseId?: string | undefined;
}

export interface AcquireOptions extends TryAcquireOptions {
  /** How long to wait for another holder; 0 tries once. */
  readonly waitMsMax: number;
}

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

export interface Locks {
  /** @throws FIRN_LOCK_BUSY with the owner when it was not free in time; the signal's reason. */
  acquire(name: string, options: AcquireOptions): Promise<Lock>;
  /** Undefined when another holds it. */
  tryAcquire(name: string, options: TryAcquireOptions): Promise<Lock | undefined>;
  /** The last owner of the lock, who may have released it since; undefined when it never had one. */
  owner(name: string, options?: { signal?: AbortSignal | undefined }): Promise<LockRecord | undefined>;
}

/** Waits between tries grow from the first to the second, each shortened by up to a half at random. */
const POLL_MS_MIN = 200;
const POLL_MS_MAX = 5_000;
/** Between a renewal that got no answer and the next. */
const RENEW_AGAIN_MS = 1_000;
/** How often a lock blob that vanishes while it is acquired is made again. */
const TRIES_MAX = 5;

const systemClock: LockClock = {
  now: () => performance.now(),
  date: () => new Date(),
  after(ms, call) {
    const timer = setTimeout(call, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** A lease id that follows from a text, for instance from the id of an orchestration and the name of the lock. */
export function leaseIdFor(text: string): string {
  const hex = createHash('sha256').update(`firn lease ${text}`).digest('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20, 32)].join(
    '-',
  );
}

/** Locks in a state container, which must exist. */
export function createLocks(store: BlobStore, { owner, clock = systemClock }: LocksOptions): Locks {
  async function tryAcquire(name: string, options: TryAcquireOptions): Promise<Lock | undefined> {
    const blob = `locks/${name}`;
    const leaseId = options.leaseId ?? randomUUID();
    const ttlSeconds = options.ttlSeconds ?? LEASE_SECONDS_MAX;
    const { signal } = options;
    checkLeaseSeconds(ttlSeconds);
    for (let tries = 1; ; tries += 1) {
      const asked = clock.now();
      try {
        await store.acquireLease(blob, leaseId, ttlSeconds, { signal });
        const record = await takeOver(blob, leaseId, options);
        return hold(store, clock, { name, blob, leaseId, ttlSeconds, token: record.token, asked });
      } catch (error) {
        if (isBlobFailure(error, 'leased', 'lease-lost')) return undefined;
        if (!isBlobFailure(error, 'missing') || tries >= TRIES_MAX) {
          // The lease may have been taken although the answer is an error. Who cancelled need not wait for its end.
          if (options.leaseId === undefined) void giveBack(store, blob, leaseId);
          throw error;
        }
      }
      await createLockBlob(blob, signal);
    }
  }

  /** Under the lease: writes the owner, with the next token unless the lease goes on from an earlier step. */
  async function takeOver(blob: string, leaseId: string, options: TryAcquireOptions): Promise<LockRecord> {
    const { signal } = options;
    const last = await readLockRecord(store, blob, signal);
    const lease = createHash('sha256').update(leaseId).digest('hex').slice(0, 16);
    if (last !== undefined && last.lease === lease) return last;
    const since = clock.date();
    // A record that cannot be read hides its token; the time is greater than any count of owners.
    const token = last === undefined ? since.getTime() : last.token + 1;
    const record = { owner, reason: options.reason, since: since.toISOString(), token, lease };
    await store.writeLeased(blob, writeLockRecord(record), leaseId, { signal });
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

  function wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
    const waited = Promise.withResolvers<void>();
    const cancel = clock.after(ms, waited.resolve);
    return abortable(waited.promise, signal).finally(cancel);
  }

  return {
    tryAcquire,

    async acquire(name, options) {
      const giveUpAt = clock.now() + options.waitMsMax;
      for (let pollMs = POLL_MS_MIN; ; pollMs = Math.min(2 * pollMs, POLL_MS_MAX)) {
        const lock = await tryAcquire(name, options);
        if (lock !== undefined) return lock;
        const leftMs = giveUpAt - clock.now();
        if (leftMs <= 0) throw await busy(name, options.signal);
        await wait(Math.min(leftMs, pollMs * (0.5 + Math.random() / 2)), options.signal);
      }
    },

    async owner(name, options) {
      try {
        const record = await readLockRecord(store, `locks/${name}`, options?.signal);
        return record?.token === 0 ? undefined : record;
      } catch (error) {
        if (isBlobFailure(error, 'missing')) return undefined;
        throw error;
      }
    },
  };

  async function busy(name: string, signal: AbortSignal | undefined): Promise<FirnError> {
    const record = await readLockRecord(store, `locks/${name}`, signal).catch(() => undefined);
    const held = record === undefined || record.owner === '' ? 'another run' : ownerText(record);
    return new FirnError('FIRN_LOCK_BUSY', { lock: name, owner: held });
  }
}

function ownerText(record: LockRecord): string {
  return `${record.owner} since ${record.since} (${record.reason})`;
}

interface Held {
  readonly name: string;
  readonly blob: string;
  readonly leaseId: string;
  readonly ttlSeconds: number;
  readonly token: number;
  /** When the request that took the lease was sent. */
  readonly asked: number;
}

/** Keeps a lease that was just taken. */
function hold(store: BlobStore, clock: LockClock, held: Held): Lock {
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
async function giveBack(store: BlobStore, blob: string, leaseId: string): Promise<boolean> {
  try {
    return await store.releaseLease(blob, leaseId);
  } catch {
    return false;
  }
}
