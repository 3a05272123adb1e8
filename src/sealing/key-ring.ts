/**
 * The key blobs of a repository: finding the one that a passphrase opens, and changing the passphrase. The master key
 * never changes, so nothing else is written anew.
 *
 * A change writes a new key blob, opens it from storage, and only then deletes those that it found before. So whoever
 * changes it at the same moment, and wherever a change dies, the newest key blob stays: only a change that saw it before
 * it wrote its own would delete it. A change that died is finished by running it again. Whoever kept a copy of an old key
 * blob and knows the old passphrase still has the master key: a changed passphrase does not take back what was known.
 */
import { FirnError, isFirnError } from '../errors.ts';
import { type BlobStore, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import { createOwn } from '../storage/create-own.ts';
import { type ScryptCost, unwrapMasterKey, wrapMasterKey } from './master-key.ts';

export const KEYS_PREFIX = 'keys/';
/** So that a wrong passphrase answers in bounded time whatever lies under `keys/`. */
const KEYS_TRIED_MAX = 32;

/** Which repository the key blobs are of: its name, for people, and its id, which they are bound to. */
export interface KeyRing {
  readonly data: BlobStore;
  readonly repository: string;
  readonly repositoryId: string;
}

export interface PassphraseChange {
  /** The key blob that the new passphrase opens. */
  readonly key: string;
  /** Key blobs that were deleted: of the old passphrase, and earlier ones of the new. */
  readonly removed: readonly string[];
}

/** Names of the key blobs that a passphrase is tried on. */
export async function keyNames(data: BlobStore, options?: CallOptions): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of data.list({ ...options, prefix: KEYS_PREFIX })) {
    if (names.push(name) === KEYS_TRIED_MAX) break;
  }
  return names;
}

/**
 * @param options `names` of the key blobs, where they were listed already.
 * @throws FIRN_PASSPHRASE_WRONG when it opens none of the keys; FIRN_CONFIG_DAMAGED when it opens none and one of them is
 * damaged; FIRN_REPOSITORY_NEWER.
 */
export async function openMasterKey(
  ring: KeyRing,
  passphrase: string,
  options: CallOptions & { readonly names?: readonly string[] | undefined } = {},
): Promise<Buffer> {
  const { names: listed, ...call } = options;
  const first = { ...call, firstOnly: true };
  const names = listed ?? (await keyNames(ring.data, call));
  const opened = await keysOpenedBy(ring, names, passphrase, first);
  if (opened.master !== undefined || listed === undefined) return opened.master ?? refuse(ring, opened.damaged);
  // The passphrase may have been changed since they were listed.
  const since = (await keyNames(ring.data, call)).filter((name) => !names.includes(name));
  const later = await keysOpenedBy(ring, since, passphrase, first);
  return later.master ?? refuse(ring, opened.damaged ?? later.damaged);
}

/**
 * @param change.keepOld leaves the old passphrase valid.
 * @throws FIRN_PASSPHRASE_WRONG when `from` opens nothing; FIRN_STORAGE_DENIED when an old key blob must not be deleted
 * (an immutability policy): the new passphrase is valid then, and so is the old one.
 */
export async function changePassphrase(
  ring: KeyRing,
  { from, to, keepOld = false }: { readonly from: string; readonly to: string; readonly keepOld?: boolean },
  { scryptCost, ...options }: CallOptions & { readonly scryptCost?: ScryptCost | undefined } = {},
): Promise<PassphraseChange> {
  const old = await keysOpenedBy(ring, await keyNames(ring.data, options), from, options);
  const master = old.master ?? refuse(ring, old.damaged);
  const earlier = await keysOpenedBy(ring, await keyNames(ring.data, options), to, options);
  const wrapped = await wrapMasterKey(ring.repositoryId, master, to, scryptCost);
  const { name: key } = wrapped;
  await createKey(ring.data, wrapped, options);
  const stored = { name: key, body: (await ring.data.read(key, options)).body };
  if ((await unwrapMasterKey(ring.repositoryId, stored, to))?.equals(master) !== true) {
    throw new FirnError('FIRN_CONFIG_DAMAGED', { what: `key ${key}`, problem: 'it did not arrive as it was sent' });
  }
  const removed = [...new Set([...(keepOld ? [] : old.names), ...earlier.names])];
  for (const name of removed) await ring.data.delete(name, options);
  return { key, removed };
}

/** @throws FIRN_CONFIG_DAMAGED where the name, which is random, has another key. */
export async function createKey(
  data: BlobStore,
  { name, body }: { readonly name: string; readonly body: Buffer },
  options?: CallOptions,
): Promise<void> {
  if (await createOwn(data, name, body, options)) return;
  throw new FirnError('FIRN_CONFIG_DAMAGED', { what: `key ${name}`, problem: 'another key has its name' });
}

interface OpenedKeys {
  readonly master: Buffer | undefined;
  readonly names: readonly string[];
  readonly damaged: FirnError | undefined;
}

async function keysOpenedBy(
  ring: KeyRing,
  tried: readonly string[],
  passphrase: string,
  { firstOnly = false, ...options }: CallOptions & { readonly firstOnly?: boolean },
): Promise<OpenedKeys> {
  const names: string[] = [];
  let master: Buffer | undefined;
  let damaged: FirnError | undefined;
  for (const name of tried) {
    if (firstOnly && master !== undefined) break;
    try {
      const { body } = await ring.data.read(name, options);
      const opened = await unwrapMasterKey(ring.repositoryId, { name, body }, passphrase);
      if (opened === undefined) continue;
      master ??= opened;
      names.push(name);
    } catch (error) {
      // It went since the listing: the passphrase was changed just now.
      if (isBlobFailure(error, 'missing')) continue;
      // Another key may be whole, and open with this passphrase.
      if (!isFirnError(error)) throw error;
      damaged ??= error;
    }
  }
  return { master, names, damaged };
}

function refuse({ repository }: KeyRing, damaged: FirnError | undefined): never {
  throw damaged ?? new FirnError('FIRN_PASSPHRASE_WRONG', { repository });
}
