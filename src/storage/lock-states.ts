/**
 * Locks as people see them: which there are, which of them are held and by whom, and breaking one.
 *
 * Whether a lock is held is what the service says of its lease. Who holds it is what the last owner wrote; between the
 * lease and that writing lies a moment in which the record is still of the owner before.
 */
import { type BlobStore, type CallOptions, isBlobFailure } from './blob-store.ts';
import { LOCK_PREFIX, type LockRecord, readLockBlob } from './lock-record.ts';

export interface LockState {
  readonly name: string;
  readonly held: boolean;
  /** The last owner, who holds it or did; undefined when there was none, or the record cannot be read. */
  readonly last: LockRecord | undefined;
}

/** Undefined when there is no lock of that name: nobody ever took it. */
export async function findLock(store: BlobStore, name: string, options: CallOptions): Promise<LockState | undefined> {
  try {
    const { held, record } = await readLockBlob(store, name, options);
    return { name, held, last: record?.token === 0 ? undefined : record };
  } catch (error) {
    if (isBlobFailure(error, 'missing')) return undefined;
    throw error;
  }
}

/** All locks whose names begin with `prefix`, in the order of their names. */
export async function* listLocks(
  store: BlobStore,
  options: CallOptions & { readonly prefix?: string },
): AsyncGenerator<LockState> {
  const { prefix = '', signal } = options;
  for await (const blob of store.list({ prefix: LOCK_PREFIX + prefix, signal })) {
    const lock = await findLock(store, blob.name.slice(LOCK_PREFIX.length), { signal });
    if (lock !== undefined) yield lock;
  }
}

/**
 * Takes a lock from its owner, who learns it at the next renewal and stops then.
 * @returns false when nobody held it.
 */
export async function breakLock(store: BlobStore, name: string, options: CallOptions): Promise<boolean> {
  const lock = await findLock(store, name, options);
  if (lock?.held !== true) return false;
  // Of a lease that has ended the service says that it broke it, too.
  return await store.breakLease(LOCK_PREFIX + name, options);
}
