/** What spans promise on their own; what they are for, `chunk-reader.test.ts` shows. */
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type FramePlace, SpanReader } from '../../src/chunks/span-reader.ts';
import type { ReadOptions } from '../../src/storage/blob-store.ts';
import { testSeed } from '../kit/random.ts';

type SpanData = ConstructorParameters<typeof SpanReader>[0];

const LIMITS = { spanBytesMax: 40, heldBytesMax: 100 };
const BLOB_BYTES = 200;
const PIECE_BYTES = 7;

function bytesOf(name: string): Buffer {
  return Buffer.from(Array.from({ length: BLOB_BYTES }, (_, at) => (at * 7 + name.charCodeAt(0) * 31) & 0xff));
}

/** Storage that gives a piece of each stream whenever it is told to, and knows what it was asked for. */
function slowStorage(options: { readonly fails?: (name: string, at: number) => boolean } = {}) {
  const reads: { readonly name: string; readonly offset: number; readonly length: number }[] = [];
  const waiting: (() => void)[] = [];
  let streams = 0;
  async function* piecesOf(name: string, { offset = 0, length = 0, signal }: ReadOptions): AsyncGenerator<Buffer> {
    streams += 1;
    try {
      for (let at = offset; at < offset + length; at += PIECE_BYTES) {
        await new Promise<void>((resolve, reject) => {
          waiting.push(resolve);
          signal?.addEventListener('abort', () => reject(signal.reason));
        });
        signal?.throwIfAborted();
        if (options.fails?.(name, at)) throw new Error('storage fails');
        yield bytesOf(name).subarray(at, Math.min(at + PIECE_BYTES, offset + length));
      }
    } finally {
      streams -= 1;
    }
  }
  const readStream = async (name: string, how: ReadOptions = {}) => {
    reads.push({ name, offset: how.offset ?? 0, length: how.length ?? 0 });
    return { body: piecesOf(name, how) };
  };
  const settle = async () => {
    for (let turn = 0; turn < 3; turn += 1) await new Promise(setImmediate);
  };
  /** A piece of each stream that somebody waits for. */
  const answer = async () => {
    for (const resolve of waiting.splice(0)) resolve();
    await settle();
  };
  const answerAll = async () => {
    await settle();
    while (waiting.length > 0) await answer();
  };
  const data = { readStream } as unknown as SpanData;
  return { data, reads, answer, answerAll, settle, openStreams: () => streams };
}

const place = (name: string, offset: number, bytes: number): FramePlace => ({ name, offset, bytes });
const frames = (name: string, count: number, bytes = 10) =>
  Array.from({ length: count }, (_, at) => place(name, at * bytes, bytes));

test('nothing is read before the first frame is asked for; then its neighbours with it, and the span after that', async () => {
  const { data, reads, answerAll } = slowStorage();
  const spans = new SpanReader(data, LIMITS);
  spans.expect([...frames('a', 9), place('b', 0, 10), place('b', 10, 10), place('b', 21, 10)]);
  expect(reads).toEqual([]);
  const taking = spans.take(place('a', 0, 10));
  expect(reads).toEqual([
    { name: 'a', offset: 0, length: 40 },
    { name: 'a', offset: 40, length: 40 },
  ]);
  await answerAll();
  expect(await taking).toEqual(bytesOf('a').subarray(0, 10));
  expect(await spans.take(place('a', 30, 10))).toEqual(bytesOf('a').subarray(30, 40));
  expect(reads).toHaveLength(2);
  for (const at of [40, 80]) spans.take(place('a', at, 10));
  await answerAll();
  // What nobody expects is not read.
  const last = [spans.take(place('b', 10, 10)), spans.take(place('b', 21, 10))];
  await answerAll();
  expect(await Promise.all(last)).toEqual([bytesOf('b').subarray(10, 20), bytesOf('b').subarray(21, 31)]);
  expect(reads.slice(2)).toEqual([
    { name: 'a', offset: 80, length: 10 },
    { name: 'b', offset: 0, length: 20 },
    { name: 'b', offset: 21, length: 10 },
  ]);
});

test('a frame is there as soon as its last byte is, while the rest of its span is on its way', async () => {
  const { data, answer, settle, openStreams } = slowStorage();
  const spans = new SpanReader(data, LIMITS);
  const release = spans.expect(frames('a', 4));
  const taking = spans.take(place('a', 0, 10));
  await settle();
  for (let bytes = 0; bytes < 10; bytes += PIECE_BYTES) await answer();
  expect(await taking).toEqual(bytesOf('a').subarray(0, 10));
  expect(openStreams()).toBe(1);
  release();
  await settle();
  expect(openStreams()).toBe(0);
});

test('a stream waits while as much is held as may be, and goes on when a frame was taken', async () => {
  const { data, reads, answerAll, openStreams } = slowStorage();
  const spans = new SpanReader(data, { spanBytesMax: 200, heldBytesMax: 30 });
  const all = frames('a', 8);
  spans.expect(all);
  for (const [at, wanted] of all.entries()) {
    const taking = spans.take(wanted);
    await answerAll();
    expect(await taking).toEqual(bytesOf('a').subarray(at * 10, at * 10 + 10));
    expect(spans.heldBytes).toBe(Math.min(30, (all.length - at - 1) * 10));
    expect(openStreams()).toBe(at < 4 ? 1 : 0);
  }
  expect(reads).toEqual([{ name: 'a', offset: 0, length: 80 }]);
});

test('what nobody expected, what could not be read, and what lies too far behind, is left to its reader', async () => {
  const { data, reads, answerAll } = slowStorage({ fails: (name, at) => name === 'bad' && at >= 10 });
  const spans = new SpanReader(data, LIMITS);
  expect(await spans.take(place('a', 0, 10))).toBeUndefined();
  expect(reads).toEqual([]);
  spans.expect(frames('bad', 3));
  const failing = [0, 10, 20].map((offset) => spans.take(place('bad', offset, 10)));
  await answerAll();
  expect(await Promise.all(failing)).toEqual([bytesOf('bad').subarray(0, 10), undefined, undefined]);
  expect(spans.heldBytes).toBe(0);

  const few = new SpanReader(data, { spanBytesMax: 200, heldBytesMax: 30 });
  few.expect(frames('c', 8));
  expect(await few.take(place('c', 50, 10))).toBeUndefined();
  const near = few.take(place('c', 20, 10));
  await answerAll();
  expect(await near).toEqual(bytesOf('c').subarray(20, 30));
});

test('who waits for the next frame gets it, however much is held', async () => {
  const { data, answerAll } = slowStorage();
  const spans = new SpanReader(data, { spanBytesMax: 40, heldBytesMax: 15 });
  const takings = ['a', 'b', 'c'].map((name) => {
    spans.expect(frames(name, 4));
    return spans.take(place(name, 0, 10));
  });
  expect(spans.heldBytes).toBe(30);
  await answerAll();
  expect(await Promise.all(takings)).toEqual(['a', 'b', 'c'].map((name) => bytesOf(name).subarray(0, 10)));
  expect(spans.heldBytes).toBe(10);
});

test('what is taken back is not read any more, but for what is being waited for', async () => {
  const { data, reads, answerAll, openStreams } = slowStorage();
  const spans = new SpanReader(data, LIMITS);
  const release = spans.expect(frames('a', 12));
  const taking = spans.take(place('a', 0, 10));
  release();
  release();
  await answerAll();
  expect(await taking).toEqual(bytesOf('a').subarray(0, 10));
  expect(await spans.take(place('a', 40, 10))).toBeUndefined();
  expect(reads).toHaveLength(2);
  expect(spans.heldBytes).toBe(0);
  expect(openStreams()).toBe(0);
});

test('who leaves does not take the bytes from those who wait', async () => {
  const { data, answerAll } = slowStorage();
  const spans = new SpanReader(data, LIMITS);
  spans.expect(frames('a', 4));
  const leaving = new AbortController();
  const left = spans.take(place('a', 0, 10), { signal: leaving.signal });
  const waiting = spans.take(place('a', 10, 10));
  leaving.abort(new Error('enough'));
  await expect(left).rejects.toThrow('enough');
  expect(spans.heldBytes).toBe(10);
  await answerAll();
  expect(await waiting).toEqual(bytesOf('a').subarray(10, 20));
});

test('a frame belongs to the one who took it: another reads it by himself', async () => {
  const { data, answerAll } = slowStorage();
  const spans = new SpanReader(data, LIMITS);
  spans.expect(frames('a', 4));
  const both = [spans.take(place('a', 0, 10)), spans.take(place('a', 0, 10))];
  await answerAll();
  expect(await Promise.all(both)).toEqual([bytesOf('a').subarray(0, 10), undefined]);
  // Also where the one leaves before it came.
  spans.expect(frames('b', 4));
  const leaving = new AbortController();
  const left = spans.take(place('b', 10, 10), { signal: leaving.signal });
  const other = spans.take(place('b', 10, 10));
  leaving.abort(new Error('enough'));
  await expect(left).rejects.toThrow('enough');
  expect(await other).toBeUndefined();
});

type Step =
  | { readonly is: 'expect'; readonly from: number; readonly count: number; readonly name: string }
  | { readonly is: 'take'; readonly at: number; readonly name: string; readonly leaves: boolean }
  | { readonly is: 'release'; readonly which: number }
  | { readonly is: 'answer'; readonly pieces: number };
const anyName = fc.constantFrom('a', 'b', 'bad');
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ is: fc.constant('expect'), from: fc.nat(15), count: fc.nat(16), name: anyName }),
  {
    weight: 3,
    arbitrary: fc.record({ is: fc.constant('take'), at: fc.nat(18), name: anyName, leaves: fc.boolean() }),
  },
  fc.record({ is: fc.constant('release'), which: fc.nat(9) }),
  fc.record({ is: fc.constant('answer'), pieces: fc.nat(12) }),
);

test('in any order a frame is given as it is or not at all, memory is bounded, and nothing is kept in the end', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(anyStep, { maxLength: 60 }), fc.nat(60), async (steps, heldBytesMax) => {
      const { data, answer, answerAll, openStreams } = slowStorage({
        fails: (name, at) => name === 'bad' && at >= 40,
      });
      const spans = new SpanReader(data, { ...LIMITS, heldBytesMax });
      const releases: (() => void)[] = [];
      const takings: Promise<void>[] = [];
      let waiting = 0;
      for (const step of steps) {
        if (step.is === 'expect') {
          releases.push(spans.expect(frames(step.name, step.from + step.count).slice(step.from)));
        } else if (step.is === 'take') {
          const wanted = place(step.name, step.at * 10, 10);
          const leaving = new AbortController();
          waiting += 1;
          takings.push(
            spans
              .take(wanted, { signal: leaving.signal })
              .finally(() => {
                waiting -= 1;
              })
              .then(
                (bytes) => {
                  if (bytes === undefined) return;
                  expect(bytes).toEqual(bytesOf(step.name).subarray(wanted.offset, wanted.offset + 10));
                },
                (error) => expect(error).toBe(leaving.signal.reason),
              ),
          );
          if (step.leaves) leaving.abort(new Error('enough'));
        } else if (step.is === 'release') releases[step.which]?.();
        else for (let pieces = 0; pieces < step.pieces; pieces += 1) await answer();
        expect(spans.heldBytes).toBeLessThanOrEqual(heldBytesMax + 10 * waiting);
      }
      await answerAll();
      await Promise.all(takings);
      for (const release of releases) release();
      await answerAll();
      expect(spans.heldBytes).toBe(0);
      expect(openStreams()).toBe(0);
      expect(await spans.take(place('a', 0, 10))).toBeUndefined();
    }),
    { numRuns: 300, ...(testSeed !== undefined && { seed: testSeed }) },
  );
});

test('a piece is given back when it was copied, but not where it is a part of memory that others may share', async () => {
  const whole = Array.from({ length: 4 }, (_, n) => Buffer.alloc(64 * 1024, n));
  const parts = Buffer.alloc(256 * 1024, 9);
  const pieces = [...whole, parts.subarray(0, 64 * 1024), parts.subarray(64 * 1024)];
  const content = Buffer.concat(pieces);
  const data = { readStream: async () => ({ body: Readable.from(pieces) }) } as unknown as SpanData;
  const reader = new SpanReader(data, { spanBytesMax: content.length, heldBytesMax: content.length });
  const places = [0, 1, 2, 3].map((n) => place('a', n * 128 * 1024, 128 * 1024));
  reader.expect(places);
  const taken = [];
  for (const each of places) taken.push(await reader.take(each));
  expect(Buffer.concat(taken.map((bytes) => bytes ?? Buffer.alloc(0))).equals(content)).toBe(true);
  expect(whole.map(({ length }) => length)).toEqual([0, 0, 0, 0]);
  expect(parts.length).toBe(256 * 1024);
});
