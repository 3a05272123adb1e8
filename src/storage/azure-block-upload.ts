/**
 * Writes a body of unknown length as one block blob: in one request where it fits into a block, else staged in blocks
 * that a last request commits. Until that request nothing is visible; blocks that are never committed cost nothing to
 * readers and are dropped by the service within a week.
 *
 * Several writers of one name do not mix: each has block ids of its own. The first to commit wins, and its commit drops
 * the blocks of the others, who then fail with `exists`. Memory holds `STAGED_AT_ONCE` blocks and the one being filled.
 * A blob takes 50,000 blocks, so a body of more than 390 GiB is refused by the service.
 */
import { randomBytes } from 'node:crypto';
import type { BlockBlobClient, BlockBlobUploadOptions } from '@azure/storage-blob';
import { abortablePieces } from './abortable.ts';
import { codeOf } from './azure-errors.ts';

export const BLOCK_BYTES = 8 * 1024 * 1024;
const STAGED_AT_ONCE = 3;
const WRITER_BYTES = 12;

export type BlockUploadOptions = Pick<BlockBlobUploadOptions, 'metadata' | 'tier' | 'blobHTTPHeaders' | 'conditions'>;

export async function uploadBlocks(
  client: BlockBlobClient,
  body: AsyncIterable<Uint8Array>,
  options: BlockUploadOptions,
  signal: AbortSignal | undefined,
): Promise<{ etag?: string | undefined }> {
  const blocks = blocksOf(abortablePieces(body, signal));
  const first = await blocks.next();
  if (first.done) return await uploadWhole(client, Buffer.alloc(0), options, signal);
  const second = await blocks.next();
  if (second.done) return await uploadWhole(client, first.value, options, signal);
  const ids = await stageAll(client, prepend([first.value, second.value], blocks), signal);
  return await client.commitBlockList(ids, { ...options, ...sdkSignal(signal) });
}

/**
 * Writes a blob in one request. To Azurite a name is taken as soon as a writer has staged a block under it, also one
 * that died before it committed; then the body goes the way of blocks, which it lets through.
 */
export async function uploadWhole(
  client: BlockBlobClient,
  body: Uint8Array,
  options: BlockUploadOptions,
  signal: AbortSignal | undefined,
): Promise<{ etag?: string | undefined }> {
  try {
    return await client.upload(body, body.length, { ...options, ...sdkSignal(signal) });
  } catch (error) {
    if (codeOf(error) !== 'BlobAlreadyExists' || (await client.exists(sdkSignal(signal)))) throw error;
    const ids = body.length === 0 ? [] : [blockId(randomBytes(WRITER_BYTES), 0)];
    for (const id of ids) await client.stageBlock(id, body, body.length, sdkSignal(signal));
    return await client.commitBlockList(ids, { ...options, ...sdkSignal(signal) });
  }
}

/** Stages every block, a few at once, and gives their ids in order. The first failure cancels the rest. */
async function stageAll(
  client: BlockBlobClient,
  blocks: AsyncIterable<Buffer>,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const writer = randomBytes(WRITER_BYTES);
  const ids: string[] = [];
  const failed = new AbortController();
  const staged = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
  const inFlight = new Set<Promise<void>>();
  try {
    for await (const block of blocks) {
      const id = blockId(writer, ids.length);
      ids.push(id);
      const staging = client.stageBlock(id, block, block.length, { abortSignal: staged }).then(() => {
        inFlight.delete(staging);
      });
      staging.catch(() => undefined);
      inFlight.add(staging);
      if (inFlight.size >= STAGED_AT_ONCE) await Promise.race(inFlight);
    }
    await Promise.all(inFlight);
    return ids;
  } catch (error) {
    failed.abort();
    await Promise.allSettled(inFlight);
    throw error;
  }
}

/** All ids of a blob must have the same length; the service compares them as they are. */
function blockId(writer: Buffer, index: number): string {
  const id = Buffer.alloc(writer.length + 4);
  writer.copy(id);
  id.writeUInt32BE(index, writer.length);
  return id.toString('base64');
}

/** Gathers pieces of any size into blocks of `BLOCK_BYTES`; the last is shorter, and there is none of no bytes. */
async function* blocksOf(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer, void> {
  let block = Buffer.allocUnsafe(0);
  let filled = 0;
  for await (const piece of pieces) {
    let taken = 0;
    while (taken < piece.length) {
      if (filled === block.length) {
        // Small bodies get small buffers: the buffer doubles until it is a block.
        const grown = Buffer.allocUnsafe(Math.min(BLOCK_BYTES, Math.max(64 * 1024, 2 * filled, piece.length - taken)));
        block.copy(grown, 0, 0, filled);
        block = grown;
      }
      const bytes = Math.min(piece.length - taken, block.length - filled);
      block.set(piece.subarray(taken, taken + bytes), filled);
      filled += bytes;
      taken += bytes;
      if (filled === BLOCK_BYTES) {
        yield block;
        block = Buffer.allocUnsafe(0);
        filled = 0;
      }
    }
  }
  if (filled > 0) yield block.subarray(0, filled);
}

async function* prepend<T>(first: readonly T[], rest: AsyncIterable<T>): AsyncGenerator<T, void> {
  yield* first;
  yield* rest;
}

export function sdkSignal(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}
