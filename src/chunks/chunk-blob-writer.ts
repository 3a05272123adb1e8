/**
 * Stores one chunk blob, whole and durable: a large chunk, or a tar chunk with its thin pointers, in that order. It
 * answers where the chunks are.
 *
 * A blob is created once (`If-None-Match: *`). One that is there already is the work of an earlier try, or of another
 * writer at the same moment: then its own metadata tells where its chunks are, never what was computed here, since
 * another version or level of zstd gives frames of other lengths. It holds no state, and knows nothing of queues.
 */
import pMap from 'p-map';
import { FirnError } from '../errors.ts';
import { compressFrame, FrameSealer, type SealedName, sealedFrameBytes } from '../sealing/frame.ts';
import { freeBuffer } from '../sealing/free-buffer.ts';
import type { Hash, Keys } from '../sealing/keys.ts';
import { SealedBlobs } from '../sealing/sealed-blobs.ts';
import { type BlobStore, isBlobFailure, propertiesIfThere, type Tier } from '../storage/blob-store.ts';
import {
  chunkBlobName,
  largeMetadata,
  type ParsedChunkBlob,
  packedThinLocations,
  packedThinMetadata,
  parseChunkBlob,
  sum,
  type TarFrame,
  THIN_TIER,
  tarMetadata,
  thinBlobName,
  thinMetadata,
} from './chunk-blobs.ts';
import { type ChunkLocation, LocationTable } from './location.ts';
import { type BundleFrame, type ClosedBundle, tarLocations } from './tar-bundle.ts';

/** Thin blobs of one tar that are created at the same time. */
const THIN_BLOBS_IN_FLIGHT_MAX = 16;

export interface ChunkBlobSettings {
  readonly frameRawBytesTarget: number;
  /** zstd level. */
  readonly compressionLevel: number;
  /** Of large and tar chunks. */
  readonly tier: Tier;
  /** One blob of pointers for each tar, or one for each chunk in it. */
  readonly thinChunks: 'packed' | 'blob';
}

export interface StoredChunks {
  readonly locations: readonly ChunkLocation[];
  /** Bytes on storage of the blob and its pointers, whoever wrote them. */
  readonly storedBytes: number;
  readonly alreadyThere: boolean;
}

/** The source, and not the storage, is at fault: it failed, or its bytes are not those that were named. */
export interface SourceFault {
  readonly fault: unknown;
}

type Existing = ParsedChunkBlob & { readonly bytes: number };

export class ChunkBlobWriter {
  readonly #data: BlobStore;
  readonly #keys: Keys;
  readonly #settings: ChunkBlobSettings;

  constructor(data: BlobStore, keys: Keys, settings: ChunkBlobSettings) {
    this.#data = data;
    this.#keys = keys;
    this.#settings = settings;
  }

  /** @throws FIRN_INTERNAL when the bytes do not have this hash. */
  async storeLarge(hash: Hash, bytes: Buffer, signal: AbortSignal): Promise<StoredChunks> {
    const { compressionLevel: level, frameRawBytesTarget, tier } = this.#settings;
    if (this.#keys.hash(bytes) !== hash) {
      throw new FirnError('FIRN_INTERNAL', { problem: 'the bytes of a chunk changed after it was named' });
    }
    const name = chunkBlobName(hash);
    const sealer = new FrameSealer(this.#keys, { kind: 'large', name });
    const frames: Buffer[] = [];
    for (let at = 0; at < bytes.length || at === 0; at += frameRawBytesTarget) {
      const raw = bytes.subarray(at, at + frameRawBytesTarget);
      const frame = await compressFrame(raw, { level, encoding: 'auto' });
      frames.push(sealer.seal(frame, { final: at + frameRawBytesTarget >= bytes.length }));
    }
    const body = Buffer.concat(frames);
    const metadata = largeMetadata(bytes.length, body.length);
    const existing = await this.#create(name, () => this.#data.create(name, body, { metadata, tier, signal }), signal);
    if (existing) return await this.#adoptLarge(hash, bytes.length, existing, signal);
    return {
      locations: [this.#largeLocation(hash, bytes.length, body.length)],
      storedBytes: body.length,
      alreadyThere: false,
    };
  }

  /**
   * The same for a chunk of any length, in memory bounded by a few frames. The hash is verified before the last frame is
   * handed over, so that no blob appears when the source holds something else now. Where the blob is there already, the
   * pieces are left unread.
   */
  async storeStreamed(
    hash: Hash,
    rawBytes: number,
    pieces: AsyncIterable<Buffer>,
    signal: AbortSignal,
  ): Promise<StoredChunks | SourceFault> {
    const name = chunkBlobName(hash);
    const known = await this.#find(name, signal);
    if (known) return await this.#adoptLarge(hash, rawBytes, known, signal);

    let fault: SourceFault | undefined;
    let storedBytes = 0;
    const sealed = async function* (this: ChunkBlobWriter): AsyncGenerator<Buffer> {
      try {
        for await (const frame of this.#sealStream({ kind: 'large', name }, hash, rawBytes, pieces)) {
          storedBytes += frame.length;
          yield frame;
        }
      } catch (error) {
        fault = { fault: error };
        throw error;
      }
    }.bind(this);
    const options = { metadata: largeMetadata(rawBytes, undefined), tier: this.#settings.tier, signal };
    try {
      const write = () => this.#data.createFromStream(name, sealed(), options);
      const existing = await this.#create(name, write, signal);
      if (existing) return await this.#adoptLarge(hash, rawBytes, existing, signal);
    } catch (error) {
      if (fault) return fault;
      throw error;
    }
    return { locations: [this.#largeLocation(hash, rawBytes, storedBytes)], storedBytes, alreadyThere: false };
  }

  /** Empties the bundle's list of frames. */
  async storeTar(bundle: ClosedBundle, signal: AbortSignal): Promise<StoredChunks> {
    const { hash, members, rawBytes } = bundle;
    const { tier } = this.#settings;
    const name = chunkBlobName(hash);
    const { body, frames } = await this.#sealTar(name, bundle.frames.splice(0));
    const metadata = tarMetadata(rawBytes, frames);
    const existing = await this.#create(name, () => this.#data.create(name, body, { metadata, tier, signal }), signal);
    if (existing === undefined) {
      const locations = tarLocations(hash, members, frames, tier);
      return {
        locations,
        storedBytes: body.length + (await this.#storePointers(hash, locations, signal)),
        alreadyThere: false,
      };
    }
    if (existing.is !== 'tar') throw notOurs(name, existing);
    const { tar } = existing;
    if (tar.members !== members.length || tar.rawBytes !== rawBytes) {
      throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem: 'its metadata does not fit its name' });
    }
    const locations = tarLocations(hash, members, tar.frames, tar.tier);
    return {
      locations,
      storedBytes: existing.bytes + (await this.#storePointers(hash, locations, signal)),
      alreadyThere: true,
    };
  }

  /** On its own so that the unsealed frames are gone from memory while the sealed ones are on their way. */
  async #sealTar(name: string, bundled: readonly BundleFrame[]): Promise<{ body: Buffer; frames: TarFrame[] }> {
    const sealer = new FrameSealer(this.#keys, { kind: 'tar', name });
    const compressed = await Promise.all(bundled.map((frame) => frame.compressed));
    const frames = compressed.map(({ payload }, i) => ({
      members: bundled[i]?.members ?? 0,
      storedBytes: sealedFrameBytes(this.#keys, payload.length),
    }));
    const body = Buffer.allocUnsafe(sum(frames, ({ storedBytes }) => storedBytes));
    let at = 0;
    for (const [i, frame] of compressed.entries()) {
      at += sealer.sealInto(body.subarray(at), frame, { final: i === compressed.length - 1 });
      freeBuffer(frame.payload);
    }
    return { body, frames };
  }

  async *#sealStream(
    blob: SealedName,
    hash: Hash,
    rawBytes: number,
    pieces: AsyncIterable<Buffer>,
  ): AsyncGenerator<Buffer> {
    const { compressionLevel: level, frameRawBytesTarget } = this.#settings;
    const sealer = new FrameSealer(this.#keys, blob);
    const seal = async (final: boolean) =>
      sealer.seal(await compressFrame(frame, { level, encoding: 'auto' }), { final });
    const hasher = this.#keys.hasher();
    let left = rawBytes;
    let frame = Buffer.allocUnsafe(Math.min(frameRawBytesTarget, left));
    let filled = 0;
    for await (const piece of pieces) {
      hasher.update(piece);
      if (piece.length > left) throw changed(hash);
      for (let at = 0; at < piece.length; ) {
        if (filled === frame.length) {
          yield await seal(false);
          frame = Buffer.allocUnsafe(Math.min(frameRawBytesTarget, left));
          filled = 0;
        }
        const copied = piece.copy(frame, filled, at);
        at += copied;
        filled += copied;
        left -= copied;
      }
    }
    if (left > 0 || hasher.digest() !== hash) throw changed(hash);
    yield await seal(true);
  }

  #largeLocation(hash: Hash, rawBytes: number, frameBytes: number): ChunkLocation {
    const { tier } = this.#settings;
    return { hash, blob: hash, kind: 'large', frameOffset: 0, frameBytes, offsetInFrame: 0, rawBytes, tier };
  }

  /** Runs `write`, a create. @returns what is there where something was there already. */
  async #create(name: string, write: () => Promise<unknown>, signal: AbortSignal): Promise<Existing | undefined> {
    try {
      await write();
      return undefined;
    } catch (error) {
      if (!isBlobFailure(error, 'exists')) throw error;
      const existing = await this.#find(name, signal);
      if (existing) return existing;
      const problem = `the blob ${name} was deleted at the moment it was to be created`;
      throw new FirnError('FIRN_STORAGE_FAILED', { url: this.#data.url, problem }, { cause: error });
    }
  }

  async #find(name: string, signal: AbortSignal): Promise<Existing | undefined> {
    const properties = await propertiesIfThere(this.#data, name, { signal });
    if (properties === undefined) return undefined;
    const { bytes } = properties;
    const parsed = parseChunkBlob({ name, ...properties });
    if (parsed.is !== 'legacy-thin') return { ...parsed, bytes };
    const { body } = await this.#data.read(name, { signal });
    return { ...parseChunkBlob({ name, ...properties }, body), bytes };
  }

  /** A large chunk whose name is taken: by itself, or by the pointer to a tar chunk that holds it. */
  async #adoptLarge(hash: Hash, rawBytes: number, existing: Existing, signal: AbortSignal): Promise<StoredChunks> {
    const name = chunkBlobName(hash);
    if (existing.is !== 'large' && existing.is !== 'thin') throw notOurs(name, existing);
    let { location } = existing;
    if (location.rawBytes !== rawBytes) {
      throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem: 'its metadata does not fit its name' });
    }
    if (existing.is === 'large') return { locations: [location], storedBytes: existing.bytes, alreadyThere: true };
    const parentName = chunkBlobName(location.blob);
    const parent = await this.#find(parentName, signal);
    if (parent === undefined) throw new FirnError('FIRN_BLOB_MISSING', { blob: parentName });
    if (parent.is !== 'tar') throw notOurs(parentName, parent);
    location = { ...location, tier: parent.tar.tier };
    return { locations: [location], storedBytes: 0, alreadyThere: true };
  }

  /** @returns bytes on storage. */
  async #storePointers(tarHash: Hash, locations: readonly ChunkLocation[], signal: AbortSignal): Promise<number> {
    if (this.#settings.thinChunks === 'packed') return await this.#storePacked(tarHash, locations, signal);
    const store = (location: ChunkLocation) => this.#storeThin(location, signal);
    await pMap(locations, store, { concurrency: THIN_BLOBS_IN_FLIGHT_MAX });
    return 0;
  }

  async #storePacked(tarHash: Hash, locations: readonly ChunkLocation[], signal: AbortSignal): Promise<number> {
    const blobs = new SealedBlobs(this.#data, this.#keys);
    const name = thinBlobName(tarHash);
    const table = LocationTable.of(locations);
    const options = { metadata: packedThinMetadata(table.count), tier: THIN_TIER, signal };
    const created = await blobs.create('thin', name, table.bytes, options);
    if (created) return created.storedBytes;
    const { body, storedBytes } = await blobs.get('thin', name, { signal });
    const there = packedThinLocations(name, LocationTable.from(name, body));
    if (!samePlaces(there, [...table.locations()])) {
      throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem: 'its pointers do not fit the tar chunk' });
    }
    return storedBytes;
  }

  /**
   * Whatever Firn has under that name stands for the same content: a pointer into another tar that is there, or a large
   * chunk. A pointer into nothing would leave the chunk without any, as soon as the index is rebuilt from the pointers.
   */
  async #storeThin(location: ChunkLocation, signal: AbortSignal): Promise<void> {
    const name = chunkBlobName(location.hash);
    const options = { metadata: thinMetadata(location), tier: THIN_TIER, signal };
    const existing = await this.#create(name, () => this.#data.create(name, Buffer.alloc(0), options), signal);
    if (existing === undefined || existing.is === 'large') return;
    if (existing.is !== 'thin') throw notOurs(name, existing);
    const { blob } = existing.location;
    if (blob === location.blob || (await this.#find(chunkBlobName(blob), signal))?.is === 'tar') return;
    const problem = `the tar chunk ${blob} that it points into is missing or damaged`;
    throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem });
  }
}

/** The tier may have been changed since. */
function samePlaces(left: readonly ChunkLocation[], right: readonly ChunkLocation[]): boolean {
  const place = ({ hash, frameOffset, frameBytes, offsetInFrame, rawBytes }: ChunkLocation) =>
    `${hash} ${frameOffset} ${frameBytes} ${offsetInFrame} ${rawBytes}`;
  return left.length === right.length && left.every((each, i) => right[i] && place(each) === place(right[i]));
}

function notOurs(blob: string, existing: ParsedChunkBlob): FirnError {
  const problem =
    existing.is === 'damaged'
      ? existing.problem
      : existing.is === 'foreign'
        ? 'it has the name of a chunk but not the metadata of one'
        : `it is a ${existing.is} chunk where another kind belongs`;
  return new FirnError('FIRN_BLOB_DAMAGED', { blob, problem });
}

/** The writer knows no path; the caller reports the file by its own name. */
export function changed(hash: Hash): FirnError {
  return new FirnError('FIRN_FILE_CHANGING', { path: `with the chunk ${hash}`, tries: 1 });
}
