/**
 * What the errors of the Azure SDK mean: the one place where they become `BlobStoreError` or `FirnError`.
 *
 * Codes are those of «Blob service error codes» and «Common REST API error codes».
 */
import { isRestError, type RestError } from '@azure/storage-blob';
import { FirnError, isFirnError } from '../errors.ts';
import { type BlobFailure, BlobStoreError } from './blob-store.ts';

const failureOfCode: Readonly<Record<string, BlobFailure>> = {
  BlobNotFound: 'missing',
  ResourceNotFound: 'missing',
  BlobAlreadyExists: 'exists',
  ConditionNotMet: 'changed',
  TargetConditionNotMet: 'changed',
  AppendPositionConditionNotMet: 'position',
  BlobIsSealed: 'sealed',
  BlockCountExceedsLimit: 'full',
  LeaseIdMissing: 'leased',
  LeaseAlreadyPresent: 'leased',
  LeaseIsBreakingAndCannotBeAcquired: 'leased',
  LeaseIdMismatchWithBlobOperation: 'lease-lost',
  LeaseIdMismatchWithLeaseOperation: 'lease-lost',
  LeaseIsBrokenAndCannotBeRenewed: 'lease-lost',
  LeaseLost: 'lease-lost',
  LeaseNotPresentWithBlobOperation: 'lease-lost',
  LeaseNotPresentWithLeaseOperation: 'lease-lost',
  BlobArchived: 'offline',
  BlobBeingRehydrated: 'offline',
  InvalidRange: 'range',
};

/** No blob is missing then, but all of them: whoever goes on without one blob must not go on without its container. */
const containerMissing = new Set(['ContainerNotFound', 'ContainerBeingDeleted', 'ContainerDisabled']);

const failureOfStatus: Readonly<Record<number, BlobFailure>> = { 404: 'missing', 412: 'changed', 416: 'range' };

/** Besides `exists`, what the service may say of a blob that is in the way of a new one. */
const inTheWay = new Set([
  'ConditionNotMet',
  'LeaseIdMissing',
  'InvalidBlobType',
  'BlobImmutableDueToPolicy',
  'UnauthorizedBlobOverwrite',
]);

/** Names of what @azure/identity throws when it has no token to give. */
const identityErrors = new Set([
  'AuthenticationError',
  'AggregateAuthenticationError',
  'AuthenticationRequiredError',
  'CredentialUnavailableError',
]);

/** Codes of Node.js and of the SDK for a request that got no answer. */
const noAnswer =
  /^(ECONN|ENET|EHOST|EADDR|EAI_|ENOTFOUND|ETIMEDOUT|EPIPE|EPROTO|ERR_TLS|ERR_SSL|REQUEST_SEND_ERROR|CERT_)/;

/** The code that the service gave, or the empty word. */
export function codeOf(error: unknown): string {
  if (!isRestError(error)) return '';
  if (error.code !== undefined) return error.code;
  // The answer to a HEAD has no body; its code is in a header.
  const { errorCode } = (error.details ?? {}) as { errorCode?: unknown };
  return typeof errorCode === 'string' ? errorCode : '';
}

export function meansContainerMissing(error: unknown): boolean {
  return containerMissing.has(codeOf(error));
}

/** The blob failure that the service's answer is, if it is one. */
export function failureOf(error: unknown): BlobFailure | undefined {
  if (!isRestError(error) || error.statusCode === undefined || meansContainerMissing(error)) return undefined;
  return failureOfCode[codeOf(error)] ?? failureOfStatus[error.statusCode];
}

/** True when the service refused to create a blob because there is one. */
export function meansExists(error: unknown): boolean {
  return failureOf(error) === 'exists' || inTheWay.has(codeOf(error));
}

/**
 * What to throw for anything that came out of the SDK. `blob` is undefined where the call was about the container.
 * Never holds a credential: addresses are given by the caller without their query.
 */
export function toStoreError(
  error: unknown,
  place: { readonly url: string; readonly blob: string | undefined },
  signal: AbortSignal | undefined,
): unknown {
  if (error instanceof BlobStoreError || isFirnError(error)) return error;
  if (signal?.aborted) return signal.reason;
  if (meansContainerMissing(error))
    return new FirnError('FIRN_CONTAINER_MISSING', { url: place.url }, { cause: error });
  const failure = failureOf(error);
  if (failure !== undefined) return new BlobStoreError(failure, place.blob ?? '', { cause: error });
  if (error instanceof Error && identityErrors.has(error.name)) {
    return new FirnError(
      'FIRN_STORAGE_DENIED',
      { url: place.url, problem: 'no identity was accepted' },
      { cause: error },
    );
  }
  if (!isRestError(error)) return error;
  const details = { url: place.url, problem: problemOfRest(error) };
  if (error.statusCode === 401 || error.statusCode === 403) {
    return new FirnError('FIRN_STORAGE_DENIED', details, { cause: error });
  }
  if (error.statusCode === undefined && noAnswer.test(error.code ?? '')) {
    return new FirnError('FIRN_STORAGE_UNREACHABLE', details, { cause: error });
  }
  return new FirnError('FIRN_STORAGE_FAILED', details, { cause: error });
}

/** The SDK's message spans lines and repeats request ids; a person needs the code or the first line. */
function problemOfRest(error: RestError): string {
  const firstLine = error.message.split('\n', 1)[0]?.trim() ?? '';
  if (error.statusCode === undefined) return firstLine;
  return error.code === undefined ? `status ${error.statusCode}` : `${error.code} (${error.statusCode})`;
}
