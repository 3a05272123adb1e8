/**
 * Cuts a stream of bytes into chunks by its content: FastCDC (Xia et al., USENIX ATC 2016) with normalized chunking,
 * level 2. A change in a file moves the boundaries near it and no others, so what did not change is found again.
 *
 * Where it cuts, exactly. The gear table is 1,024 bytes of HKDF-SHA-256 (input key: the repository's chunking key, no
 * salt, info «firn gear v1»), read as 256 unsigned 32-bit little-endian numbers. The gear hash of a position rolls over
 * the 32 bytes before it: `h = (h << 1) + gear[byte]` modulo 2^32, from 0. (Older bytes are shifted out, so the hash
 * depends on nothing else, and its bit k on the last k + 1 bytes alone: the masks take the highest bits.) With
 * `b = log2(averageBytes)`, a chunk ends at the first length L where
 *
 *     minBytes ≤ L < averageBytes   and the highest b + 2 bits of the hash are zero, or
 *     averageBytes ≤ L < maxBytes   and the highest b − 2 bits of the hash are zero, or
 *     L = maxBytes, or the input ends.
 *
 * It promises that boundaries depend on the content alone, never on the pieces it comes in. It does not hash or name.
 */
import { hkdfSync } from 'node:crypto';
import { FirnError } from '../errors.ts';

/** Stored in the config: chunks are found again only when they are cut by the same parameters. Powers of two, bytes. */
export interface ChunkerParameters {
  readonly minBytes: number;
  readonly averageBytes: number;
  readonly maxBytes: number;
}

export interface Chunker {
  /** An input of this length or less is one chunk. */
  readonly minBytes: number;
  /**
   * Cuts the bytes of the pieces, which may have any size. Each chunk is a buffer of its own that the consumer may
   * keep; a piece is not used after the next one was asked for. Nothing comes from an empty input. Holds at most
   * `maxBytes` and one piece.
   */
  chunks(pieces: AsyncIterable<Buffer> | Iterable<Buffer>): AsyncGenerator<Buffer>;
}

/** Bytes that one hash covers. */
const WINDOW_BYTES = 32;
const NORMALIZATION_LEVEL = 2;
const MIN_BYTES_LEAST = 2 * WINDOW_BYTES;
/** A chunk fits one frame and one read into memory. */
const MAX_BYTES_MOST = 16 * 1024 * 1024;

function isPowerOfTwo(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value > 0 && Number.isInteger(Math.log2(value));
}

/** Checks parameters as they were read. @throws FIRN_CONFIG_DAMAGED. */
export function checkChunkerParameters(parameters: ChunkerParameters): ChunkerParameters {
  const { minBytes, averageBytes, maxBytes } = parameters;
  const damaged = (problem: string) => new FirnError('FIRN_CONFIG_DAMAGED', { what: 'config', problem });
  for (const [name, value] of Object.entries({ minBytes, averageBytes, maxBytes })) {
    if (!isPowerOfTwo(value)) throw damaged(`the chunker's ${name} is ${value}, which is no power of two`);
  }
  if (minBytes < MIN_BYTES_LEAST) throw damaged(`the chunker's minBytes is less than ${MIN_BYTES_LEAST}`);
  if (maxBytes > MAX_BYTES_MOST) throw damaged(`the chunker's maxBytes is more than ${MAX_BYTES_MOST}`);
  if (minBytes >= averageBytes || averageBytes >= maxBytes) {
    throw damaged("the chunker's minBytes, averageBytes and maxBytes do not ascend");
  }
  return { minBytes, averageBytes, maxBytes };
}

function gearTable(chunkingKey: Uint8Array): Int32Array {
  const bytes = Buffer.from(hkdfSync('sha256', chunkingKey, Buffer.alloc(0), 'firn gear v1', 256 * 4));
  return Int32Array.from({ length: 256 }, (_, i) => bytes.readInt32LE(i * 4));
}

/** A mask of the highest bits. */
function highBits(count: number): number {
  return (-1 << (32 - count)) | 0;
}

/**
 * Finds the end of one chunk over any number of calls. The state between two calls is the length so far and the hash.
 */
class CutFinder {
  readonly #gear: Int32Array;
  readonly #parameters: ChunkerParameters;
  readonly #strictMask: number;
  readonly #looseMask: number;
  #length = 0;
  #hash = 0;
  #cut = false;

  constructor(parameters: ChunkerParameters, gear: Int32Array) {
    this.#gear = gear;
    this.#parameters = parameters;
    const bits = Math.log2(parameters.averageBytes);
    this.#strictMask = highBits(bits + NORMALIZATION_LEVEL);
    this.#looseMask = highBits(bits - NORMALIZATION_LEVEL);
  }

  /** Takes bytes from `from` on. @returns where the chunk ends in them, or -1 when it goes on behind them. */
  find(bytes: Uint8Array, from: number): number {
    const { minBytes, averageBytes, maxBytes } = this.#parameters;
    let at = this.#skip(bytes, from, minBytes - WINDOW_BYTES);
    at = this.#warm(bytes, at, minBytes - 1);
    at = this.#roll(bytes, at, averageBytes - 1, this.#strictMask);
    if (!this.#cut) at = this.#roll(bytes, at, maxBytes, this.#looseMask);
    if (!this.#cut && this.#length < maxBytes) return -1;
    this.#cut = false;
    this.#length = 0;
    this.#hash = 0;
    return at;
  }

  /** Where the bytes end that bring the chunk to `untilLength`, or end themselves. */
  #end(bytes: Uint8Array, from: number, untilLength: number): number {
    return Math.min(bytes.length, from + Math.max(0, untilLength - this.#length));
  }

  #skip(bytes: Uint8Array, from: number, untilLength: number): number {
    const to = this.#end(bytes, from, untilLength);
    this.#length += to - from;
    return to;
  }

  /** Rolls without looking for a cut. */
  #warm(bytes: Uint8Array, from: number, untilLength: number): number {
    const gear = this.#gear;
    const to = this.#end(bytes, from, untilLength);
    let hash = this.#hash;
    for (let i = from; i < to; i += 1) hash = ((hash << 1) + (gear[bytes[i] as number] as number)) | 0;
    this.#hash = hash;
    this.#length += to - from;
    return to;
  }

  /** Rolls until the mask fits, which sets `#cut`. */
  #roll(bytes: Uint8Array, from: number, untilLength: number, mask: number): number {
    const gear = this.#gear;
    const to = this.#end(bytes, from, untilLength);
    let hash = this.#hash;
    for (let i = from; i < to; i += 1) {
      hash = ((hash << 1) + (gear[bytes[i] as number] as number)) | 0;
      if ((hash & mask) === 0) {
        this.#cut = true;
        return i + 1;
      }
    }
    this.#hash = hash;
    this.#length += to - from;
    return to;
  }
}

/** Collects the beginning of a chunk whose end lies in a later piece. */
class Held {
  #buffer = Buffer.alloc(0);
  #bytes = 0;

  push(part: Uint8Array, capacityMax: number): void {
    const needed = this.#bytes + part.length;
    if (needed > this.#buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(needed, Math.min(capacityMax, this.#buffer.length * 2)));
      this.#buffer.copy(grown, 0, 0, this.#bytes);
      this.#buffer = grown;
    }
    this.#buffer.set(part, this.#bytes);
    this.#bytes = needed;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** What is held and this last part, in a buffer of their own. */
  take(last: Uint8Array): Buffer {
    const chunk = Buffer.allocUnsafe(this.#bytes + last.length);
    this.#buffer.copy(chunk, 0, 0, this.#bytes);
    chunk.set(last, this.#bytes);
    this.#bytes = 0;
    return chunk;
  }
}

/**
 * @param chunkingKey `keys.chunkingKey`; who does not have it cannot tell a file from the lengths of its chunks.
 * @throws FIRN_CONFIG_DAMAGED when the parameters make no sense.
 */
export function createChunker(parameters: ChunkerParameters, chunkingKey: Uint8Array): Chunker {
  const checked = checkChunkerParameters(parameters);
  const gear = gearTable(chunkingKey);
  return {
    minBytes: checked.minBytes,
    async *chunks(pieces) {
      const finder = new CutFinder(checked, gear);
      const held = new Held();
      for await (const piece of pieces) {
        let from = 0;
        while (from < piece.length) {
          const end = finder.find(piece, from);
          if (end < 0) break;
          yield held.take(piece.subarray(from, end));
          from = end;
        }
        if (from < piece.length) held.push(piece.subarray(from), checked.maxBytes);
      }
      if (held.bytes > 0) yield held.take(Buffer.alloc(0));
    },
  };
}
