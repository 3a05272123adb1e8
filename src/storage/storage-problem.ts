/** What to tell a person of a storage that refused something nobody had decided upon. Pure. */
import { FirnError, isFirnError } from '../errors.ts';
import { BlobStoreError } from './blob-store.ts';

/**
 * A `FirnError` is what it is, and a `BlobStoreError` becomes FIRN_STORAGE_FAILED; undefined for anything else, which is
 * a cancellation or a mistake in the program and must not pass for a problem of one source.
 * @param url of the store.
 */
export function storageProblem(error: unknown, url: string): FirnError | undefined {
  if (isFirnError(error)) return error;
  if (!(error instanceof BlobStoreError)) return undefined;
  return new FirnError('FIRN_STORAGE_FAILED', { url, problem: error.message }, { cause: error });
}
