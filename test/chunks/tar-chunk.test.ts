import zlib from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { ChunkLocation } from '../../src/chunks/location.ts';
import { tarTrailer } from '../../src/chunks/tar.ts';
import { keysFromMaster, plainKeys } from '../../src/sealing/keys.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { intercept } from './intercept.ts';
import {
  expectReadable,
  hashOf,
  listed,
  noiseChunks,
  plainPayloads,
  testKeys,
  textChunks,
  unsealTar,
  untar,
  writeChunks,
} from './writing.ts';

const keys = testKeys;

describe('a tar chunk', () => {
  it('is, unsealed, what zstd and tar understand, with members that hash to their names', async () => {
    const store = createMemoryBlobStore();
    const chunks = textChunks([0, 1, 512, 3000, 5000, 700, 2000]);
    const { locations } = await writeChunks(store, chunks, {}, plainKeys);
    const { body } = await store.read(`chunks/${locations[0]!.blob}`);
    const payloads = plainPayloads(body);
    expect(payloads.length).toBeGreaterThan(2);
    // Each payload is one whole zstd frame, so that joined they are a zstd stream (RFC 8878, section 3). Node's own
    // decompressor stops after the first frame, so they are unpacked one by one here.
    for (const payload of payloads) expect(payload.readUInt32LE(0)).toBe(0xfd2fb528);
    const members = await untar(Buffer.concat(payloads.map((payload) => zlib.zstdDecompressSync(payload))));
    expect(members.map(({ header }) => header.name)).toEqual(chunks.map((chunk) => plainKeys.hash(chunk)));
    for (const { header, bytes } of members) expect(plainKeys.hash(bytes)).toBe(header.name);
  });

  it('ends with the two zero blocks of an archive, in its last frame', async () => {
    const store = createMemoryBlobStore();
    const { locations } = await writeChunks(store, textChunks([3000, 3000, 3000]));
    const archive = await unsealTar(store, locations[0]!.blob);
    expect(archive.subarray(-1024).equals(tarTrailer)).toBe(true);
    expect(archive.length).toBe(3 * (512 + 3072) + 1024);
    expect(new Set(locations.map(({ frameOffset }) => frameOffset)).size).toBe(3);
  });

  it('is the same, name and raw bytes, whenever the same chunks come in the same order', async () => {
    const chunks = [...textChunks([100, 4000, 20, 3000]), ...noiseChunks([5000, 1000])];
    const stores = [createMemoryBlobStore(), createMemoryBlobStore()];
    const [first, second] = await Promise.all(stores.map((store) => writeChunks(store, chunks)));
    expect(second!.locations).toEqual(first!.locations);
    const tarHash = first!.locations[0]!.blob;
    const raw = await Promise.all(stores.map((store) => unsealTar(store, tarHash)));
    expect(raw[1]!.equals(raw[0]!)).toBe(true);
  });

  it('has another name when the order or the keys are others', async () => {
    const chunks = textChunks([100, 200]);
    const name = async (of: Buffer[], withKeys = keys) =>
      (await writeChunks(createMemoryBlobStore(), of, {}, withKeys)).locations[0]!.blob;
    const names = [
      await name(chunks),
      await name([...chunks].reverse()),
      await name(chunks.slice(0, 1)),
      await name(chunks, keysFromMaster(Buffer.alloc(32, 9))),
    ];
    expect(new Set(names).size).toBe(4);
  });

  it('is named by the hash that the format says', async () => {
    const chunk = Buffer.from('content');
    const { locations } = await writeChunks(createMemoryBlobStore(), [chunk]);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(7n);
    const list = Buffer.concat([Buffer.from('firn tar v1\n'), Buffer.from(hashOf(chunk), 'hex'), length]);
    expect(locations[0]!.blob).toBe(hashOf(list));
  });

  it('ends before it has more raw bytes than it may, and soon after it has as many stored ones as it should', async () => {
    const compressible = createMemoryBlobStore();
    // Eighteen members of seven blocks and the end of the archive are 65,536 bytes: one too many.
    await writeChunks(compressible, textChunks(Array(100).fill(3000)), { tarRawBytesMax: 65_535 });
    const tars = await listed(compressible, 'chunks/');
    const rawBytes = tars.map(({ metadata }) => Number(metadata.firn_raw_bytes));
    expect(Math.max(...rawBytes)).toBe(17 * 3584 + 1024);
    expect(tars.length).toBeLessThan(8);

    const incompressible = createMemoryBlobStore();
    const chunks = noiseChunks(Array(100).fill(3000));
    const { locations } = await writeChunks(incompressible, chunks, { tarRawBytesMax: 1 << 20 });
    const stored = (await listed(incompressible, 'chunks/')).map(({ bytes }) => bytes);
    expect(stored.length).toBeGreaterThan(7);
    expect(Math.max(...stored)).toBeLessThan(40 * 1024);
    await expectReadable(incompressible, chunks, locations);
  });

  it('ends where it ends however slow storage and compression are', async () => {
    const chunks = [...noiseChunks(Array(40).fill(2000)), ...textChunks(Array(40).fill(2000))];
    const slow = intercept(createMemoryBlobStore(), {
      async create(next, ...args) {
        await new Promise((resolve) => setImmediate(resolve));
        return await next(...args);
      },
    });
    const quick = await writeChunks(createMemoryBlobStore(), chunks, { tarRawBytesMax: 1 << 20 });
    const patient = await writeChunks(slow, chunks, { tarRawBytesMax: 1 << 20, uploadsInFlightMax: 1 });
    const tars = (locations: readonly ChunkLocation[]) => [...new Set(locations.map(({ blob }) => blob))].sort();
    expect(tars(patient.locations).length).toBeGreaterThan(2);
    expect(tars(patient.locations)).toEqual(tars(quick.locations));
  });

  it('has metadata that the service takes, however many frames its settings give', async () => {
    const store = createMemoryBlobStore();
    const chunks = textChunks(Array(1200).fill(100));
    const sizes = { frameRawBytesTarget: 512, tarRawBytesMax: 1 << 30, tarStoredBytesTarget: 1 << 30 };
    const { locations } = await writeChunks(store, chunks, sizes);
    for (const { metadata } of await listed(store, 'chunks/')) {
      expect(JSON.stringify(metadata).length).toBeLessThan(4096);
    }
    await expectReadable(store, chunks, locations);
  });
});
