/** What spans promise on their own; what they are for, `chunk-reader.test.ts` shows. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type FramePlace, SpanReader } from '../../src/chunks/span-reader.ts';
import type { ReadOptions } from '../../src/storage/blob-store.ts';
import { testSeed } from '../kit/random.ts';

const LIMITS = { spanBytesMax: 40, heldBytesMax: 100 };
const BLOB_BYTES = 200;

function bytesOf(name: string): Buffer {
  return Buffer.from(Array.from({ length: BLOB_BYTES }, (_, at) => (at * 7 + name.charCodeAt(0) * 31) & 0xff));
}

/** Storage that answers when it is told to, and knows what it was asked for. */
function slowStorage(options: { readonly fails?: (name: string) => boolean } = {}) {
  const reads: { readonly name: string; readonly offset: number; readonly length: number }[] = [];
  const unanswered: (() => void)[] = [];
  const read = async (name: string, { offset = 0, length = 0, signal }: ReadOptions = {}) => {
    reads.push({ name, offset, length });
    await new Promise<void>((resolve, reject) => {
      unanswered.push(resolve);
      signal?.addEventListener('abort', () => reject(signal.reason));
    });
    if (options.fails?.(name)) throw new Error('storage fails');
    const body = bytesOf(name).subarray(offset, offset + length);
    return {
      body,
      properties: { etag: '', lastModified: new Date(0), bytes: BLOB_BYTES, metadata: {}, tier: undefined },
    };
  };
  const answerAll = async () => {
    while (unanswered.length > 0) {
      for (const answer of unanswered.splice(0)) answer();
      await new Promise(setImmediate);
    }
  };
  return { data: { read } as ConstructorParameters<typeof SpanReader>[0], reads, answerAll };
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

test('what nobody expected, what could not be read, and what would not fit, is left to its reader', async () => {
  const { data, reads, answerAll } = slowStorage({ fails: (name) => name === 'bad' });
  const spans = new SpanReader(data, LIMITS);
  expect(await spans.take(place('a', 0, 10))).toBeUndefined();
  expect(reads).toEqual([]);
  spans.expect(frames('bad', 2));
  const failing = spans.take(place('bad', 0, 10));
  await answerAll();
  expect(await failing).toBeUndefined();
  for (const name of ['c', 'd', 'e']) spans.expect(frames(name, 4));
  const [, , third] = ['c', 'd', 'e'].map((name) => spans.take(place(name, 0, 10)));
  expect(await third).toBeUndefined();
  expect(reads.map(({ name }) => name)).toEqual(['bad', 'c', 'd']);
  await answerAll();
});

test('what is taken back is not read any more, but for what is being waited for', async () => {
  const { data, reads, answerAll } = slowStorage();
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
  await answerAll();
  expect(await waiting).toEqual(bytesOf('a').subarray(10, 20));
});

type Step =
  | { readonly is: 'expect'; readonly from: number; readonly count: number; readonly name: string }
  | { readonly is: 'take'; readonly at: number; readonly name: string }
  | { readonly is: 'release'; readonly which: number }
  | { readonly is: 'answer' };
const anyName = fc.constantFrom('a', 'b', 'bad');
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ is: fc.constant('expect'), from: fc.nat(15), count: fc.nat(16), name: anyName }),
  { weight: 3, arbitrary: fc.record({ is: fc.constant('take'), at: fc.nat(18), name: anyName }) },
  fc.record({ is: fc.constant('release'), which: fc.nat(9) }),
  fc.record({ is: fc.constant('answer') }),
);

test('in any order a frame is given as it is or not at all, memory is bounded, and nothing is kept in the end', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(anyStep, { maxLength: 60 }), async (steps) => {
      const { data, answerAll } = slowStorage({ fails: (name) => name === 'bad' });
      const spans = new SpanReader(data, LIMITS);
      const releases: (() => void)[] = [];
      const takings: Promise<void>[] = [];
      for (const step of steps) {
        if (step.is === 'expect') {
          releases.push(spans.expect(frames(step.name, step.from + step.count).slice(step.from)));
        } else if (step.is === 'take') {
          const wanted = place(step.name, step.at * 10, 10);
          takings.push(
            spans.take(wanted).then((bytes) => {
              if (bytes !== undefined)
                expect(bytes).toEqual(bytesOf(step.name).subarray(wanted.offset, wanted.offset + 10));
            }),
          );
        } else if (step.is === 'release') releases[step.which]?.();
        else await answerAll();
        expect(spans.heldBytes).toBeLessThanOrEqual(LIMITS.heldBytesMax);
      }
      for (const release of releases) release();
      await answerAll();
      await Promise.all(takings);
      expect(spans.heldBytes).toBe(0);
      expect(await spans.take(place('a', 0, 10))).toBeUndefined();
    }),
    { numRuns: 300, ...(testSeed !== undefined && { seed: testSeed }) },
  );
});
