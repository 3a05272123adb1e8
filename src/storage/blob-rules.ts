/**
 * What the blob service takes, checked before a request is made, so that every adapter refuses the same things in the
 * same words instead of letting the service, a proxy or a URL parser change them silently.
 *
 * Sources: «Naming and referencing containers, blobs, and metadata» and «Scalability targets» of Azure Blob Storage.
 */
import { FirnError } from '../errors.ts';
import type { BlobMetadata } from './blob-store.ts';

/** Longest blob name, in UTF-16 units. */
export const BLOB_NAME_LENGTH_MAX = 1024;
/** Most bytes that one append takes. */
export const APPEND_BYTES_MAX = 4 * 1024 * 1024;
/** Most blocks that an append blob takes. */
export const APPEND_BLOCKS_MAX = 50_000;
/** Shortest and longest lease that ends by itself. */
export const LEASE_SECONDS_MIN = 15;
export const LEASE_SECONDS_MAX = 60;

const METADATA_NAME = /^[a-z_][a-z0-9_]*$/;
const METADATA_VALUE = /^[!-~](?:[ -~]*[!-~])?$/;
/** Names and values together; the service takes 8 KiB. */
const METADATA_BYTES_MAX = 8 * 1024;

/** Why no blob can have this name, or undefined when one can. */
export function blobNameProblem(name: string): string | undefined {
  if (name === '') return 'it is empty';
  if (name.length > BLOB_NAME_LENGTH_MAX) return `it is longer than ${BLOB_NAME_LENGTH_MAX} characters`;
  if (!name.isWellFormed()) return 'it is not valid Unicode';
  // Azure stores a backslash as a slash, under another name than the one that was asked for.
  if (name.includes('\\')) return 'it has a backslash';
  // No URL can carry them: they are resolved before the request is sent.
  if (name.split('/').some((segment) => segment === '.' || segment === '..')) return 'it has a segment «.» or «..»';
  return undefined;
}

export function checkBlobName(name: string): void {
  const problem = blobNameProblem(name);
  if (problem !== undefined) throw new FirnError('FIRN_PATH_UNUSABLE', { path: name, problem });
}

// XML 1.0 has no form for these; the emulator then fails the listing of the whole container.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for.
const UNLISTABLE = /[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]/;

/**
 * The same for a name that is about to be given to a blob. Firn gives no name that a listing cannot show; those that
 * others gave can still be read.
 */
export function checkNewBlobName(name: string): void {
  checkBlobName(name);
  if (UNLISTABLE.test(name)) {
    throw new FirnError('FIRN_PATH_UNUSABLE', { path: name, problem: 'it has a control character' });
  }
  if (name.includes(CARRIAGE_RETURN_ENTITY)) {
    throw new FirnError('FIRN_PATH_UNUSABLE', { path: name, problem: `it has «${CARRIAGE_RETURN_ENTITY}»` });
  }
}

const CARRIAGE_RETURN_ENTITY = '&#xD;';

/** The SDK leaves a carriage return in a listing in its XML form. */
export function nameFromListing(listed: string): string {
  return listed.replaceAll(CARRIAGE_RETURN_ENTITY, '\r');
}

export function checkPrefix(prefix: string): void {
  if (!prefix.isWellFormed()) throw misuse('a prefix that is not valid Unicode');
}

/** Metadata comes from Firn itself: anything that does not fit is a mistake in the program. */
export function checkMetadata(metadata: BlobMetadata | undefined): void {
  if (metadata === undefined) return;
  let bytes = 0;
  for (const [name, value] of Object.entries(metadata)) {
    if (!METADATA_NAME.test(name)) throw misuse(`the metadata name «${name}» is not a lower-case identifier`);
    if (!METADATA_VALUE.test(value)) throw misuse(`the metadata value of «${name}» is not trimmed printable ASCII`);
    bytes += name.length + value.length;
  }
  if (bytes > METADATA_BYTES_MAX) throw misuse(`the metadata has ${bytes} bytes, over ${METADATA_BYTES_MAX}`);
}

export function checkAppendBlock(block: Uint8Array): void {
  if (block.length === 0) throw misuse('an append of no bytes');
  if (block.length > APPEND_BYTES_MAX) throw misuse(`an append of ${block.length} bytes, over ${APPEND_BYTES_MAX}`);
}

export function checkLeaseSeconds(seconds: number): void {
  if (Number.isInteger(seconds) && seconds >= LEASE_SECONDS_MIN && seconds <= LEASE_SECONDS_MAX) return;
  throw misuse(`a lease of ${seconds} seconds, not ${LEASE_SECONDS_MIN} to ${LEASE_SECONDS_MAX}`);
}

const LEASE_ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export function checkLeaseId(leaseId: string): void {
  if (!LEASE_ID.test(leaseId)) throw misuse(`the lease id «${leaseId}» is not a GUID in lower case`);
}

export function checkFolderPrefix(prefix: string): void {
  checkPrefix(prefix);
  if (prefix !== '' && !prefix.endsWith('/')) throw misuse(`the folder prefix «${prefix}» does not end with «/»`);
}

export function checkRange(offset: number | undefined, length: number | undefined): void {
  for (const value of [offset, length]) {
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 0)) throw misuse(`a range with ${value}`);
  }
}

function misuse(problem: string): FirnError {
  return new FirnError('FIRN_INTERNAL', { problem });
}
