/**
 * Frames: the sealed unit of everything that Firn stores. A blob is one or more frames; each is compressed, then
 * encrypted and authenticated (AES-256-GCM), or in an unencrypted repository protected by a plain SHA-256.
 *
 *     offset  bytes  field (little-endian)
 *          0      4  magic «FIRN»
 *          4      1  format version, 1
 *          5      1  seal: 0 SHA-256, 1 AES-256-GCM
 *          6      1  encoding of the payload before sealing: 0 as it is, 1 one zstd frame
 *          7      1  flags: bit 0, the last frame of the blob
 *          8      4  number of the frame in its blob, from 0
 *         12      4  bytes before compression
 *         16      4  bytes of the payload
 *         20     32  salt of the blob
 *         52      n  payload
 *     52 + n  16/32  GCM tag, or SHA-256
 *
 * The salt is random for each blob *written* and the same in all its frames, so that any frame can be read alone by one
 * ranged GET and frames of two writes never mix. The blob's key is HKDF(data key, salt); the nonce is the frame number.
 * Associated data: the header, the kind, a zero byte, the name of the blob. So no frame can be changed, moved to another
 * place, blob or kind, and none can be dropped: numbers count from 0 without gaps and only the last has the flag. Without
 * encryption the salt is zeros: there, frames of two writes of one name can be mixed.
 */
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import * as zlib from 'node:zlib';
import { FirnError } from '../errors.ts';
import { freeBuffer } from './free-buffer.ts';
import type { Keys } from './keys.ts';

export const FRAME_HEADER_BYTES = 52;
/** The raw size that writers cut bodies into. */
export const FRAME_RAW_BYTES_TARGET = 1024 * 1024;
/** No frame holds more; a reader refuses a header that says so before it reserves memory. */
export const FRAME_RAW_BYTES_MAX = 16 * 1024 * 1024;
const FORMAT_VERSION = 1;
const SALT_BYTES = 32;
const GCM_TAG_BYTES = 16;
const DIGEST_BYTES = 32;
const FLAG_FINAL = 1;
const magic = Buffer.from('FIRN', 'latin1');
const zeroSalt = Buffer.alloc(SALT_BYTES);

const zstdCompress = promisify<Uint8Array, zlib.ZstdOptions, Buffer>(zlib.zstdCompress);
const zstdDecompress = promisify<Uint8Array, zlib.ZstdOptions, Buffer>(zlib.zstdDecompress);

/** What a sealed blob is; a part of the associated data. */
export type SealedKind =
  | 'large'
  | 'tar'
  | 'thin'
  | 'filetree'
  | 'chunk-list'
  | 'snapshot'
  | 'shard'
  | 'head'
  | 'receipt'
  | 'receipt-index'
  | 'plan'
  | 'scan';

/** Which blob a frame belongs to: its kind, and its name inside its container. */
export interface SealedName {
  readonly kind: SealedKind;
  readonly name: string;
}

/** A frame that is compressed but not sealed yet. */
export interface CompressedFrame {
  readonly encoding: 'raw' | 'zstd';
  readonly rawBytes: number;
  readonly payload: Uint8Array;
}

/**
 * Small bodies are compressed on this thread: a trip through the thread pool costs more than the work. For the
 * table of a shard of 96 KiB it would cost three times as much, and hold this thread for half a millisecond less.
 */
const SYNC_BYTES_MAX = 128 * 1024;

/**
 * Compresses the raw bytes of one frame. `auto` keeps them as they are where zstd would not make them smaller; `zstd`
 * always makes a zstd frame (tar chunks need that: their unsealed frames, concatenated, are a zstd stream).
 */
export async function compressFrame(
  raw: Uint8Array,
  options: { level: number; encoding: 'auto' | 'zstd' },
): Promise<CompressedFrame> {
  if (raw.length > FRAME_RAW_BYTES_MAX) throw new RangeError(`A frame holds ${FRAME_RAW_BYTES_MAX} bytes at most.`);
  const zstdOptions: zlib.ZstdOptions = {
    chunkSize: Math.max(64, raw.length + (raw.length >> 7) + 1024),
    params: { [zlib.constants.ZSTD_c_compressionLevel]: options.level },
  };
  const packed =
    raw.length <= SYNC_BYTES_MAX ? zlib.zstdCompressSync(raw, zstdOptions) : await zstdCompress(raw, zstdOptions);
  if (options.encoding === 'auto' && packed.length >= raw.length) {
    return { encoding: 'raw', rawBytes: raw.length, payload: raw };
  }
  return { encoding: 'zstd', rawBytes: raw.length, payload: packed };
}

/** Bytes that a sealed frame with this payload has on storage. */
export function sealedFrameBytes(keys: Keys, payloadBytes: number): number {
  return FRAME_HEADER_BYTES + payloadBytes + (keys.encrypted ? GCM_TAG_BYTES : DIGEST_BYTES);
}

function associatedData(header: Uint8Array, blob: SealedName): Buffer {
  return Buffer.concat([header, Buffer.from(`${blob.kind}\0${blob.name}`)]);
}

function nonceOf(frameNumber: number): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32LE(frameNumber, 0);
  return nonce;
}

/** Seals the frames of one write of one blob, in order. */
export class FrameSealer {
  readonly #keys: Keys;
  readonly #blob: SealedName;
  readonly #salt: Buffer;
  #next = 0;
  #ended = false;

  constructor(keys: Keys, blob: SealedName) {
    this.#keys = keys;
    this.#blob = blob;
    this.#salt = keys.encrypted ? randomBytes(SALT_BYTES) : zeroSalt;
  }

  seal(frame: CompressedFrame, options: { final: boolean }): Buffer {
    const sealed = Buffer.allocUnsafe(sealedFrameBytes(this.#keys, frame.payload.length));
    this.sealInto(sealed, frame, options);
    return sealed;
  }

  /** The same into the beginning of a buffer that has room for it. @returns the bytes of the sealed frame. */
  sealInto(target: Buffer, frame: CompressedFrame, options: { final: boolean }): number {
    if (this.#ended) throw new Error('The last frame of the blob was sealed already.');
    this.#ended = options.final;
    const sealed = target.subarray(0, sealedFrameBytes(this.#keys, frame.payload.length));
    magic.copy(sealed, 0);
    sealed[4] = FORMAT_VERSION;
    sealed[5] = this.#keys.encrypted ? 1 : 0;
    sealed[6] = frame.encoding === 'zstd' ? 1 : 0;
    sealed[7] = options.final ? FLAG_FINAL : 0;
    sealed.writeUInt32LE(this.#next, 8);
    sealed.writeUInt32LE(frame.rawBytes, 12);
    sealed.writeUInt32LE(frame.payload.length, 16);
    this.#salt.copy(sealed, 20);
    const associated = associatedData(sealed.subarray(0, FRAME_HEADER_BYTES), this.#blob);
    const tagAt = FRAME_HEADER_BYTES + frame.payload.length;
    if (this.#keys.encrypted) {
      const cipher = createCipheriv('aes-256-gcm', this.#keys.blobKey(this.#salt), nonceOf(this.#next));
      cipher.setAAD(associated);
      const encrypted = cipher.update(frame.payload);
      encrypted.copy(sealed, FRAME_HEADER_BYTES);
      freeBuffer(encrypted);
      cipher.final();
      cipher.getAuthTag().copy(sealed, tagAt);
    } else {
      sealed.set(frame.payload, FRAME_HEADER_BYTES);
      createHash('sha256').update(associated).update(frame.payload).digest().copy(sealed, tagAt);
    }
    this.#next += 1;
    return sealed.length;
  }
}

interface FrameHeader {
  readonly encrypted: boolean;
  readonly encoding: 'raw' | 'zstd';
  readonly final: boolean;
  readonly number: number;
  readonly rawBytes: number;
  readonly payloadBytes: number;
  readonly frameBytes: number;
  readonly salt: Buffer;
}

export interface OpenedFrame {
  readonly raw: Buffer;
  readonly number: number;
  readonly final: boolean;
  /** Bytes of the sealed frame on storage. */
  readonly frameBytes: number;
  readonly salt: Buffer;
}

function broken(blob: SealedName, problem: string): FirnError {
  return new FirnError('FIRN_SEAL_BROKEN', { blob: blob.name, problem });
}

function parseHeader(keys: Keys, blob: SealedName, bytes: Buffer): FrameHeader {
  if (bytes.length < FRAME_HEADER_BYTES) throw broken(blob, 'it ends inside the header of a frame');
  if (!bytes.subarray(0, 4).equals(magic)) throw broken(blob, 'a frame does not begin with its magic bytes');
  const version = bytes.readUInt8(4);
  if (version > FORMAT_VERSION) {
    if (isOfThisVersion(keys, blob, bytes)) throw broken(blob, 'its format version was changed');
    throw new FirnError('FIRN_REPOSITORY_NEWER', { what: `blob ${blob.name}`, version, supported: FORMAT_VERSION });
  }
  const seal = bytes.readUInt8(5);
  const encoding = bytes.readUInt8(6);
  const flags = bytes.readUInt8(7);
  const rawBytes = bytes.readUInt32LE(12);
  const payloadBytes = bytes.readUInt32LE(16);
  if (version < 1 || seal > 1 || encoding > 1 || flags > FLAG_FINAL)
    throw broken(blob, 'a frame header makes no sense');
  if ((seal === 1) !== keys.encrypted) throw broken(blob, 'its seal is not the one of this repository');
  if (rawBytes > FRAME_RAW_BYTES_MAX || payloadBytes > FRAME_RAW_BYTES_MAX * 2) {
    throw broken(blob, 'a frame is larger than any frame may be');
  }
  return {
    encrypted: seal === 1,
    encoding: encoding === 1 ? 'zstd' : 'raw',
    final: (flags & FLAG_FINAL) !== 0,
    number: bytes.readUInt32LE(8),
    rawBytes,
    payloadBytes,
    frameBytes: sealedFrameBytes(keys, payloadBytes),
    salt: bytes.subarray(20, FRAME_HEADER_BYTES),
  };
}

/** What is authentic but for the version that it names is damaged, and no work of a newer Firn. */
function isOfThisVersion(keys: Keys, blob: SealedName, bytes: Buffer): boolean {
  const frame = Buffer.from(bytes);
  frame.writeUInt8(FORMAT_VERSION, 4);
  try {
    authenticPayload(keys, blob, parseHeader(keys, blob, frame), frame);
    return true;
  } catch (error) {
    if (error instanceof FirnError) return false;
    throw error;
  }
}

/**
 * Opens the frame that `bytes` begin with; what follows it is left alone.
 * @throws FIRN_SEAL_BROKEN for anything that was not sealed by these keys for this blob; FIRN_REPOSITORY_NEWER.
 */
export async function openFrame(keys: Keys, blob: SealedName, bytes: Buffer): Promise<OpenedFrame> {
  const header = parseHeader(keys, blob, bytes);
  const payload = authenticPayload(keys, blob, header, bytes);
  const raw = header.encoding === 'zstd' ? await decompress(blob, payload, header.rawBytes) : payload;
  if (raw.length !== header.rawBytes) throw broken(blob, 'a frame does not have the length that it promises');
  // Decrypted for this alone.
  if (raw !== payload && header.encrypted) freeBuffer(payload);
  const { number, final, frameBytes, salt } = header;
  return { raw, number, final, frameBytes, salt };
}

/** The payload of the frame, decrypted; not decompressed. @throws FIRN_SEAL_BROKEN. */
function authenticPayload(keys: Keys, blob: SealedName, header: FrameHeader, bytes: Buffer): Buffer {
  if (bytes.length < header.frameBytes) throw broken(blob, 'it ends inside a frame');
  const associated = associatedData(bytes.subarray(0, FRAME_HEADER_BYTES), blob);
  const tagAt = FRAME_HEADER_BYTES + header.payloadBytes;
  const sealed = bytes.subarray(FRAME_HEADER_BYTES, tagAt);
  const tag = bytes.subarray(tagAt, header.frameBytes);
  if (header.encrypted) {
    const decipher = createDecipheriv('aes-256-gcm', keys.blobKey(header.salt), nonceOf(header.number));
    decipher.setAAD(associated);
    decipher.setAuthTag(tag);
    const payload = decipher.update(sealed);
    try {
      decipher.final();
    } catch (cause) {
      throw new FirnError('FIRN_SEAL_BROKEN', { blob: blob.name, problem: 'a frame is not authentic' }, { cause });
    }
    return payload;
  }
  const digest = createHash('sha256').update(associated).update(sealed).digest();
  if (!digest.equals(tag)) throw broken(blob, 'the checksum of a frame does not match');
  return sealed;
}

async function decompress(blob: SealedName, payload: Buffer, rawBytes: number): Promise<Buffer> {
  // One byte more than the output: where it fills its buffer exactly, zlib reserves another of the same size.
  const options: zlib.ZstdOptions = { chunkSize: Math.max(64, rawBytes + 1), maxOutputLength: Math.max(1, rawBytes) };
  try {
    return rawBytes <= SYNC_BYTES_MAX
      ? zlib.zstdDecompressSync(payload, options)
      : await zstdDecompress(payload, options);
  } catch (cause) {
    throw new FirnError('FIRN_SEAL_BROKEN', { blob: blob.name, problem: 'a frame does not decompress' }, { cause });
  }
}

/**
 * Opens a whole blob from pieces of any size, frame by frame, in memory bounded by one frame and one piece. Yields the
 * raw bytes of each frame; completes only when the frames were all there, in order, to the last byte.
 */
export async function* openFrames(
  keys: Keys,
  blob: SealedName,
  pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
): AsyncGenerator<Buffer> {
  let held: Buffer[] = [];
  let heldBytes = 0;
  let needBytes = FRAME_HEADER_BYTES;
  let expected = 0;
  let salt: Buffer | undefined;
  let ended = false;
  for await (const piece of pieces) {
    held.push(piece);
    heldBytes += piece.length;
    while (heldBytes >= needBytes) {
      const joined: Buffer = held.length === 1 && held[0] ? held[0] : Buffer.concat(held, heldBytes);
      held = [joined];
      if (ended) throw broken(blob, 'bytes follow its last frame');
      const { frameBytes } = parseHeader(keys, blob, joined);
      if (heldBytes < frameBytes) {
        needBytes = frameBytes;
        break;
      }
      const frame = await openFrame(keys, blob, joined);
      if (frame.number !== expected) throw broken(blob, 'its frames are not in order');
      if (salt !== undefined && !salt.equals(frame.salt)) throw broken(blob, 'its frames come from different writes');
      salt = Buffer.from(frame.salt);
      expected += 1;
      ended = frame.final;
      yield frame.raw;
      held = joined.length > frameBytes ? [joined.subarray(frameBytes)] : [];
      heldBytes = joined.length - frameBytes;
      needBytes = ended ? 1 : FRAME_HEADER_BYTES;
    }
  }
  if (!ended) throw broken(blob, 'its last frame is missing');
  if (heldBytes > 0) throw broken(blob, 'bytes follow its last frame');
}
