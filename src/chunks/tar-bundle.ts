/**
 * Bundles small chunks, in the order they come in, into the tar stream of one tar chunk: frames cut at member boundaries
 * and compressed as they fill. It decides where frames and tars end; it does not seal or store.
 *
 * Where a tar ends depends on its members alone (and the zstd that compresses them), not on timing: a batch that is
 * tried again makes the same tars. So the decision at a frame boundary waits for the frames up to a fixed number back,
 * which bounds the compressions in flight too.
 *
 * The tar hash is the keyed hash of «firn tar v1\n» followed by, for each member in order, its 32-byte chunk hash and its
 * length as 8 bytes little-endian.
 */
import { FirnError } from '../errors.ts';
import { type CompressedFrame, compressFrame } from '../sealing/frame.ts';
import { freeBuffer } from '../sealing/free-buffer.ts';
import { HASH_BYTES, type Hash, type Keys } from '../sealing/keys.ts';
import type { Tier } from '../storage/blob-store.ts';
import { sum, type TarFrame } from './chunk-blobs.ts';
import type { ChunkLocation } from './location.ts';
import { TAR_BLOCK_BYTES, tarEntryBytes, tarHeader, tarPadding, tarTrailer } from './tar.ts';

/** Bounds `firn_frames` in the metadata of a tar chunk; the service takes 8 KiB of metadata. */
export const TAR_FRAMES_MAX = 256;
const COMPRESSIONS_IN_FLIGHT_MAX = 4;

export interface TarMember {
  readonly hash: Hash;
  readonly rawBytes: number;
}

export interface BundleLimits {
  readonly tarStoredBytesTarget: number;
  readonly tarRawBytesMax: number;
  readonly frameRawBytesTarget: number;
  readonly compressionLevel: number;
}

export interface BundleFrame {
  readonly members: number;
  readonly rawBytes: number;
  readonly compressed: Promise<CompressedFrame>;
}

export interface ClosedBundle {
  readonly hash: Hash;
  readonly members: readonly TarMember[];
  readonly rawBytes: number;
  /** To be taken out by whoever seals them: they are most of the bundle's memory. */
  readonly frames: BundleFrame[];
}

export function tarHashOf(keys: Keys, members: readonly TarMember[]): Hash {
  const hasher = keys.hasher();
  hasher.update(Buffer.from('firn tar v1\n', 'latin1'));
  for (const { hash, rawBytes } of members) {
    const item = Buffer.alloc(HASH_BYTES + 8);
    item.write(hash, 'hex');
    item.writeBigUInt64LE(BigInt(rawBytes), HASH_BYTES);
    hasher.update(item);
  }
  return hasher.digest();
}

/** Where the members of a tar chunk are, given its frames as they lie on storage. */
export function tarLocations(
  tarHash: Hash,
  members: readonly TarMember[],
  frames: readonly TarFrame[],
  tier: Tier,
): ChunkLocation[] {
  const locations: ChunkLocation[] = [];
  let frameOffset = 0;
  let next = 0;
  for (const frame of frames) {
    let offset = 0;
    for (const { hash, rawBytes } of members.slice(next, next + frame.members)) {
      locations.push({
        hash,
        blob: tarHash,
        kind: 'tar',
        frameOffset,
        frameBytes: frame.storedBytes,
        offsetInFrame: offset + TAR_BLOCK_BYTES,
        rawBytes,
        tier,
      });
      offset += tarEntryBytes(rawBytes);
    }
    frameOffset += frame.storedBytes;
    next += frame.members;
  }
  return locations;
}

export class TarBundle {
  readonly #keys: Keys;
  readonly #limits: BundleLimits;
  readonly #members: TarMember[] = [];
  readonly #frames: BundleFrame[] = [];
  #rawBytes = 0;
  #open: (TarMember & { bytes: Buffer })[] = [];
  #openRawBytes = 0;

  constructor(keys: Keys, limits: BundleLimits) {
    this.#keys = keys;
    this.#limits = limits;
  }

  get isEmpty(): boolean {
    return this.#members.length === 0;
  }

  /** Makes room for a chunk of this length. @returns false when the bundle is to be closed before it. */
  async makeRoomFor(rawBytes: number): Promise<boolean> {
    if (this.isEmpty) return true;
    const entryBytes = tarEntryBytes(rawBytes);
    if (this.#rawBytes + entryBytes + tarTrailer.length > this.#limits.tarRawBytesMax) return false;
    if (this.#openRawBytes === 0 || this.#openRawBytes + entryBytes <= this.#limits.frameRawBytesTarget) return true;
    if (this.#frames.length + 1 >= TAR_FRAMES_MAX) return false;
    if ((await this.#projectedStoredBytes()) >= this.#limits.tarStoredBytesTarget) return false;
    this.#cutFrame([]);
    return true;
  }

  /** Takes a chunk that there is room for. The buffer belongs to the bundle from here on. */
  add(hash: Hash, bytes: Buffer): void {
    const member = { hash, rawBytes: bytes.length };
    this.#members.push(member);
    this.#open.push({ ...member, bytes });
    this.#openRawBytes += tarEntryBytes(bytes.length);
    this.#rawBytes += tarEntryBytes(bytes.length);
  }

  /** Ends the tar stream. The bundle must not be empty, and takes nothing more. */
  close(): ClosedBundle {
    this.#cutFrame([tarTrailer]);
    return {
      hash: tarHashOf(this.#keys, this.#members),
      members: this.#members,
      rawBytes: this.#rawBytes + tarTrailer.length,
      frames: this.#frames,
    };
  }

  /** Stored bytes if the rest compresses as well as the frames whose turn to be compressed is certainly over. */
  async #projectedStoredBytes(): Promise<number> {
    const known = this.#frames.slice(0, Math.max(0, this.#frames.length - COMPRESSIONS_IN_FLIGHT_MAX + 1));
    const knownRawBytes = sum(known, ({ rawBytes }) => rawBytes);
    const compressed = await Promise.all(known.map((frame) => frame.compressed));
    const knownStoredBytes = sum(compressed, ({ payload }) => payload.length);
    const ratio = knownRawBytes === 0 ? 1 : knownStoredBytes / knownRawBytes;
    return knownStoredBytes + (this.#rawBytes - knownRawBytes) * ratio;
  }

  #cutFrame(end: readonly Buffer[]): void {
    const parts = this.#open.flatMap(({ hash, bytes }) => [
      tarHeader(hash, bytes.length),
      bytes,
      tarPadding(bytes.length),
    ]);
    const raw = Buffer.concat([...parts, ...end]);
    this.#verify(raw);
    for (const { bytes } of this.#open) freeBuffer(bytes);
    const compressed = compressAlone(raw, this.#limits.compressionLevel);
    // Whoever awaits the frame meets the error; until then it is nobody's.
    compressed.catch(() => {});
    this.#frames.push({ members: this.#open.length, rawBytes: raw.length, compressed });
    this.#open = [];
    this.#openRawBytes = 0;
  }

  /** A chunk is stored under its hash only if these very bytes have it. */
  #verify(raw: Buffer): void {
    let at = TAR_BLOCK_BYTES;
    for (const { hash, rawBytes } of this.#open) {
      if (this.#keys.hash(raw.subarray(at, at + rawBytes)) !== hash) {
        throw new FirnError('FIRN_INTERNAL', { problem: 'the bytes of a chunk changed after it was named' });
      }
      at += tarEntryBytes(rawBytes);
    }
  }
}

/** Takes the raw bytes. zstd leaves a short result in a long buffer; frames wait in memory until their tar ends. */
async function compressAlone(raw: Buffer, level: number): Promise<CompressedFrame> {
  const frame = await compressFrame(raw, { level, encoding: 'zstd' });
  freeBuffer(raw);
  const { payload } = frame;
  if (payload.length * 2 > payload.buffer.byteLength) return frame;
  const compact = Buffer.from(payload);
  freeBuffer(payload);
  return { ...frame, payload: compact };
}
