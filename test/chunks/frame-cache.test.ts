import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createChunkReader } from '../../src/chunks/chunk-reader.ts';
import { FrameCache, type HeldFrame } from '../../src/chunks/frame-cache.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { testSeed } from '../kit/random.ts';
import { noiseChunks, testKeys, writeChunks } from './writing.ts';

/** Long enough to be given back. */
const FRAME_BYTES = 200_000;

function frameOf(text: string): Buffer {
  return Buffer.alloc(FRAME_BYTES, text);
}

function lend(cache: FrameCache, frame: HeldFrame, from: number, to: number): Buffer {
  const bytes = cache.lend(frame, from, to);
  if (bytes === undefined) throw new Error('the frame is gone');
  return bytes;
}

function isGone(frame: { readonly raw: Buffer }): boolean {
  return frame.raw.buffer.byteLength === 0;
}

it('gives a frame back when it was dropped and its last reader is done, and not before', () => {
  const cache = new FrameCache(FRAME_BYTES);
  const frame = cache.add('one', frameOf('one '));
  const first = lend(cache, frame, 0, 8);
  const second = lend(cache, frame, 4, 12);
  cache.giveBack(first);
  cache.add('other', frameOf('other'));
  expect(cache.has('one')).toBe(false);
  expect(second.toString()).toBe('one one ');
  cache.giveBack(first);
  cache.giveBack(Buffer.from(second));
  expect(second.toString()).toBe('one one ');
  cache.giveBack(second);
  expect(isGone(frame)).toBe(true);
  expect(second.length).toBe(0);
  expect(cache.lend(frame, 0, 8)).toBeUndefined();
});

it('gives a frame back that nobody reads when it is dropped', () => {
  const cache = new FrameCache(FRAME_BYTES);
  const frame = cache.add('one', frameOf('one '));
  cache.giveBack(lend(cache, frame, 0, 4));
  expect(cache.get('one')?.raw.toString('utf8', 0, 4)).toBe('one ');
  cache.add('other', frameOf('other'));
  expect(isGone(frame)).toBe(true);
});

it('leaves a frame alone that was dropped before its first reader came', () => {
  const cache = new FrameCache(FRAME_BYTES);
  const frame = cache.add('one', frameOf('one '));
  cache.add('other', frameOf('other'));
  const late = lend(cache, frame, 0, 4);
  expect(late.toString()).toBe('one ');
  cache.giveBack(late);
  expect(isGone(frame)).toBe(true);
});

it.each([0, FRAME_BYTES - 1])('gives back at once what does not fit into a cache of %i bytes', (bytesMax) => {
  const cache = new FrameCache(bytesMax);
  const frame = cache.add('one', frameOf('one '));
  const bytes = lend(cache, frame, 0, 4);
  expect(bytes.toString()).toBe('one ');
  cache.giveBack(bytes);
  expect(isGone(frame)).toBe(true);
});

it('readers at the same time have the right bytes until they give them back, whatever the others do', async () => {
  const store = createMemoryBlobStore();
  const sizes = { frameRawBytesTarget: 150_000, tarStoredBytesTarget: 1 << 21, tarRawBytesMax: 1 << 21 };
  const chunks = noiseChunks(new Array<number>(12).fill(70_000));
  const { of } = await writeChunks(store, chunks, { ...sizes, largeChunkBytesMin: 1 << 20 });
  expect(new Set(chunks.map((chunk) => of(chunk).frameOffset)).size).toBe(6);
  const step = fc.record({ chunk: fc.nat(chunks.length - 1), turns: fc.nat(4), givesBack: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(step, { maxLength: 8 }), { minLength: 1, maxLength: 6 }),
      fc.constantFrom(0, 140_000, 300_000, 600_000),
      fc.boolean(),
      async (readers, cacheBytesMax, isExpected) => {
        const reader = createChunkReader(store, testKeys, { cacheBytesMax });
        const release = isExpected ? reader.expect(chunks.map(of)) : () => {};
        await Promise.all(
          readers.map(async (steps) => {
            for (const { chunk, turns, givesBack } of steps) {
              const bytes = await reader.read(of(chunks[chunk]!));
              for (let turn = 0; turn < turns; turn += 1) await (turn % 2 ? new Promise(setImmediate) : undefined);
              expect(bytes.equals(chunks[chunk]!)).toBe(true);
              if (givesBack) reader.giveBack(bytes);
            }
          }),
        );
        release();
      },
    ),
    { numRuns: 100, ...(testSeed !== undefined && { seed: testSeed }) },
  );
});
