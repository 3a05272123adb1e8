/**
 * The data container of a repository of any number of chunks, from a seed: chunk blobs with the names, metadata and
 * lengths that archiving would have given them, and packed pointers as archiving seals them. The large and tar chunks
 * have no bodies; whoever reads one gets an error, since nothing that is measured here may.
 *
 * The mix: of a hundred chunks 90 are small files (log-normal, median 12 KiB), 8 were cut from longer files (512 KiB to
 * 4 MiB) and 2 are of 4 MiB or more. Everything compresses to a half. So a tar chunk ends at 64 MiB raw or 16 MiB stored,
 * as it does in the writer, and holds some 250 chunks.
 */
import { createHash } from 'node:crypto';
import {
  chunkBlobName,
  largeMetadata,
  packedThinMetadata,
  type TarFrame,
  THIN_TIER,
  tarMetadata,
  thinBlobName,
} from '../../src/chunks/chunk-blobs.ts';
import { chunkWriterSizes } from '../../src/chunks/chunk-writer.ts';
import { LocationTable } from '../../src/chunks/location.ts';
import { tarEntryBytes } from '../../src/chunks/tar.ts';
import { type TarMember, tarHashOf, tarLocations } from '../../src/chunks/tar-bundle.ts';
import { allRoots, rootNumberOf } from '../../src/index/root-view.ts';
import type { Hash, Keys } from '../../src/sealing/keys.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import type { BlobProperties, BlobStore } from '../../src/storage/blob-store.ts';

const KiB = 1024;
const MiB = 1024 * KiB;
const COMPRESSED_TO = 0.5;
const SEAL_BYTES = 68;

export interface GeneratedOptions {
  readonly chunks: number;
  /** All hashes begin with one of so many roots, all where undefined. */
  readonly roots?: number | undefined;
  /** Chunks in a tar chunk at most; as many as fit where undefined. */
  readonly membersMax?: number | undefined;
}

export interface Generated {
  readonly large: number;
  readonly tars: number;
  readonly rawBytes: number;
}

/** The hash of the n-th chunk. Numbers beyond those that were generated are chunks that are new. */
export function chunkHash(n: number, roots = allRoots.length): Hash {
  const hash = createHash('sha256').update(`generated chunk ${n}`).digest('hex');
  const root = allRoots[rootNumberOf(hash) % roots] ?? '';
  return root + hash.slice(root.length);
}

/** Numbers in [0, 1) from a seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function rawBytesFrom(random: () => number): number {
  const kind = random();
  if (kind < 0.02) return Math.floor(4 * MiB + random() * 4 * MiB);
  if (kind < 0.1) return Math.floor(Math.min(512 * KiB - Math.log(1 - random()) * 600 * KiB, 4 * MiB - 1));
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return Math.max(1, Math.floor(Math.min(12 * KiB * Math.exp(1.5 * normal), 512 * KiB)));
}

/** Writes the chunk blobs. The store is to be read through `withoutBodies`. */
export async function generateChunkBlobs(store: BlobStore, keys: Keys, options: GeneratedOptions): Promise<Generated> {
  const { chunks, roots, membersMax = Number.POSITIVE_INFINITY } = options;
  const { largeChunkBytesMin, tarRawBytesMax, tarStoredBytesTarget } = chunkWriterSizes;
  const sealed = new SealedBlobs(store, keys);
  const random = randomFrom(chunks);
  const generated = { large: 0, tars: 0, rawBytes: 0 };
  const noBody = new Uint8Array();
  let members: TarMember[] = [];
  let tarBytes = 0;

  const closeTar = async () => {
    if (members.length === 0) return;
    const hash = tarHashOf(keys, members);
    const frames = framesOf(members);
    const table = LocationTable.of(tarLocations(hash, members, frames, 'Hot'));
    await store.create(chunkBlobName(hash), noBody, { metadata: tarMetadata(tarBytes, frames), tier: 'Hot' });
    const metadata = packedThinMetadata(table.count);
    await sealed.create('thin', thinBlobName(hash), table.bytes, { metadata, tier: THIN_TIER });
    generated.tars += 1;
    members = [];
    tarBytes = 0;
  };

  for (let n = 0; n < chunks; n += 1) {
    const hash = chunkHash(n, roots);
    const rawBytes = rawBytesFrom(random);
    generated.rawBytes += rawBytes;
    if (rawBytes >= largeChunkBytesMin) {
      const metadata = largeMetadata(rawBytes, storedBytesOf(rawBytes));
      await store.create(chunkBlobName(hash), noBody, { metadata, tier: 'Hot' });
      generated.large += 1;
      continue;
    }
    const bytes = tarBytes + tarEntryBytes(rawBytes);
    if (bytes > tarRawBytesMax || storedBytesOf(bytes) > tarStoredBytesTarget || members.length >= membersMax) {
      await closeTar();
    }
    members.push({ hash, rawBytes });
    tarBytes += tarEntryBytes(rawBytes);
  }
  await closeTar();
  return generated;
}

function storedBytesOf(rawBytes: number): number {
  return Math.ceil(rawBytes * COMPRESSED_TO) + SEAL_BYTES;
}

/** Members in frames of about 1 MiB raw. */
function framesOf(members: readonly TarMember[]): TarFrame[] {
  const frames: TarFrame[] = [];
  let open = { members: 0, rawBytes: 0 };
  const cut = () => {
    if (open.members > 0) frames.push({ members: open.members, storedBytes: storedBytesOf(open.rawBytes) });
    open = { members: 0, rawBytes: 0 };
  };
  for (const { rawBytes } of members) {
    const entryBytes = tarEntryBytes(rawBytes);
    if (open.rawBytes + entryBytes > chunkWriterSizes.frameRawBytesTarget) cut();
    open.members += 1;
    open.rawBytes += entryBytes;
  }
  cut();
  return frames;
}

/** The generated store as everybody else sees it: large and tar chunks have the length that they were written with. */
export function withoutBodies(store: BlobStore): BlobStore {
  const isHollow = ({ metadata }: BlobProperties) => metadata.firn_stored_bytes !== undefined;
  const asWritten = <T extends BlobProperties>(blob: T): T =>
    isHollow(blob) ? { ...blob, bytes: Number(blob.metadata.firn_stored_bytes) } : blob;
  return {
    ...store,
    async *list(options) {
      for await (const item of store.list(options)) yield asWritten(item);
    },
    async properties(name, options) {
      return asWritten(await store.properties(name, options));
    },
    async read(name, options) {
      const content = await store.read(name, options);
      if (isHollow(content.properties)) throw new Error(`${name} was read; nothing but an archive's reader needs to`);
      return content;
    },
  };
}
