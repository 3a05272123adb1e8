/**
 * Reads of the Azure blob store: ranges as the port defines them, and streams that go on where a connection broke.
 *
 * A stream asks for what is still missing under the ETag of its first answer, so it never mixes two versions. (The
 * SDK's own resuming takes a broken connection for a cancelled request and ends; so it is not used.)
 */
import type { ContainerClient } from '@azure/storage-blob';
import { FirnError } from '../errors.ts';
import { sdkSignal } from './azure-block-upload.ts';
import { failureOf, toStoreError } from './azure-errors.ts';
import { commonProperties, getProperties } from './azure-properties.ts';
import { BlobStoreError, type BlobStream, type ReadOptions } from './blob-store.ts';

/** How often in a row a stream takes up a connection that breaks before it brings anything. */
const RESUMES_MAX = 5;

export interface Place {
  readonly container: ContainerClient;
  /** The address of the container, for messages. */
  readonly url: string;
}

/** Opens a blob or a range of it. Throws the SDK's errors or the port's; the stream itself throws the port's. */
export async function openBlob(place: Place, name: string, options: ReadOptions): Promise<BlobStream> {
  const offset = options.offset ?? 0;
  const nothingWanted = options.length === 0;
  while (true) {
    try {
      if (!nothingWanted) return await openRange(place, name, offset, options);
    } catch (error) {
      // The service refuses a range at the very end of a blob, so also any range of an empty one.
      if (failureOf(error) !== 'range') throw error;
    }
    const properties = await getProperties(place.container, name, options);
    if (properties.tier === 'Archive') throw new BlobStoreError('offline', name);
    if (offset > properties.bytes) throw new BlobStoreError('range', name);
    // Where it has grown since it was refused, the range is read again.
    if (nothingWanted || offset === properties.bytes) {
      return { body: noPieces(), properties: { ...properties, tier: undefined } };
    }
  }
}

async function openRange(place: Place, name: string, offset: number, options: ReadOptions): Promise<BlobStream> {
  const range = { offset, length: options.length, ifMatch: options.ifMatch };
  const found = await download(place, name, range, options.signal);
  const common = commonProperties(found);
  const missing = { offset, end: offset + found.contentLength, etag: common.etag };
  return {
    body: resumed(place, name, found.pieces, missing, options.signal),
    properties: { ...common, bytes: totalBytes(found), tier: undefined, sealed: found.isSealed ?? false },
  };
}

interface Download {
  readonly etag?: string | undefined;
  readonly lastModified?: Date | undefined;
  readonly metadata?: Record<string, string> | undefined;
  readonly isSealed?: boolean | undefined;
  readonly leaseStatus?: string | undefined;
  readonly contentLength: number;
  readonly contentRange?: string | undefined;
  readonly pieces: AsyncIterable<Buffer>;
}

async function download(
  place: Place,
  name: string,
  range: { readonly offset: number; readonly length: number | undefined; readonly ifMatch: string | undefined },
  signal: AbortSignal | undefined,
): Promise<Download> {
  const conditions = range.ifMatch === undefined ? {} : { conditions: { ifMatch: range.ifMatch } };
  const found = await place.container.getBlobClient(name).download(range.offset, range.length, {
    maxRetryRequests: 0,
    ...conditions,
    ...sdkSignal(signal),
  });
  // The answer has getters; a spread would leave them out.
  const { etag, lastModified, metadata, isSealed, leaseStatus, contentLength, contentRange, readableStreamBody } =
    found;
  if (contentLength === undefined || readableStreamBody === undefined) throw new Error('the service sent no body');
  // Whoever reads it is told by the reading; what comes when he has left, as the end of a cancelled connection, is nobody's.
  readableStreamBody.on('error', () => {});
  const pieces = readableStreamBody as AsyncIterable<Buffer>;
  return { etag, lastModified, metadata, isSealed, leaseStatus, contentLength, contentRange, pieces };
}

/** An answer to a range says «bytes 5-9/10»; one to a whole blob has its length. */
function totalBytes(found: Download): number {
  const total = /\/(\d+)$/.exec(found.contentRange ?? '')?.[1];
  return total === undefined ? found.contentLength : Number(total);
}

async function* resumed(
  place: Place,
  name: string,
  first: AsyncIterable<Buffer>,
  missing: { readonly offset: number; readonly end: number; readonly etag: string },
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  let at = missing.offset;
  let pieces = first;
  let breaks = 0;
  while (true) {
    let problem: unknown;
    try {
      for await (const piece of pieces) {
        signal?.throwIfAborted();
        at += piece.length;
        breaks = 0;
        yield piece;
      }
    } catch (error) {
      signal?.throwIfAborted();
      problem = error;
    }
    if (at >= missing.end) return;
    breaks += 1;
    if (breaks > RESUMES_MAX) {
      const details = { url: place.url, problem: 'the connection broke again and again' };
      throw new FirnError('FIRN_STORAGE_UNREACHABLE', details, { cause: problem });
    }
    try {
      const range = { offset: at, length: missing.end - at, ifMatch: missing.etag };
      pieces = (await download(place, name, range, signal)).pieces;
    } catch (error) {
      throw toStoreError(error, { url: place.url, blob: name }, signal);
    }
  }
}

async function* noPieces(): AsyncGenerator<Buffer> {}
