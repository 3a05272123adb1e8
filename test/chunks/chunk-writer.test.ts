import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { createChunkWriter } from '../../src/chunks/chunk-writer.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { intercept } from './intercept.ts';
import {
  byHash,
  expectReadable,
  hashOf,
  listed,
  locationsOnStorage,
  noiseChunks,
  smallSizes,
  testKeys,
  textChunks,
  writeChunks,
} from './writing.ts';

const keys = testKeys;

describe('chunks of any lengths', () => {
  it.each(['packed', 'blob'] as const)(
    'are found again where they are said to be (thin chunks: %s)',
    async (thinChunks) => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.integer({ min: 0, max: 12_000 }), { maxLength: 40 }),
          fc.boolean(),
          async (lengths, noise) => {
            const store = createMemoryBlobStore();
            const chunks = (noise ? noiseChunks : textChunks)([...new Set(lengths)]);
            const { locations, totals } = await writeChunks(store, chunks, { thinChunks });
            expect(locations.length).toBe(chunks.length);
            await expectReadable(store, chunks, locations);
            expect(byHash(await locationsOnStorage(store))).toEqual(byHash(locations));
            const stored = (await listed(store)).reduce((bytes, item) => bytes + item.bytes, 0);
            expect(totals).toMatchObject({
              newChunks: chunks.length,
              newRawBytes: chunks.reduce((bytes, chunk) => bytes + chunk.length, 0),
              storedBytes: stored,
              alreadyThere: 0,
            });
          },
        ),
        { numRuns: 40 },
      );
    },
  );

  it('store nothing when there are none', async () => {
    const store = createMemoryBlobStore();
    expect((await writeChunks(store, [])).totals).toMatchObject({ newChunks: 0, blobs: 0, storedBytes: 0 });
    expect(await listed(store)).toEqual([]);
  });

  it('are stored whole with tier and metadata: large ones alone, others bundled with pointers that stay Cool', async () => {
    const store = createMemoryBlobStore();
    const [large, ...small] = textChunks([8192, 8191, 10]);
    const { of, totals } = await writeChunks(store, [large!, ...small], { tier: 'Archive' });
    expect(of(large!)).toMatchObject({ kind: 'large', blob: hashOf(large!), tier: 'Archive' });
    expect(of(small[0]!)).toMatchObject({ kind: 'tar', tier: 'Archive' });
    expect(of(small[1]!).blob).toBe(of(small[0]!).blob);
    const items = new Map((await listed(store)).map((item) => [item.name, item]));
    expect(items.get(`chunks/${hashOf(large!)}`)).toMatchObject({ tier: 'Archive', metadata: { firn_type: 'large' } });
    expect(items.get(`chunks/${of(small[0]!).blob}`)).toMatchObject({
      tier: 'Archive',
      metadata: { firn_type: 'tar' },
    });
    expect(items.get(`thin/${of(small[0]!).blob}`)).toMatchObject({ tier: 'Cool', metadata: { firn_type: 'thin' } });
    expect(items.size).toBe(3);
    expect(totals.blobs).toBe(2);
  });

  it('have one Cool blob each as pointers where that is chosen', async () => {
    const store = createMemoryBlobStore();
    const chunks = textChunks([100, 200, 300]);
    await writeChunks(store, chunks, { thinChunks: 'blob' });
    for (const chunk of chunks) {
      const properties = await store.properties(`chunks/${hashOf(chunk)}`);
      expect(properties).toMatchObject({ bytes: 0, tier: 'Cool', metadata: { firn_type: 'thin' } });
    }
    expect(await listed(store, 'thin/')).toEqual([]);
  });
});

describe('a chunk is reported', () => {
  it.each(['packed', 'blob'] as const)('only after its blob and its pointer are durable (%s)', async (thinChunks) => {
    const memory = createMemoryBlobStore();
    const steps: string[] = [];
    const store = intercept(memory, {
      async create(next, name, body, options) {
        const result = await next(name, body, options);
        steps.push(options?.metadata?.firn_type ?? '');
        return result;
      },
    });
    const writer = createChunkWriter(store, keys, { ...smallSizes, thinChunks }, () => steps.push('reported'));
    for (const chunk of textChunks([10, 20])) await writer.add(hashOf(chunk), chunk);
    await writer.finish();
    const thin = thinChunks === 'packed' ? ['thin'] : ['thin', 'thin'];
    expect(steps).toEqual(['tar', ...thin, 'reported']);
  });

  it('never once a write has failed; every call rejects with that failure, and nothing is left dangling', async () => {
    const failure = new Error('The network is gone.');
    let creates = 0;
    const store = intercept(createMemoryBlobStore(), {
      async create(next, name, body, options) {
        creates += 1;
        if (creates === 2) throw failure;
        if (creates > 2) await new Promise((resolve) => setImmediate(resolve));
        // Too late to be cancelled: it succeeds.
        return await next(name, body, { ...options, signal: undefined });
      },
    });
    const onStored = vi.fn();
    const writer = createChunkWriter(store, keys, { ...smallSizes, uploadsInFlightMax: 8 }, onStored);
    const results = await Promise.allSettled(
      noiseChunks(Array(10).fill(9000)).map((chunk) => writer.add(hashOf(chunk), chunk)),
    );
    await expect(writer.finish()).rejects.toBe(failure);
    for (const result of results) if (result.status === 'rejected') expect(result.reason).toBe(failure);
    expect(onStored.mock.calls.length).toBeLessThanOrEqual(1);
    const reported = onStored.mock.calls.length;
    await expect(writer.add(hashOf(Buffer.alloc(1)), Buffer.alloc(1))).rejects.toThrow();
    await writer.abort();
    expect(onStored.mock.calls.length).toBe(reported);
  });

  it('not when it becomes durable after another has failed', async () => {
    const failure = new Error('The network is gone.');
    const [slow, failing] = noiseChunks([9000, 9000]) as [Buffer, Buffer];
    const gate = Promise.withResolvers<void>();
    const store = intercept(createMemoryBlobStore(), {
      async create(next, name, body, options) {
        if (name.endsWith(hashOf(failing))) throw failure;
        await gate.promise;
        return await next(name, body, { ...options, signal: undefined });
      },
    });
    const onStored = vi.fn();
    const writer = createChunkWriter(store, keys, smallSizes, onStored);
    await writer.add(hashOf(slow), slow);
    await writer.add(hashOf(failing), failing);
    await vi.waitFor(() => expect(writer.add(hashOf(slow), slow)).rejects.toBe(failure), { timeout: 20_000 });
    gate.resolve();
    await expect(writer.finish()).rejects.toBe(failure);
    expect((await listed(store)).length).toBe(1);
    expect(onStored).not.toHaveBeenCalled();
  });

  it('not when the pointer could not be written', async () => {
    const failure = new Error('The pointer is lost.');
    const store = intercept(createMemoryBlobStore(), {
      async create(next, name, body, options) {
        if (name.startsWith('thin/')) throw failure;
        return await next(name, body, options);
      },
    });
    const onStored = vi.fn();
    const writer = createChunkWriter(store, keys, smallSizes, onStored);
    await writer.add(hashOf(Buffer.from('x')), Buffer.from('x'));
    await expect(writer.finish()).rejects.toBe(failure);
    expect(onStored).not.toHaveBeenCalled();
  });

  it('not when the caller has cancelled', async () => {
    const stop = new AbortController();
    const onStored = vi.fn();
    const writer = createChunkWriter(createMemoryBlobStore(), keys, smallSizes, onStored, { signal: stop.signal });
    await writer.add(hashOf(Buffer.from('x')), Buffer.from('x'));
    const reason = new Error('Enough.');
    stop.abort(reason);
    await expect(writer.add(hashOf(Buffer.from('y')), Buffer.from('y'))).rejects.toBe(reason);
    await expect(writer.finish()).rejects.toBe(reason);
    expect(onStored).not.toHaveBeenCalled();
  });

  it('not after abort, which waits for what is under way', async () => {
    let active = 0;
    const store = intercept(createMemoryBlobStore(), {
      async create(next, ...args) {
        active += 1;
        await new Promise((resolve) => setImmediate(resolve));
        active -= 1;
        return await next(...args);
      },
    });
    const onStored = vi.fn();
    const writer = createChunkWriter(store, keys, smallSizes, onStored);
    const [chunk] = noiseChunks([9000]);
    await writer.add(hashOf(chunk!), chunk!);
    const reason = new Error('Never mind.');
    await writer.abort(reason);
    expect(active).toBe(0);
    expect(onStored).not.toHaveBeenCalled();
    await expect(writer.add(hashOf(chunk!), chunk!)).rejects.toThrow();
  });

  it('never under a hash that its bytes do not have, small or large', async () => {
    for (const [bytes] of [noiseChunks([100]), noiseChunks([9000])]) {
      const store = createMemoryBlobStore();
      const onStored = vi.fn();
      const writer = createChunkWriter(store, keys, smallSizes, onStored);
      const hash = hashOf(bytes!);
      bytes![0]! ^= 1;
      await writer.add(hash, bytes!);
      await expect(writer.finish()).rejects.toThrow(expect.objectContaining({ code: 'FIRN_INTERNAL' }));
      expect(onStored).not.toHaveBeenCalled();
      expect(await listed(store)).toEqual([]);
    }
  });
});

describe('back-pressure', () => {
  it.each([1, 3])('holds the caller while %i uploads are under way', async (uploadsInFlightMax) => {
    let active = 0;
    let activeMax = 0;
    const gate = Promise.withResolvers<void>();
    const store = intercept(createMemoryBlobStore(), {
      async create(next, ...args) {
        active += 1;
        activeMax = Math.max(activeMax, active);
        await gate.promise;
        active -= 1;
        return await next(...args);
      },
    });
    const writer = createChunkWriter(store, keys, { ...smallSizes, uploadsInFlightMax }, () => {});
    const chunks = noiseChunks(Array(uploadsInFlightMax + 2).fill(9000));
    let accepted = 0;
    const adding = (async () => {
      for (const chunk of chunks) {
        await writer.add(hashOf(chunk), chunk);
        accepted += 1;
      }
    })();
    await expect.poll(() => active).toBe(uploadsInFlightMax);
    await new Promise((resolve) => setImmediate(resolve));
    expect(accepted).toBe(uploadsInFlightMax);
    gate.resolve();
    await adding;
    await writer.finish();
    expect(activeMax).toBe(uploadsInFlightMax);
    expect(accepted).toBe(chunks.length);
  });

  it('keeps the order of calls that were not awaited', async () => {
    const chunks = textChunks(Array(30).fill(500));
    const store = createMemoryBlobStore();
    const writer = createChunkWriter(store, keys, smallSizes, () => {});
    await Promise.all(chunks.map((chunk) => writer.add(hashOf(chunk), chunk)));
    await writer.finish();
    const awaited = createMemoryBlobStore();
    await writeChunks(awaited, chunks);
    const names = async (of: BlobStore) => (await listed(of)).map(({ name }) => name);
    expect(await names(store)).toEqual(await names(awaited));
  });
});
