/**
 * Reads chunks back from where the index says they are.
 *
 * It promises that the bytes of a chunk have its hash, or an error; that a bundled chunk costs one ranged read of exactly
 * its frame, or less where its reader said what else it is going to read; that readers of one frame at the same time share
 * that read; and that memory is bounded by the cache and what is being read. It does not look anything up, and does not
 * try another place when a chunk is damaged.
 */
import { FirnError, isFirnError } from '../errors.ts';
import { FRAME_RAW_BYTES_MAX, openFrame, openFrames, sealedFrameBytes } from '../sealing/frame.ts';
import { freeBuffer } from '../sealing/free-buffer.ts';
import type { Keys } from '../sealing/keys.ts';
import { type BlobStore, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import { chunkBlobName } from './chunk-blobs.ts';
import { FrameCache, type HeldFrame } from './frame-cache.ts';
import type { ChunkLocation } from './location.ts';
import { createSharedCalls } from './shared-calls.ts';
import { type FramePlace, SpanReader } from './span-reader.ts';

export interface ChunkReader {
  /**
   * Says which chunks will be read soon, about in this order: neighbours are then read in one request, and the next while
   * these are used. Nothing is read before the first of them is.
   * @returns a function that takes it back, to be called in any case; calling it again does nothing.
   */
  expect(locations: readonly ChunkLocation[]): () => void;
  /**
   * A chunk of at most 16 MiB. The memory may be shared with other readers: it must not be changed, and whoever keeps it
   * for long should keep a copy. Who is done with it gives it back; else the garbage collector comes for it some time.
   * @throws FIRN_CHUNK_DAMAGED, FIRN_SEAL_BROKEN, FIRN_BLOB_DAMAGED, FIRN_BLOB_MISSING, FIRN_BLOB_OFFLINE.
   */
  read(location: ChunkLocation, options?: CallOptions): Promise<Buffer>;
  /**
   * Says that nobody will look any more at what `read` gave, this very buffer: not the caller, nor whom he passed it to,
   * nor a call of the system. Its memory may be gone then. Does nothing with any other buffer.
   */
  giveBack(bytes: Uint8Array): void;
  /**
   * A chunk of any length, in memory bounded by a frame. It ends with an error when the bytes do not have the hash: what
   * was taken before that must not be trusted. Errors as `read`.
   */
  stream(location: ChunkLocation, options?: CallOptions): AsyncGenerator<Buffer>;
}

export interface ChunkReaderOptions {
  /** Opened frames and large chunks to keep, least recently used dropped first; 0 keeps none. */
  readonly cacheBytesMax: number;
}

/** The longest chunk that `read` takes. */
export const READ_BYTES_MAX = FRAME_RAW_BYTES_MAX;

export function createChunkReader(data: BlobStore, keys: Keys, options: ChunkReaderOptions): ChunkReader {
  const cache = new FrameCache(options.cacheBytesMax);
  const calls = createSharedCalls<HeldFrame>();
  const spans = new SpanReader(data);

  function keyOf({ blob, kind, frameOffset, frameBytes, rawBytes }: ChunkLocation): string {
    return `${kind} ${blob} ${frameOffset} ${frameBytes} ${kind === 'large' ? rawBytes : ''}`;
  }

  /** So many bytes at this place in the frame of the chunk, or in the whole of a large chunk. */
  async function lend(location: ChunkLocation, from: number, bytes: number, signal: AbortSignal | undefined) {
    const key = keyOf(location);
    const open = async (sharedSignal: AbortSignal) =>
      cache.add(key, await (location.kind === 'large' ? readLarge : readFrame)(location, sharedSignal));
    for (;;) {
      const frame = cache.get(key) ?? (await calls.join(key, open, signal));
      const lent = cache.lend(frame, from, from + bytes);
      // Another that shared the call may have been done with the frame before this one came to it.
      if (lent !== undefined) return lent;
    }
  }

  async function readFrame(location: ChunkLocation, signal: AbortSignal): Promise<Buffer> {
    const place = placeOf(location);
    const { name, offset, bytes } = place;
    if (!isOfSomeFrame(keys, bytes)) throw wrongPlace(name);
    /** Takes the sealed bytes. */
    const open = async (sealed: Buffer) => {
      const { raw, frameBytes } = await openFrame(keys, { kind: 'tar', name }, sealed);
      if (frameBytes !== bytes) throw wrongPlace(name);
      // What is neither encrypted nor compressed is a part of them.
      if (raw.buffer !== sealed.buffer) freeBuffer(sealed);
      return raw;
    };
    const taken = await spans.take(place, { signal });
    if (taken !== undefined) {
      try {
        return await open(taken);
      } catch (error) {
        // Perhaps it was damaged on its way; what it has by itself is what counts.
        if (!isFirnError(error)) throw error;
      }
    }
    const { body } = await translated(name, data.read(name, { offset, length: bytes, signal }));
    return await open(body);
  }

  async function readLarge(location: ChunkLocation, signal: AbortSignal): Promise<Buffer> {
    const { blob, frameBytes, rawBytes } = location;
    const name = chunkBlobName(blob);
    if (frameBytes < 1 || frameBytes > 2 * sealedFrameBytes(keys, rawBytes + FRAME_RAW_BYTES_MAX))
      throw wrongPlace(name);
    const { body } = await translated(name, data.read(name, { length: frameBytes, signal }));
    const raw: Buffer[] = [];
    let left = rawBytes;
    for await (const frame of openFrames(keys, { kind: 'large', name }, [body])) {
      left -= frame.length;
      if (left < 0) throw damaged(location);
      raw.push(frame);
    }
    if (left > 0) throw damaged(location);
    const whole = raw.length === 1 && raw[0] ? raw[0] : Buffer.concat(raw);
    for (const part of [body, ...raw]) if (part.buffer !== whole.buffer) freeBuffer(part);
    return whole;
  }

  async function read(location: ChunkLocation, { signal }: CallOptions = {}): Promise<Buffer> {
    const { hash, kind, offsetInFrame, rawBytes } = location;
    if (rawBytes > READ_BYTES_MAX) throw new RangeError(`A chunk over ${READ_BYTES_MAX} bytes is to be streamed.`);
    signal?.throwIfAborted();
    const bytes = await lend(location, kind === 'large' ? 0 : offsetInFrame, rawBytes, signal);
    if (bytes.length !== rawBytes || keys.hash(bytes) !== hash) throw damaged(location);
    return bytes;
  }

  return {
    expect: (locations) =>
      spans.expect(
        locations
          .filter((location) => location.kind === 'tar' && !cache.has(keyOf(location)))
          .map(placeOf)
          .filter(({ bytes }) => isOfSomeFrame(keys, bytes)),
      ),

    read,

    giveBack: (bytes) => cache.giveBack(bytes),

    async *stream(location, callOptions = {}) {
      const { blob, kind, hash, rawBytes } = location;
      if (kind === 'tar') {
        // No frame holds so much.
        if (rawBytes > READ_BYTES_MAX) throw wrongPlace(chunkBlobName(blob));
        yield await read(location, callOptions);
        return;
      }
      const name = chunkBlobName(blob);
      const { signal } = callOptions;
      const { body } = await translated(name, data.readStream(name, { signal }));
      const hasher = keys.hasher();
      let left = rawBytes;
      for await (const raw of openFrames(keys, { kind: 'large', name }, body)) {
        left -= raw.length;
        if (left < 0) throw damaged(location);
        hasher.update(raw);
        if (raw.length > 0) yield raw;
      }
      if (left > 0 || hasher.digest() !== hash) throw damaged(location);
    },
  };
}

function placeOf({ blob, frameOffset, frameBytes }: ChunkLocation): FramePlace {
  return { name: chunkBlobName(blob), offset: frameOffset, bytes: frameBytes };
}

/** No frame is longer. */
function isOfSomeFrame(keys: Keys, bytes: number): boolean {
  return bytes >= 1 && bytes <= sealedFrameBytes(keys, FRAME_RAW_BYTES_MAX * 2);
}

function damaged({ hash, blob }: ChunkLocation): FirnError {
  return new FirnError('FIRN_CHUNK_DAMAGED', { chunk: hash, blob: chunkBlobName(blob) });
}

function wrongPlace(blob: string): FirnError {
  return new FirnError('FIRN_BLOB_DAMAGED', { blob, problem: 'the chunk index points to a place that holds no frame' });
}

async function translated<T>(blob: string, reading: Promise<T>): Promise<T> {
  try {
    return await reading;
  } catch (error) {
    if (isBlobFailure(error, 'missing')) throw new FirnError('FIRN_BLOB_MISSING', { blob }, { cause: error });
    if (isBlobFailure(error, 'offline')) throw new FirnError('FIRN_BLOB_OFFLINE', { blob }, { cause: error });
    if (isBlobFailure(error, 'range')) throw wrongPlace(blob);
    throw error;
  }
}
