import { describe, expect, it, vi } from 'vitest';
import { createChunkReader } from '../../src/chunks/chunk-reader.ts';
import type { ChunkLocation } from '../../src/chunks/location.ts';
import { FirnError } from '../../src/errors.ts';
import { compressFrame, FrameSealer } from '../../src/sealing/frame.ts';
import { plainKeys } from '../../src/sealing/keys.ts';
import { type BlobStore, BlobStoreError, type ReadOptions } from '../../src/storage/blob-store.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { intercept } from './intercept.ts';
import { noiseChunks, testKeys, textChunks, writeChunks } from './writing.ts';

const keys = testKeys;
const code = (name: string) => expect.objectContaining({ code: name });
const all = async (pieces: AsyncIterable<Buffer>) => Buffer.concat(await Array.fromAsync(pieces));

/** Counts ranged reads, streamed or not, and holds them while `gate` is closed. */
function counted(store: BlobStore, gate: Promise<void> = Promise.resolve()) {
  const reads: string[] = [];
  const signals: (AbortSignal | undefined)[] = [];
  const count = async ({ offset = 0, length, signal }: ReadOptions) => {
    reads.push(`${offset}+${length}`);
    signals.push(signal);
    await gate;
  };
  const watched = intercept(store, {
    async read(next, name, options) {
      await count(options ?? {});
      return await next(name, options);
    },
    async readStream(next, name, options) {
      await count(options ?? {});
      return await next(name, options);
    },
  });
  return { watched, reads, signals };
}

async function damage(store: BlobStore, name: string, change: (body: Buffer) => Buffer): Promise<void> {
  const { body, properties } = await store.read(name);
  await store.replace(name, change(body), { ifMatch: properties.etag });
}

/** A large blob made by hand, for what no writer would make. */
async function forge(store: BlobStore, location: ChunkLocation, frames: readonly Buffer[]): Promise<void> {
  const name = `chunks/${location.blob}`;
  const sealer = new FrameSealer(keys, { kind: location.kind, name });
  const sealed: Buffer[] = [];
  for (const [i, raw] of frames.entries()) {
    const frame = await compressFrame(raw, { level: 3, encoding: 'auto' });
    sealed.push(sealer.seal(frame, { final: i === frames.length - 1 }));
  }
  await store.create(name, Buffer.concat(sealed));
}

describe('reading bundled chunks', () => {
  it('takes one ranged read of exactly the frame', async () => {
    const store = createMemoryBlobStore();
    const chunks = textChunks([3000, 3000, 3000]);
    const { of } = await writeChunks(store, chunks);
    const { watched, reads } = counted(store);
    const reader = createChunkReader(watched, keys, { cacheBytesMax: 1 << 20 });
    const { frameOffset, frameBytes } = of(chunks[1]!);
    expect(frameOffset).toBeGreaterThan(0);
    expect((await reader.read(of(chunks[1]!))).equals(chunks[1]!)).toBe(true);
    expect(reads).toEqual([`${frameOffset}+${frameBytes}`]);
  });

  it('reads a frame once for all the chunks in it, at the same time or later', async () => {
    const store = createMemoryBlobStore();
    const chunks = textChunks([500, 600, 700]);
    const { of } = await writeChunks(store, chunks);
    const { watched, reads } = counted(store);
    const reader = createChunkReader(watched, keys, { cacheBytesMax: 1 << 20 });
    const read = await Promise.all(chunks.map((chunk) => reader.read(of(chunk))));
    read.push(await reader.read(of(chunks[0]!)));
    expect(read.map(String)).toEqual([...chunks, chunks[0]!].map(String));
    expect(reads.length).toBe(1);
  });

  it('keeps no more frames than the cache may hold', async () => {
    const store = createMemoryBlobStore();
    const chunks = textChunks([3000, 3000, 3000]);
    const { of } = await writeChunks(store, chunks);
    const { watched, reads } = counted(store);
    const reader = createChunkReader(watched, keys, { cacheBytesMax: 8200 });
    for (const i of [0, 1, 0, 2, 0, 1]) await reader.read(of(chunks[i]!));
    expect(reads.length).toBe(4);
  });

  it('shares reads under way, but keeps nothing, without a cache', async () => {
    const store = createMemoryBlobStore();
    const chunks = textChunks([500, 600]);
    const { of } = await writeChunks(store, chunks);
    const { watched, reads } = counted(store);
    const reader = createChunkReader(watched, keys, { cacheBytesMax: 0 });
    await Promise.all(chunks.map((chunk) => reader.read(of(chunk))));
    expect(reads.length).toBe(1);
    await reader.read(of(chunks[0]!));
    expect(reads.length).toBe(2);
  });

  it('streams one as well', async () => {
    const store = createMemoryBlobStore();
    const [chunk] = textChunks([3000]);
    const { of } = await writeChunks(store, [chunk!]);
    const reader = createChunkReader(store, keys, { cacheBytesMax: 0 });
    expect((await all(reader.stream(of(chunk!)))).equals(chunk!)).toBe(true);
  });
});

describe('bundled chunks that the reader was told of', () => {
  it('come in one request where they are neighbours, and each frame is opened as it is needed', async () => {
    const store = createMemoryBlobStore();
    const chunks = textChunks([3000, 3000, 3000, 3000]);
    const { of } = await writeChunks(store, chunks);
    const { watched, reads } = counted(store);
    const reader = createChunkReader(watched, keys, { cacheBytesMax: 1 << 20 });
    const places = chunks.map(of);
    expect(new Set(places.map(({ frameOffset }) => frameOffset)).size).toBe(4);
    const release = reader.expect(places);
    expect(reads).toEqual([]);
    for (const chunk of chunks) expect((await reader.read(of(chunk))).equals(chunk)).toBe(true);
    release();
    const last = places[3]!;
    expect(reads).toEqual([`0+${last.frameOffset + last.frameBytes}`]);
  });

  it('are not read again where they are in memory', async () => {
    const store = createMemoryBlobStore();
    const chunks = textChunks([3000, 3000, 3000]);
    const { of } = await writeChunks(store, chunks);
    const { watched, reads } = counted(store);
    const reader = createChunkReader(watched, keys, { cacheBytesMax: 1 << 20 });
    await reader.read(of(chunks[0]!));
    reader.expect(chunks.map(of));
    for (const chunk of chunks) await reader.read(of(chunk));
    const [, second, third] = chunks.map(of);
    expect(reads.slice(1)).toEqual([`${second!.frameOffset}+${second!.frameBytes + third!.frameBytes}`]);
  });

  it('are read by themselves where their neighbours came damaged, are too short or did not come at all', async () => {
    const store = createMemoryBlobStore();
    const chunks = textChunks([3000, 3000, 3000]);
    const { of } = await writeChunks(store, chunks);
    const places = chunks.map(of);
    const spoilings: ((pieces: AsyncIterable<Buffer>) => AsyncGenerator<Buffer>)[] = [
      async function* damaged(pieces) {
        for await (const piece of pieces) yield Buffer.from(piece).fill(0, 60, 70);
      },
      async function* short() {
        yield Buffer.alloc(20);
      },
      // biome-ignore lint/correctness/useYield: it fails before it gives anything.
      async function* none() {
        throw new BlobStoreError('changed', 'chunks/x');
      },
    ];
    for (const spoil of spoilings) {
      const reads: number[] = [];
      const watched = intercept(store, {
        async read(next, name, options) {
          const read = await next(name, options);
          reads.push(read.body.length);
          return read;
        },
        async readStream(next, name, options) {
          const { body, properties } = await next(name, options);
          return { body: spoil(body), properties };
        },
      });
      const reader = createChunkReader(watched, keys, { cacheBytesMax: 1 << 20 });
      reader.expect(places);
      for (const chunk of chunks) expect((await reader.read(of(chunk))).equals(chunk)).toBe(true);
      expect(reads).toContain(places[0]!.frameBytes);
    }
  });

  it('fail as any other where they are damaged on storage', async () => {
    const store = createMemoryBlobStore();
    const chunks = textChunks([3000, 3000]);
    const { of } = await writeChunks(store, chunks);
    const { blob, frameBytes } = of(chunks[0]!);
    await damage(store, `chunks/${blob}`, (body) => Buffer.from(body).fill(0, 60, 70));
    const reader = createChunkReader(store, keys, { cacheBytesMax: 1 << 20 });
    reader.expect(chunks.map(of));
    await expect(reader.read(of(chunks[0]!))).rejects.toThrow(code('FIRN_SEAL_BROKEN'));
    expect((await reader.read(of(chunks[1]!))).equals(chunks[1]!)).toBe(true);
    // Places that hold no frame are passed over.
    reader.expect([
      { ...of(chunks[0]!), frameBytes: 0 },
      { ...of(chunks[0]!), frameBytes: 2 ** 40 },
    ]);
    await expect(reader.read({ ...of(chunks[0]!), frameBytes: frameBytes + 1 })).rejects.toThrow(FirnError);
  });
});

describe('cancelling a read', () => {
  it('leaves those who share it alone', async () => {
    const store = createMemoryBlobStore();
    const chunks = textChunks([500, 600]);
    const { of } = await writeChunks(store, chunks);
    const gate = Promise.withResolvers<void>();
    const { watched, reads, signals } = counted(store, gate.promise);
    const reader = createChunkReader(watched, keys, { cacheBytesMax: 0 });
    const stop = new AbortController();
    const cancelled = reader.read(of(chunks[0]!), { signal: stop.signal });
    const other = reader.read(of(chunks[1]!));
    stop.abort(new Error('Enough.'));
    await expect(cancelled).rejects.toThrow('Enough.');
    expect(signals[0]?.aborted).toBe(false);
    gate.resolve();
    expect((await other).equals(chunks[1]!)).toBe(true);
    expect(reads.length).toBe(1);
  });

  it('cancels the request when nobody waits for it any more, and does not spoil the next', async () => {
    const store = createMemoryBlobStore();
    const [chunk] = textChunks([500]);
    const { of } = await writeChunks(store, [chunk!]);
    const gate = Promise.withResolvers<void>();
    const { watched, reads, signals } = counted(store, gate.promise);
    const reader = createChunkReader(watched, keys, { cacheBytesMax: 1 << 20 });
    const stop = new AbortController();
    const cancelled = reader.read(of(chunk!), { signal: stop.signal });
    stop.abort(new Error('Enough.'));
    await expect(cancelled).rejects.toThrow('Enough.');
    expect(signals[0]?.aborted).toBe(true);
    gate.resolve();
    expect((await reader.read(of(chunk!))).equals(chunk!)).toBe(true);
    expect(reads.length).toBe(2);
  });

  it('is answered at once by a reader whose signal has fired', async () => {
    const store = createMemoryBlobStore();
    const [chunk] = textChunks([500]);
    const { of } = await writeChunks(store, [chunk!]);
    const { watched, reads } = counted(store);
    const reader = createChunkReader(watched, keys, { cacheBytesMax: 0 });
    await expect(reader.read(of(chunk!), { signal: AbortSignal.abort(new Error('Gone.')) })).rejects.toThrow('Gone.');
    expect(reads).toEqual([]);
  });
});

describe('reading large chunks', () => {
  it.each([8192, 10_000, 40_960])('gives back one of %i bytes, read or streamed', async (bytes) => {
    const store = createMemoryBlobStore({ streamPieceBytes: 1000 });
    const [chunk] = noiseChunks([bytes]);
    const { of } = await writeChunks(store, [chunk!]);
    const reader = createChunkReader(store, keys, { cacheBytesMax: 0 });
    expect(of(chunk!).kind).toBe('large');
    expect((await reader.read(of(chunk!))).equals(chunk!)).toBe(true);
    expect((await all(reader.stream(of(chunk!)))).equals(chunk!)).toBe(true);
  });

  it.each([
    ['encrypted', keys, false],
    // Its only frame is a part of the blob as it was read.
    ['unencrypted', plainKeys, true],
  ])('keeps nothing of what an %s one was made of, but for what it is itself', async (_, keys, isPart) => {
    const store = createMemoryBlobStore();
    const bodies: Buffer[] = [];
    const watched = intercept(store, {
      async read(next, name, options) {
        const answer = await next(name, options);
        bodies.push(answer.body);
        return answer;
      },
    });
    const reader = createChunkReader(watched, keys, { cacheBytesMax: 0 });
    for (const bytes of [600_000, 300_000]) {
      const [chunk] = noiseChunks([bytes], bytes);
      const { of } = await writeChunks(store, [chunk!], { frameRawBytesTarget: 300_000 }, keys);
      const read = await reader.read(of(chunk!));
      expect(read.equals(chunk!)).toBe(true);
      reader.giveBack(read);
    }
    expect(bodies.map(({ length }) => length > 0)).toEqual([false, isPart]);
  });

  it('streams frame by frame, ahead of nobody', async () => {
    const store = createMemoryBlobStore({ streamPieceBytes: 1000 });
    const [chunk] = noiseChunks([40_960]);
    const { of } = await writeChunks(store, [chunk!]);
    let taken = 0;
    const watched = intercept(store, {
      async readStream(next, name, options) {
        const { body, properties } = await next(name, options);
        const pieces = async function* () {
          for await (const piece of body) {
            taken += piece.length;
            yield piece;
          }
        };
        return { body: pieces(), properties };
      },
    });
    const stream = createChunkReader(watched, keys, { cacheBytesMax: 0 }).stream(of(chunk!));
    expect((await stream.next()).value?.length).toBe(4096);
    expect(taken).toBeLessThan(6000);
    await stream.return(undefined);
  });

  it('does not read one into memory that is too long for that', async () => {
    const reader = createChunkReader(createMemoryBlobStore(), keys, { cacheBytesMax: 0 });
    const location: ChunkLocation = {
      hash: 'a'.repeat(64),
      blob: 'a'.repeat(64),
      kind: 'large',
      frameOffset: 0,
      frameBytes: 100,
      offsetInFrame: 0,
      rawBytes: (16 << 20) + 1,
      tier: 'Hot',
    };
    await expect(reader.read(location)).rejects.toThrow(RangeError);
  });
});

describe.each(['read', 'stream'] as const)('what is wrong on storage (%s)', (way) => {
  const chunks = [...textChunks([3000, 3000]), ...noiseChunks([10_000])];
  const [first, second, large] = chunks as [Buffer, Buffer, Buffer];
  const take = async (store: BlobStore, location: ChunkLocation) => {
    const reader = createChunkReader(store, keys, { cacheBytesMax: 1 << 20 });
    return way === 'read' ? await reader.read(location) : await all(reader.stream(location));
  };

  it.each([first, large])('a blob that is missing', async (chunk) => {
    const store = createMemoryBlobStore();
    const { of } = await writeChunks(store, chunks);
    await store.delete(`chunks/${of(chunk).blob}`);
    await expect(take(store, of(chunk))).rejects.toThrow(code('FIRN_BLOB_MISSING'));
  });

  it.each([first, large])('a blob that is offline', async (chunk) => {
    const store = createMemoryBlobStore();
    const { of } = await writeChunks(store, chunks, { tier: 'Archive' });
    await expect(take(store, of(chunk))).rejects.toThrow(code('FIRN_BLOB_OFFLINE'));
  });

  it.each([first, large])('a bit that is flipped', async (chunk) => {
    const store = createMemoryBlobStore();
    const { of } = await writeChunks(store, chunks);
    const { blob, frameOffset } = of(chunk);
    await damage(store, `chunks/${blob}`, (body) => {
      body[frameOffset + 80]! ^= 4;
      return body;
    });
    await expect(take(store, of(chunk))).rejects.toThrow(code('FIRN_SEAL_BROKEN'));
    if (chunk === first) expect((await take(store, of(second))).equals(second)).toBe(true);
  });

  it.each([first, large])('a blob that is cut off', async (chunk) => {
    const store = createMemoryBlobStore();
    const { of } = await writeChunks(store, chunks);
    const { blob, frameOffset } = of(chunk);
    await damage(store, `chunks/${blob}`, (body) => body.subarray(0, frameOffset + 100));
    await expect(take(store, of(chunk))).rejects.toThrow(code('FIRN_SEAL_BROKEN'));
  });

  it('a location behind the end of the blob, or of no bytes', async () => {
    const store = createMemoryBlobStore();
    const { of } = await writeChunks(store, chunks);
    const location = of(first);
    for (const change of [{ frameOffset: 1 << 20 }, { frameBytes: 0 }, { frameBytes: 1 << 30 }]) {
      await expect(take(store, { ...location, ...change })).rejects.toThrow(code('FIRN_BLOB_DAMAGED'));
    }
  });

  it('a location that takes more than the frame', async () => {
    const store = createMemoryBlobStore();
    const { of } = await writeChunks(store, chunks);
    const { frameBytes } = of(first);
    await expect(take(store, { ...of(first), frameBytes: frameBytes + 9 })).rejects.toThrow(code('FIRN_BLOB_DAMAGED'));
  });

  it('a frame that was put in the place of another of its blob', async () => {
    const store = createMemoryBlobStore();
    const [a, b] = noiseChunks([3000, 3000], 1) as [Buffer, Buffer];
    const { of } = await writeChunks(store, [a, b, ...textChunks([4000])]);
    const { blob, frameOffset, frameBytes } = of(b);
    expect(of(a).frameBytes).toBe(frameBytes);
    await damage(store, `chunks/${blob}`, (body) => {
      body.copy(body, 0, frameOffset, frameOffset + frameBytes);
      return body;
    });
    await expect(take(store, of(a))).rejects.toThrow(code('FIRN_CHUNK_DAMAGED'));
  });

  it.each([
    { offsetInFrame: 513 },
    { offsetInFrame: 100_000 },
    { rawBytes: 2999 },
    { rawBytes: 100_000 },
    { hash: 'c'.repeat(64) },
  ])('a location that is off (%j)', async (change) => {
    const store = createMemoryBlobStore();
    const { of } = await writeChunks(store, chunks);
    await expect(take(store, { ...of(first), ...change })).rejects.toThrow(code('FIRN_CHUNK_DAMAGED'));
  });

  it.each<[string, Buffer[]]>([
    ['other bytes', [Buffer.alloc(10_000, 1)]],
    ['fewer bytes', [large.subarray(0, 9999)]],
    ['more bytes', [large, Buffer.from('x')]],
    ['a great many more bytes', [large, Buffer.alloc(8 << 20)]],
  ])('a large chunk that was sealed with %s', async (_what, frames) => {
    const { of } = await writeChunks(createMemoryBlobStore(), chunks);
    const store = createMemoryBlobStore();
    await forge(store, of(large), frames);
    const { bytes } = await store.properties(`chunks/${of(large).blob}`);
    await expect(take(store, { ...of(large), frameBytes: bytes })).rejects.toThrow(code('FIRN_CHUNK_DAMAGED'));
  });

  it('is not remembered: a later try may succeed', async () => {
    const memory = createMemoryBlobStore();
    const { of } = await writeChunks(memory, chunks);
    const failOnce = vi.fn().mockRejectedValueOnce(new BlobStoreError('offline', 'chunks/x'));
    const store = intercept(memory, {
      read: async (next, ...args) => (await failOnce()) ?? (await next(...args)),
      readStream: async (next, ...args) => (await failOnce()) ?? (await next(...args)),
    });
    const reader = createChunkReader(store, keys, { cacheBytesMax: 1 << 20 });
    const again = async () => (way === 'read' ? await reader.read(of(large)) : await all(reader.stream(of(large))));
    await expect(again()).rejects.toThrow(code('FIRN_BLOB_OFFLINE'));
    expect((await again()).equals(large)).toBe(true);
  });
});

describe('an unencrypted repository', () => {
  it('is read as well', async () => {
    const store = createMemoryBlobStore();
    const chunks = [...textChunks([3000]), ...noiseChunks([10_000])];
    const { of } = await writeChunks(store, chunks, {}, plainKeys);
    const reader = createChunkReader(store, plainKeys, { cacheBytesMax: 0 });
    for (const chunk of chunks) {
      const location = of(chunk);
      expect((await reader.read(location)).equals(chunk)).toBe(true);
      expect((await all(reader.stream(location))).equals(chunk)).toBe(true);
    }
  });
});
