import { describe, expect, it } from 'vitest';
import { LocationTable } from '../../src/chunks/location.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { intercept } from './intercept.ts';
import {
  byHash,
  expectReadable,
  hashOf,
  listed,
  locationsOnStorage,
  noiseChunks,
  testKeys,
  textChunks,
  writeChunks,
} from './writing.ts';

const keys = testKeys;

describe('a writer that finds its blobs there already', () => {
  const chunks = [...textChunks([100, 3000, 4000, 50]), ...noiseChunks([9000])];

  it.each(['packed', 'blob'] as const)('succeeds, and reports what lies there (%s)', async (thinChunks) => {
    const store = createMemoryBlobStore();
    const first = await writeChunks(store, chunks, { thinChunks });
    const before = await listed(store);
    const second = await writeChunks(store, chunks, { thinChunks });
    expect(second.locations).toEqual(first.locations);
    expect(second.totals).toEqual({ ...first.totals, alreadyThere: 2 });
    expect(await listed(store)).toEqual(before);
  });

  it.each<['packed' | 'blob', boolean]>([
    ['packed', false],
    ['packed', true],
    ['blob', false],
    ['blob', true],
  ])(
    'goes by their frames and not its own where it compresses otherwise (%s, pointers lost: %s)',
    async (thinChunks, lost) => {
      const store = createMemoryBlobStore();
      const first = await writeChunks(store, chunks, { thinChunks, compressionLevel: 1, tier: 'Archive' });
      if (lost) {
        for (const { name, metadata } of await listed(store))
          if (metadata.firn_type === 'thin') await store.delete(name);
      }
      const own = await writeChunks(createMemoryBlobStore(), chunks, { thinChunks, compressionLevel: 19 });
      expect(own.locations.map(({ frameBytes }) => frameBytes)).not.toEqual(
        first.locations.map(({ frameBytes }) => frameBytes),
      );
      const second = await writeChunks(store, chunks, { thinChunks, compressionLevel: 19 });
      expect(second.locations).toEqual(first.locations);
      expect(byHash(await locationsOnStorage(store))).toEqual(byHash(first.locations));
    },
  );

  it('takes the pointer for a large chunk whose name it has, when the tar is there', async () => {
    const store = createMemoryBlobStore();
    const [chunk] = textChunks([3000]);
    const first = await writeChunks(store, [chunk!], { thinChunks: 'blob' });
    const second = await writeChunks(store, [chunk!], { largeChunkBytesMin: 1000 });
    expect(second.locations).toEqual(first.locations);
    await store.delete(`chunks/${first.locations[0]!.blob}`);
    const third = writeChunks(store, [chunk!], { largeChunkBytesMin: 1000 });
    await expect(third).rejects.toThrow(expect.objectContaining({ code: 'FIRN_BLOB_MISSING' }));
  });

  it('takes a large chunk, or a pointer into another tar, for the pointer it would write', async () => {
    const store = createMemoryBlobStore();
    const [one, two, three] = textChunks([3000, 200, 300]);
    await writeChunks(store, [one!], { largeChunkBytesMin: 1000 });
    await writeChunks(store, [two!], { thinChunks: 'blob' });
    const { locations } = await writeChunks(store, [one!, two!, three!], { thinChunks: 'blob' });
    await expectReadable(store, [one!, two!, three!], locations);
  });

  it.each([0, 4])('refuses a blob that is not its own (chunk %i)', async (i) => {
    const store = createMemoryBlobStore();
    const { of } = await writeChunks(createMemoryBlobStore(), chunks);
    const name = `chunks/${of(chunks[i]!).blob}`;
    await store.create(name, Buffer.from('something else'));
    const refused = expect.objectContaining({
      code: 'FIRN_BLOB_DAMAGED',
      details: expect.objectContaining({ blob: name }),
    });
    await expect(writeChunks(store, chunks)).rejects.toThrow(refused);
    expect((await store.read(name)).body.toString()).toBe('something else');
  });

  it('refuses a blob that is not its own in the place of a pointer', async () => {
    const store = createMemoryBlobStore();
    const name = `chunks/${hashOf(chunks[1]!)}`;
    await store.create(name, Buffer.from('something else'));
    const refused = expect.objectContaining({
      code: 'FIRN_BLOB_DAMAGED',
      details: expect.objectContaining({ blob: name }),
    });
    await expect(writeChunks(store, chunks, { thinChunks: 'blob' })).rejects.toThrow(refused);
  });

  it('refuses pointers that do not fit the tar chunk', async () => {
    const store = createMemoryBlobStore();
    const { locations } = await writeChunks(createMemoryBlobStore(), chunks.slice(0, 2));
    const wrong = LocationTable.of(locations.map((location) => ({ ...location, frameOffset: 7 })));
    await new SealedBlobs(store, keys).create('thin', `thin/${locations[0]!.blob}`, wrong.bytes);
    const refused = expect.objectContaining({ code: 'FIRN_BLOB_DAMAGED' });
    await expect(writeChunks(store, chunks.slice(0, 2))).rejects.toThrow(refused);
  });

  it('tells the caller to try again when the blob is deleted in that moment', async () => {
    const memory = createMemoryBlobStore();
    const store = intercept(memory, {
      async properties(next, name, options) {
        await memory.delete(name);
        return await next(name, options);
      },
    });
    await writeChunks(store, chunks);
    const refused = expect.objectContaining({ code: 'FIRN_STORAGE_FAILED', retryable: true });
    await expect(writeChunks(store, chunks)).rejects.toThrow(refused);
    await writeChunks(memory, chunks);
  });
});
