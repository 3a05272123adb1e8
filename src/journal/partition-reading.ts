/**
 * Reads a partition range by range, so that memory is bounded however large it is, and no connection waits for a reader. What
 * cannot be understood is asked for once more before it counts as damaged: it may have been damaged on the way.
 */
import { FirnError } from '../errors.ts';
import { type BlobContent, type BlobStore, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import { decodePartition, type PartitionEvent } from './partition-decoding.ts';

const RANGE_BYTES = 4 * 1024 * 1024;
const TRIES_MAX = 5;

interface Range extends CallOptions {
  /** First byte; 0 where undefined. */
  readonly from?: number;
  /** The byte to end before; the length of the blob at the first read where undefined. */
  readonly to?: number;
}

/**
 * What the bytes of a partition hold, as `decodePartition` tells it.
 * @param range `blobBytes`: what the manifest says that a sealed partition has. One that is shorter is corrupt, one that is
 * longer is read to its end.
 * @throws FIRN_REPOSITORY_NEWER; `missing`, also when the blob is deleted between two ranges; what the storage throws.
 */
export async function* readPartition(
  state: BlobStore,
  name: string,
  { from = 0, to, blobBytes, signal }: Range & { readonly blobBytes?: number | undefined } = {},
): AsyncGenerator<PartitionEvent> {
  const decode = (range: Range & { readonly from: number }, end: number | undefined) =>
    decodePartition(readRanges(state, name, { ...range, signal }), { blob: name, offset: range.from, end });
  for await (const event of decode(to === undefined ? { from } : { from, to }, blobBytes)) {
    if (event.kind !== 'corrupt' || event.range.bytes === 0) {
      yield event;
      continue;
    }
    const { offset, bytes } = event.range;
    yield* decode({ from: offset, to: offset + bytes }, offset + bytes);
  }
}

/** The bytes as they are. @throws what `readPartition` throws of the storage. */
export async function* readRanges(
  state: BlobStore,
  name: string,
  { from = 0, to, signal }: Range = {},
): AsyncGenerator<Buffer> {
  let end = to;
  for (let offset = from; end === undefined || offset < end; ) {
    const length = Math.min(RANGE_BYTES, (end ?? Number.POSITIVE_INFINITY) - offset);
    const { body, properties } = await readRange(state, name, { offset, length, signal });
    end ??= properties.bytes;
    if (body.length === 0) return;
    offset += body.length;
    yield body;
  }
}

/** The bytes of a range never change, but their blob may: it grows, and sealing gives it another ETag. */
async function readRange(
  state: BlobStore,
  name: string,
  range: CallOptions & { readonly offset: number; readonly length: number },
): Promise<BlobContent> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await state.read(name, range);
    } catch (error) {
      // The connection broke, and what was left was asked for under the ETag from before.
      if (!isBlobFailure(error, 'changed')) throw error;
      if (tries < TRIES_MAX) continue;
      const problem = `${name} was touched each of ${TRIES_MAX} times while it was read`;
      throw new FirnError('FIRN_STORAGE_FAILED', { url: state.url, problem }, { cause: error });
    }
  }
}
