/** From anything thrown to the error that the user is shown and the code that the process ends with. Pure. */
import { FirnError, problemOf } from '../errors.ts';
import { BlobStoreError } from '../storage/blob-store.ts';
import { exitCodes } from './command.ts';

/** @param cancelled the user asked to stop: whatever failed then, failed because of that. */
export function failureOf(error: unknown, cancelled: boolean): FirnError {
  if (cancelled) return new FirnError('FIRN_CANCELLED', {}, { cause: error });
  if (error instanceof FirnError) return error;
  if (error instanceof BlobStoreError) {
    const { blob } = error;
    if (error.failure === 'missing') return new FirnError('FIRN_BLOB_MISSING', { blob }, { cause: error });
    if (error.failure === 'offline') return new FirnError('FIRN_BLOB_OFFLINE', { blob }, { cause: error });
  }
  return new FirnError('FIRN_INTERNAL', { problem: problemOf(error) }, { cause: error });
}

export function exitCodeOf(error: FirnError): number {
  if (error.code === 'FIRN_CANCELLED') return exitCodes.cancelled;
  return error.usage ? exitCodes.usage : exitCodes.failed;
}
