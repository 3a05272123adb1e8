/** Writing and unpacking chunks, for the tests of this folder. */
import { Readable } from 'node:stream';
import tar from 'tar-stream';
import { expect } from 'vitest';
import { type ListedChunkBlob, packedThinLocations, parseChunkBlob } from '../../src/chunks/chunk-blobs.ts';
import { createChunkReader } from '../../src/chunks/chunk-reader.ts';
import { type ChunkWriterSettings, createChunkWriter } from '../../src/chunks/chunk-writer.ts';
import { type ChunkLocation, LocationTable } from '../../src/chunks/location.ts';
import { openFrames } from '../../src/sealing/frame.ts';
import { type Hash, type Keys, keysFromMaster } from '../../src/sealing/keys.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import type { BlobItem, BlobStore } from '../../src/storage/blob-store.ts';
import { pseudoRandomBytes } from './bytes.ts';

export const testKeys = keysFromMaster(Buffer.alloc(32, 6));

/** Everything a thousand times smaller than in life. */
export const smallSizes: ChunkWriterSettings = {
  largeChunkBytesMin: 8192,
  tarStoredBytesTarget: 32 * 1024,
  tarRawBytesMax: 64 * 1024,
  frameRawBytesTarget: 4096,
  compressionLevel: 3,
  tier: 'Hot',
  thinChunks: 'packed',
  uploadsInFlightMax: 2,
};

export async function writeChunks(
  store: BlobStore,
  chunks: readonly Buffer[],
  settings: Partial<ChunkWriterSettings> = {},
  keys: Keys = testKeys,
) {
  const locations: ChunkLocation[] = [];
  const writer = createChunkWriter(store, keys, { ...smallSizes, ...settings }, (stored) => locations.push(...stored));
  for (const chunk of chunks) await writer.add(keys.hash(chunk), chunk);
  const totals = await writer.finish();
  const byHash = new Map(locations.map((location) => [location.hash, location]));
  return { locations, totals, of: (chunk: Buffer) => byHash.get(keys.hash(chunk))! };
}

/** Chunks of these lengths; compressible ones, of other content each. */
export function textChunks(lengths: readonly number[], seed = 0): Buffer[] {
  return lengths.map((bytes, i) => Buffer.alloc(bytes, `chunk ${seed} ${i} `));
}

export function noiseChunks(lengths: readonly number[], seed = 0): Buffer[] {
  return lengths.map((bytes, i) => pseudoRandomBytes(seed * 1000 + i, bytes));
}

/** The unsealed payloads of a tar chunk's frames, joined: what a zstd and a tar of any other make understand. */
export async function unsealTar(store: BlobStore, tarHash: Hash, keys: Keys = testKeys): Promise<Buffer> {
  const name = `chunks/${tarHash}`;
  const { body } = await store.read(name);
  return Buffer.concat(await Array.fromAsync(openFrames(keys, { kind: 'tar', name }, [body])));
}

export async function untar(archive: Buffer): Promise<{ header: tar.Header; bytes: Buffer }[]> {
  const extract = tar.extract();
  Readable.from([archive]).pipe(extract);
  const members: { header: tar.Header; bytes: Buffer }[] = [];
  for await (const entry of extract) {
    members.push({ header: entry.header, bytes: Buffer.concat(await Array.fromAsync(entry as AsyncIterable<Buffer>)) });
  }
  return members;
}

/** The payloads of an unencrypted tar chunk, cut out of their frames by hand as docs/format.md describes them. */
export function plainPayloads(blob: Buffer): Buffer[] {
  const payloads: Buffer[] = [];
  for (let at = 0; at < blob.length; ) {
    const payloadBytes = blob.readUInt32LE(at + 16);
    payloads.push(blob.subarray(at + 52, at + 52 + payloadBytes));
    at += 52 + payloadBytes + 32;
  }
  return payloads;
}

const keys = testKeys;
export const hashOf = (bytes: Buffer) => keys.hash(bytes);

export async function listed(store: BlobStore, prefix = ''): Promise<BlobItem[]> {
  return Array.fromAsync(store.list({ prefix }));
}

export async function* piecesOf(...pieces: Buffer[]): AsyncGenerator<Buffer> {
  yield* pieces;
}

export async function expectReadable(store: BlobStore, chunks: readonly Buffer[], locations: readonly ChunkLocation[]) {
  const reader = createChunkReader(store, keys, { cacheBytesMax: 0 });
  const byHash = new Map(locations.map((location) => [location.hash, location]));
  for (const chunk of chunks) expect((await reader.read(byHash.get(hashOf(chunk))!)).equals(chunk)).toBe(true);
}

/** What repair would find: every location that the blobs themselves tell of. */
export async function locationsOnStorage(store: BlobStore): Promise<ChunkLocation[]> {
  const found: ChunkLocation[] = [];
  for (const item of await listed(store, 'chunks/')) {
    const parsed = parseChunkBlob(item as ListedChunkBlob);
    if (parsed.is === 'large' || parsed.is === 'thin') found.push(parsed.location);
    else expect(parsed.is).toBe('tar');
  }
  for (const { name } of await listed(store, 'thin/')) {
    const { body } = await new SealedBlobs(store, keys).get('thin', name);
    found.push(...packedThinLocations(name, LocationTable.from(name, body)));
  }
  return found;
}

export const byHash = (locations: readonly ChunkLocation[]) =>
  [...locations].sort((a, b) => (a.hash < b.hash ? -1 : 1));
