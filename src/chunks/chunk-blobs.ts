/**
 * The names and the metadata of chunk blobs: what the writer puts there, and what repair learns from a listing alone.
 * Pure functions; nothing here touches storage.
 *
 *     firn_type          large | tar | thin
 *     firn_format        1
 *     firn_raw_bytes     large, thin: length of the chunk; tar: length of the tar stream
 *     firn_stored_bytes  large (where it was known before it was written), tar: bytes of the blob
 *     firn_members       tar, packed thin: number of chunks
 *     firn_frames        tar: «members:bytes» of each frame, joined by commas; bytes are the sealed ones
 *     firn_parent        thin: the tar hash; absent in the legacy form, whose body is the tar hash in hex
 *     firn_parent_tier   thin: tier the tar was written to
 *     firn_frame_offset, firn_frame_bytes, firn_offset
 *                        thin: the frame in the tar chunk, and the offset of the chunk in the raw bytes of the frame
 *
 * Numbers are decimal. `firn_frames` is what lets a writer that finds its tar there already point into it, even when the
 * tar lies offline and even when another zstd made its frames of other lengths.
 */
import { FirnError } from '../errors.ts';
import { FRAME_RAW_BYTES_MAX } from '../sealing/frame.ts';
import { type Hash, isHash } from '../sealing/keys.ts';
import { type BlobItem, type BlobMetadata, type Tier, tiers } from '../storage/blob-store.ts';
import type { ChunkLocation, LocationTable } from './location.ts';

export const CHUNKS_PREFIX = 'chunks/';
export const THIN_PREFIX = 'thin/';
export const CHUNK_BLOB_FORMAT = 1;
/** Pointers are read by repair alone, and whenever it has to run: not in the Archive tier, and cheaply kept. */
export const THIN_TIER: Tier = 'Cool';

/** Where a large or tar chunk with this hash is, and a thin one of its own. */
export function chunkBlobName(hash: Hash): string {
  return CHUNKS_PREFIX + hash;
}

/** Where the packed pointers of a tar chunk are. */
export function thinBlobName(tarHash: Hash): string {
  return THIN_PREFIX + tarHash;
}

function hashAfter(prefix: string, name: string): Hash | undefined {
  const hash = name.slice(prefix.length);
  return name.startsWith(prefix) && isHash(hash) ? hash : undefined;
}

/** The hash in `chunks/<hash>`, or undefined for another name. */
export function hashOfChunkBlob(name: string): Hash | undefined {
  return hashAfter(CHUNKS_PREFIX, name);
}

/** The tar hash in `thin/<tar-hash>`, or undefined for another name. */
export function tarHashOfThinBlob(name: string): Hash | undefined {
  return hashAfter(THIN_PREFIX, name);
}

/** One frame of a tar chunk. */
export interface TarFrame {
  /** Chunks in it. */
  readonly members: number;
  /** Sealed bytes on storage. */
  readonly storedBytes: number;
}

export function largeMetadata(rawBytes: number, storedBytes: number | undefined): BlobMetadata {
  return {
    firn_type: 'large',
    firn_format: String(CHUNK_BLOB_FORMAT),
    firn_raw_bytes: String(rawBytes),
    ...(storedBytes === undefined ? {} : { firn_stored_bytes: String(storedBytes) }),
  };
}

export function tarMetadata(rawBytes: number, frames: readonly TarFrame[]): BlobMetadata {
  return {
    firn_type: 'tar',
    firn_format: String(CHUNK_BLOB_FORMAT),
    firn_raw_bytes: String(rawBytes),
    firn_stored_bytes: String(sum(frames, ({ storedBytes }) => storedBytes)),
    firn_members: String(sum(frames, ({ members }) => members)),
    firn_frames: frames.map(({ members, storedBytes }) => `${members}:${storedBytes}`).join(),
  };
}

export function thinMetadata(location: ChunkLocation): BlobMetadata {
  return {
    firn_type: 'thin',
    firn_format: String(CHUNK_BLOB_FORMAT),
    firn_parent: location.blob,
    firn_parent_tier: location.tier,
    firn_frame_offset: String(location.frameOffset),
    firn_frame_bytes: String(location.frameBytes),
    firn_offset: String(location.offsetInFrame),
    firn_raw_bytes: String(location.rawBytes),
  };
}

export function packedThinMetadata(members: number): BlobMetadata {
  return { firn_type: 'thin', firn_format: String(CHUNK_BLOB_FORMAT), firn_members: String(members) };
}

export function sum<T>(items: Iterable<T>, of: (item: T) => number): number {
  let total = 0;
  for (const item of items) total += of(item);
  return total;
}

/** What of a listed blob (or of its properties) says where chunks are. */
export type ListedChunkBlob = Pick<BlobItem, 'name' | 'bytes' | 'metadata' | 'tier'>;

export interface TarChunk {
  readonly hash: Hash;
  readonly rawBytes: number;
  readonly members: number;
  readonly frames: readonly TarFrame[];
  readonly tier: Tier;
}

export type ParsedChunkBlob =
  | { readonly is: 'large'; readonly location: ChunkLocation }
  | { readonly is: 'tar'; readonly tar: TarChunk }
  | { readonly is: 'thin'; readonly location: ChunkLocation }
  /** A thin chunk whose body is its parent: parse it again with the body. */
  | { readonly is: 'legacy-thin'; readonly hash: Hash }
  /** Under `chunks/`, but not Firn's: ignored. */
  | { readonly is: 'foreign' }
  | { readonly is: 'damaged'; readonly problem: string };

class Problem extends Error {}

function numberOf(metadata: BlobMetadata, name: string): number {
  const text = metadata[name];
  if (text === undefined) throw new Problem(`its metadata lacks ${name}`);
  return parseNumber(text, name);
}

function parseNumber(text: string, name: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new Problem(`its metadata ${name} is no number`);
  return Number(text);
}

function tierOf(text: string | undefined): Tier {
  return tiers.find((tier) => tier === text) ?? 'Hot';
}

/**
 * Understands a blob under `chunks/` from what a listing says of it.
 * @param body of a legacy thin chunk, where it was read.
 */
export function parseChunkBlob(item: ListedChunkBlob, body?: Uint8Array): ParsedChunkBlob {
  const hash = hashOfChunkBlob(item.name);
  const { firn_type: type } = item.metadata;
  if (hash === undefined || type === undefined) return { is: 'foreign' };
  try {
    const format = numberOf(item.metadata, 'firn_format');
    if (format !== CHUNK_BLOB_FORMAT) throw new Problem(`it has format version ${format}`);
    if (type === 'large') return { is: 'large', location: parseLarge(hash, item) };
    if (type === 'tar') return { is: 'tar', tar: parseTar(hash, item) };
    if (type === 'thin') return parseThin(hash, item, body);
    throw new Problem(`its type «${type}» is unknown`);
  } catch (error) {
    if (error instanceof Problem) return { is: 'damaged', problem: error.message };
    throw error;
  }
}

function checkStoredBytes({ bytes, metadata }: ListedChunkBlob): void {
  if (numberOf(metadata, 'firn_stored_bytes') !== bytes)
    throw new Problem('its length is not the one it was written with');
}

function parseLarge(hash: Hash, item: ListedChunkBlob): ChunkLocation {
  if (item.metadata.firn_stored_bytes !== undefined) checkStoredBytes(item);
  return {
    hash,
    blob: hash,
    kind: 'large',
    frameOffset: 0,
    frameBytes: item.bytes,
    offsetInFrame: 0,
    rawBytes: numberOf(item.metadata, 'firn_raw_bytes'),
    tier: tierOf(item.tier),
  };
}

function parseTar(hash: Hash, item: ListedChunkBlob): TarChunk {
  checkStoredBytes(item);
  const frames = (item.metadata.firn_frames ?? '').split(',').map((text) => {
    const [members = '', storedBytes = ''] = text.split(':');
    return { members: parseNumber(members, 'firn_frames'), storedBytes: parseNumber(storedBytes, 'firn_frames') };
  });
  const members = numberOf(item.metadata, 'firn_members');
  const rawBytes = numberOf(item.metadata, 'firn_raw_bytes');
  if (sum(frames, (frame) => frame.members) !== members || sum(frames, (frame) => frame.storedBytes) !== item.bytes) {
    throw new Problem('its frames do not add up to the blob');
  }
  return { hash, rawBytes, members, frames, tier: tierOf(item.tier) };
}

function parseThin(hash: Hash, { metadata, bytes }: ListedChunkBlob, body: Uint8Array | undefined): ParsedChunkBlob {
  let parent = metadata.firn_parent;
  if (parent === undefined) {
    if (bytes === 0) throw new Problem('it names no tar chunk');
    if (body === undefined) return { is: 'legacy-thin', hash };
    parent = Buffer.from(body).toString('latin1').trim();
  }
  if (!isHash(parent)) throw new Problem('it names no tar chunk');
  const offsetInFrame = numberOf(metadata, 'firn_offset');
  if (offsetInFrame > FRAME_RAW_BYTES_MAX) throw new Problem('it points behind the end of any frame');
  const location: ChunkLocation = {
    hash,
    blob: parent,
    kind: 'tar',
    frameOffset: numberOf(metadata, 'firn_frame_offset'),
    frameBytes: numberOf(metadata, 'firn_frame_bytes'),
    offsetInFrame,
    rawBytes: numberOf(metadata, 'firn_raw_bytes'),
    tier: tierOf(metadata.firn_parent_tier),
  };
  return { is: 'thin', location };
}

/**
 * Takes the opened body of the packed pointers of one tar chunk.
 * @throws FIRN_BLOB_DAMAGED when they point anywhere but into that tar.
 */
export function checkPackedThin(name: string, table: LocationTable): void {
  const tarHash = tarHashOfThinBlob(name);
  if (tarHash === undefined || !table.isAllInTar(tarHash)) {
    throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem: 'it points into another tar chunk' });
  }
}

/** The chunks that the packed pointers of one tar chunk tell of. Throws as `checkPackedThin` does. */
export function packedThinLocations(name: string, table: LocationTable): ChunkLocation[] {
  checkPackedThin(name, table);
  return [...table.locations()];
}
