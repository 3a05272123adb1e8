import { describe, expect, it } from 'vitest';
import { createChunkWriter } from '../../src/chunks/chunk-writer.ts';
import type { ChunkLocation } from '../../src/chunks/location.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { intercept } from './intercept.ts';
import {
  expectReadable,
  hashOf,
  listed,
  locationsOnStorage,
  noiseChunks,
  piecesOf,
  smallSizes,
  testKeys,
  textChunks,
  writeChunks,
} from './writing.ts';

const keys = testKeys;

describe('a streamed chunk', () => {
  const content = Buffer.concat(noiseChunks([10_000, 3]).concat(textChunks([20_000])));
  const write = async (
    store: BlobStore,
    pieces: AsyncIterable<Buffer>,
    rawBytes = content.length,
    hash = hashOf(content),
  ) => {
    const locations: ChunkLocation[] = [];
    const writer = createChunkWriter(store, keys, smallSizes, (stored) => locations.push(...stored));
    const adding = await writer.addStreamed(hash, rawBytes, pieces).then(
      () => undefined,
      (error) => error,
    );
    const reportedAtOnce = locations.length;
    return { error: adding, reportedAtOnce, totals: await writer.finish(), locations };
  };

  it.each([1, 777, 4096, 4097, 100_000])('comes back from pieces of %i bytes', async (pieceBytes) => {
    const pieces: Buffer[] = [];
    for (let at = 0; at < content.length; at += pieceBytes) pieces.push(content.subarray(at, at + pieceBytes));
    const store = createMemoryBlobStore();
    const { error, reportedAtOnce, locations, totals } = await write(store, piecesOf(...pieces));
    expect(error).toBeUndefined();
    expect(reportedAtOnce).toBe(1);
    await expectReadable(store, [content], locations);
    expect(await locationsOnStorage(store)).toEqual(locations);
    expect(totals).toMatchObject({ newChunks: 1, storedBytes: locations[0]!.frameBytes });
  });

  it('has the very bytes that it would have had in memory, once opened', async () => {
    const streamed = createMemoryBlobStore();
    await write(streamed, piecesOf(content));
    const held = createMemoryBlobStore();
    await writeChunks(held, [content]);
    const [a, b] = await Promise.all([streamed, held].map((store) => store.read(`chunks/${hashOf(content)}`)));
    expect(a!.body.length).toBe(b!.body.length);
  });

  it.each<[string, AsyncIterable<Buffer>]>([
    ['other bytes', piecesOf(Buffer.alloc(content.length))],
    ['fewer bytes', piecesOf(content.subarray(1))],
    ['more bytes', piecesOf(content, Buffer.from('x'))],
    ['no bytes', piecesOf()],
  ])('whose source has %s leaves no blob, and the writer goes on', async (_what, pieces) => {
    const store = createMemoryBlobStore();
    const { error, locations, totals } = await write(store, pieces);
    expect(error).toMatchObject({ code: 'FIRN_FILE_CHANGING' });
    expect(locations).toEqual([]);
    expect(totals.newChunks).toBe(0);
    expect(await listed(store)).toEqual([]);
  });

  it('whose source fails rejects with that failure, leaves no blob, and the writer goes on', async () => {
    const failure = new Error('The disk is gone.');
    async function* pieces() {
      yield content.subarray(0, 9000);
      throw failure;
    }
    const store = createMemoryBlobStore();
    const { error, totals } = await write(store, pieces());
    expect(error).toBe(failure);
    expect(totals.newChunks).toBe(0);
    expect(await listed(store)).toEqual([]);
  });

  it('makes the writer fail when storage does', async () => {
    const failure = new Error('The network is gone.');
    const store = intercept(createMemoryBlobStore(), {
      createFromStream: () => Promise.reject(failure),
    });
    await expect(write(store, piecesOf(content))).rejects.toBe(failure);
  });

  it('is left unread where it is there already', async () => {
    const store = createMemoryBlobStore();
    const first = await write(store, piecesOf(content));
    async function* pieces(): AsyncGenerator<Buffer> {
      yield await Promise.reject(new Error('It was read.'));
    }
    const second = await write(store, pieces());
    expect(second.locations).toEqual(first.locations);
    expect(second.totals.alreadyThere).toBe(1);
  });

  it('goes by the other blob when another writer was faster', async () => {
    const memory = createMemoryBlobStore();
    const racing = intercept(memory, {
      async createFromStream(next, ...args) {
        await writeChunks(memory, [content], { compressionLevel: 19 });
        return await next(...args);
      },
    });
    const { locations } = await write(racing, piecesOf(content));
    expect(locations).toEqual(await locationsOnStorage(memory));
    await expectReadable(memory, [content], locations);
  });

  it('that is short is bundled like any other', async () => {
    const store = createMemoryBlobStore();
    const [short] = textChunks([5000]);
    const { locations, reportedAtOnce } = await write(
      store,
      piecesOf(short!.subarray(0, 9), short!.subarray(9)),
      5000,
      hashOf(short!),
    );
    expect(reportedAtOnce).toBe(0);
    expect(locations).toMatchObject([{ kind: 'tar' }]);
    await expectReadable(store, [short!], locations);
    const { error } = await write(createMemoryBlobStore(), piecesOf(Buffer.alloc(5000)), 5000, hashOf(short!));
    expect(error).toMatchObject({ code: 'FIRN_FILE_CHANGING' });
  });
});
