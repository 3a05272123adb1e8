/**
 * Sealed blobs that fit into memory: metadata of the repository (filetrees, snapshots, shards, receipts, plans, heads).
 * Bodies are cut into frames of 1 MiB raw; an empty body is one empty frame. A body has a limit, on the way out and on the
 * way in, so that a few frames that decompress to much take no more memory than the blobs that Firn writes.
 *
 * A blob whose seal is broken is read once more before that is believed: it may have been damaged on the way only, and some
 * of those who ask remove what is damaged.
 */
import { FirnError, isFirnError } from '../errors.ts';
import {
  type BlobContent,
  type BlobStore,
  type CallOptions,
  isBlobFailure,
  type WriteOptions,
} from '../storage/blob-store.ts';
import {
  compressFrame,
  FRAME_RAW_BYTES_TARGET,
  FrameSealer,
  openFrames,
  type SealedKind,
  type SealedName,
} from './frame.ts';
import type { Keys } from './keys.ts';

/** zstd's own default; metadata is small and written once. */
const METADATA_LEVEL = 3;

/** The largest are the pointers of a tar chunk with 65,536 chunks, 6 MiB, and a shard that is about to split. */
const BODY_BYTES_MAX = 64 * 1024 * 1024;
/** A receipt names the new chunks of a whole folder, 96 bytes each. */
const RECEIPT_INDEX_BYTES_MAX = 1024 * 1024 * 1024;

const READS_MAX = 2;

function bodyBytesMax(kind: SealedKind): number {
  return kind === 'receipt-index' ? RECEIPT_INDEX_BYTES_MAX : BODY_BYTES_MAX;
}

/** Seals a body into the bytes of a blob. */
export async function sealBytes(keys: Keys, blob: SealedName, body: Uint8Array): Promise<Buffer> {
  if (body.length > bodyBytesMax(blob.kind)) {
    throw new FirnError('FIRN_INTERNAL', { problem: `the blob ${blob.name} would have ${body.length} bytes` });
  }
  const sealer = new FrameSealer(keys, blob);
  const sealed: Buffer[] = [];
  let offset = 0;
  do {
    const raw = body.subarray(offset, offset + FRAME_RAW_BYTES_TARGET);
    offset += FRAME_RAW_BYTES_TARGET;
    const frame = await compressFrame(raw, { level: METADATA_LEVEL, encoding: 'auto' });
    sealed.push(sealer.seal(frame, { final: offset >= body.length }));
  } while (offset < body.length);
  return Buffer.concat(sealed);
}

/** Opens what `sealBytes` made. @throws FIRN_SEAL_BROKEN, FIRN_REPOSITORY_NEWER. */
export async function openBytes(keys: Keys, blob: SealedName, sealed: Buffer): Promise<Buffer> {
  const raw: Buffer[] = [];
  let left = bodyBytesMax(blob.kind);
  for await (const frame of openFrames(keys, blob, [sealed])) {
    left -= frame.length;
    if (left < 0) {
      const problem = 'it has more bytes than any blob of its kind';
      throw new FirnError('FIRN_SEAL_BROKEN', { blob: blob.name, problem });
    }
    raw.push(frame);
  }
  return raw.length === 1 && raw[0] ? raw[0] : Buffer.concat(raw);
}

export interface SealedContent {
  readonly body: Buffer;
  readonly etag: string;
  /** Bytes on storage. */
  readonly storedBytes: number;
}

/** Of a blob whose seal is broken, with its ETag: it can be replaced or removed in this version. */
export interface BrokenSeal {
  readonly etag: string;
  readonly error: FirnError;
}

/** A container seen through the keys of its repository. */
export class SealedBlobs {
  readonly store: BlobStore;
  readonly #keys: Keys;

  constructor(store: BlobStore, keys: Keys) {
    this.store = store;
    this.#keys = keys;
  }

  /** The bytes of a blob that holds this body under this name. */
  async seal(kind: SealedKind, name: string, body: Uint8Array): Promise<Buffer> {
    return await sealBytes(this.#keys, { kind, name }, body);
  }

  /** Opens the bytes of a blob of this name, wherever they come from. @throws FIRN_SEAL_BROKEN, FIRN_REPOSITORY_NEWER. */
  async open(kind: SealedKind, name: string, sealed: Buffer): Promise<Buffer> {
    return await openBytes(this.#keys, { kind, name }, sealed);
  }

  /**
   * Creates a blob that is not there yet.
   * @returns its ETag and the bytes stored, or undefined when a blob of that name was there already.
   */
  async create(
    kind: SealedKind,
    name: string,
    body: Uint8Array,
    options?: WriteOptions,
  ): Promise<{ etag: string; storedBytes: number } | undefined> {
    const sealed = await sealBytes(this.#keys, { kind, name }, body);
    try {
      const { etag } = await this.store.create(name, sealed, options);
      return { etag, storedBytes: sealed.length };
    } catch (error) {
      if (isBlobFailure(error, 'exists')) return undefined;
      throw error;
    }
  }

  /** Replaces the blob with this ETag. @returns undefined when it changed or vanished since. */
  async replace(
    kind: SealedKind,
    name: string,
    body: Uint8Array,
    options: WriteOptions & { ifMatch: string },
  ): Promise<{ etag: string; storedBytes: number } | undefined> {
    const sealed = await sealBytes(this.#keys, { kind, name }, body);
    try {
      const { etag } = await this.store.replace(name, sealed, options);
      return { etag, storedBytes: sealed.length };
    } catch (error) {
      if (isBlobFailure(error, 'changed', 'missing')) return undefined;
      throw error;
    }
  }

  /**
   * @returns undefined when there is none.
   * @throws FIRN_SEAL_BROKEN when it is not what was sealed under this name, FIRN_BLOB_OFFLINE.
   */
  async find(kind: SealedKind, name: string, options?: CallOptions): Promise<SealedContent | undefined> {
    const found = await this.inspect(kind, name, options);
    if (found !== undefined && 'error' in found) throw found.error;
    return found;
  }

  /** The same where a broken seal (FIRN_SEAL_BROKEN) is an answer. @throws FIRN_REPOSITORY_NEWER, FIRN_BLOB_OFFLINE. */
  async inspect(
    kind: SealedKind,
    name: string,
    options?: CallOptions,
  ): Promise<SealedContent | BrokenSeal | undefined> {
    for (let reads = 1; ; reads += 1) {
      const found = await this.findSealed(name, options);
      if (found === undefined) return undefined;
      const { body, properties } = found;
      const { etag } = properties;
      try {
        return { body: await this.open(kind, name, body), etag, storedBytes: body.length };
      } catch (error) {
        if (!isFirnError(error, 'FIRN_SEAL_BROKEN')) throw error;
        if (reads === READS_MAX) return { etag, error };
      }
    }
  }

  /** The bytes as they lie on storage; undefined when there are none. @throws FIRN_BLOB_OFFLINE. */
  async findSealed(name: string, options?: CallOptions): Promise<BlobContent | undefined> {
    try {
      return await this.store.read(name, options);
    } catch (error) {
      if (isBlobFailure(error, 'missing')) return undefined;
      if (isBlobFailure(error, 'offline')) throw new FirnError('FIRN_BLOB_OFFLINE', { blob: name }, { cause: error });
      throw error;
    }
  }

  /** The same where the blob must be there. @throws FIRN_BLOB_MISSING, FIRN_BLOB_OFFLINE, FIRN_SEAL_BROKEN. */
  async get(kind: SealedKind, name: string, options?: CallOptions): Promise<SealedContent> {
    const content = await this.find(kind, name, options);
    if (content === undefined) throw new FirnError('FIRN_BLOB_MISSING', { blob: name });
    return content;
  }
}
