/**
 * Opened frames in memory, the least recently used dropped first, with a count of who still reads each. The memory of one
 * that was dropped is given back when its last reader says that he is done, and not when the garbage collector comes to
 * it. Who says nothing loses nothing: then the collector does it, as with any other buffer.
 */
import { LRUCache } from 'lru-cache';
import { freeBuffer } from '../sealing/free-buffer.ts';

/** The raw bytes of a frame, or of a whole large chunk. */
export interface HeldFrame {
  readonly raw: Buffer;
  /** Undefined as long as there was none: whoever opened it is still on his way to it. */
  readers: number | undefined;
  isInCache: boolean;
}

export class FrameCache {
  readonly #frames: LRUCache<string, HeldFrame> | undefined;
  /** The frame that a reader's bytes are in, until he gives them back. */
  readonly #frameOf = new WeakMap<Uint8Array, HeldFrame>();

  /** @param bytesMax of frames to keep for the next reader; 0 keeps none. */
  constructor(bytesMax: number) {
    if (bytesMax === 0) return;
    this.#frames = new LRUCache({
      maxSize: bytesMax,
      sizeCalculation: ({ raw }) => Math.max(1, raw.length),
      dispose: (frame) => {
        frame.isInCache = false;
        if (isGone(frame)) freeBuffer(frame.raw);
      },
    });
  }

  has(key: string): boolean {
    return this.#frames?.has(key) === true;
  }

  get(key: string): HeldFrame | undefined {
    return this.#frames?.get(key);
  }

  add(key: string, raw: Buffer): HeldFrame {
    const frame: HeldFrame = { raw, readers: undefined, isInCache: true };
    this.#frames?.set(key, frame);
    // One that is longer than all the cache is not taken into it.
    frame.isInCache = this.has(key);
    return frame;
  }

  /** Bytes for a reader, which stay as they are until he gives them back; undefined where the frame is gone already. */
  lend(frame: HeldFrame, from: number, to: number): Buffer | undefined {
    if (isGone(frame)) return undefined;
    const bytes = frame.raw.subarray(from, to);
    frame.readers = (frame.readers ?? 0) + 1;
    this.#frameOf.set(bytes, frame);
    return bytes;
  }

  /** Does nothing with bytes that were not lent, or that were given back. */
  giveBack(bytes: Uint8Array): void {
    const frame = this.#frameOf.get(bytes);
    if (frame?.readers === undefined) return;
    this.#frameOf.delete(bytes);
    frame.readers -= 1;
    if (isGone(frame)) freeBuffer(frame.raw);
  }
}

/** As soon as it is so, its memory is given back. */
function isGone({ isInCache, readers }: HeldFrame): boolean {
  return !isInCache && readers === 0;
}
