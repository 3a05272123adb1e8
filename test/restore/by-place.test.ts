import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { ChunkLocation } from '../../src/chunks/location.ts';
import type { FileEntry } from '../../src/filetree/entry.ts';
import { ChunkIndex } from '../../src/index/chunk-index.ts';
import { rootOf } from '../../src/index/root-view.ts';
import { byPlace, type FileTask } from '../../src/restore/by-place.ts';
import { createExpectations } from '../../src/restore/read-ahead.ts';
import { plainKeys } from '../../src/sealing/keys.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import { hashOf, locationOf } from '../kit/arbitraries.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';

const link: FileTask = {
  path: 'link',
  entry: { type: 'link', name: 'link', mtime: undefined, mode: undefined, target: 'x' },
};

function fileOf(path: string, chunk: string, chunks = 1): FileTask {
  const refs = { chunks: Array.from({ length: chunks }, () => hashOf(chunk)) };
  const entry: FileEntry = {
    type: 'file',
    name: path,
    mtime: undefined,
    mode: undefined,
    bytes: 1,
    content: hashOf(chunk),
    refs,
  };
  return { path, entry };
}

async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}

/** Nobody listens. */
const expectations = { expect: () => {} };

function createIndex() {
  const state = new SealedBlobs(createMemoryAccount().container('state'), plainKeys);
  return { state, index: new ChunkIndex(state, { cacheBytesMax: 1_000_000 }) };
}

test('every file is given once, those of one frame one after another, and the frames as they are met', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(9), { maxLength: 60 }),
      fc.integer({ min: 1, max: 70 }),
      async (frames, window) => {
        const { index } = createIndex();
        for (const frame of new Set(frames)) {
          index.record([{ ...locationOf(hashOf(`in ${frame}`)), blob: hashOf('blob'), frameOffset: frame }]);
        }
        const tasks = frames.map((frame, at) => fileOf(`${at}`, `in ${frame}`));
        const given = await Array.fromAsync(byPlace(each(tasks), { index, expectations }, { windowChunks: window }));
        expect(given.toSorted((a, b) => Number(a.path) - Number(b.path))).toMatchObject(tasks);
        expect(given).toHaveLength(tasks.length);
        expect(given.map(({ location }) => location?.frameOffset)).toEqual(
          given.map(({ path }) => frames[Number(path)]),
        );
        for (let from = 0; from < frames.length; from += window) {
          const met = [...new Set(frames.slice(from, from + window))];
          const order = given.slice(from, from + window).map(({ path }) => met.indexOf(frames[Number(path)] ?? -1));
          expect(order).toEqual(order.toSorted((a, b) => a - b));
        }
      },
    ),
  );
});

test('the reader of chunks is told of the first chunk of each file before it is given, in order', async () => {
  const { index } = createIndex();
  index.record([3, 1, 2].map((frame) => ({ ...locationOf(hashOf(`in ${frame}`)), frameOffset: frame })));
  const told: number[] = [];
  const listening = {
    expect: (locations: readonly ChunkLocation[]) => void told.push(...locations.map(({ frameOffset }) => frameOffset)),
  };
  const tasks = [3, 1, 3, 0, 2].map((frame, at) => fileOf(`${at}`, frame === 0 ? 'nowhere' : `in ${frame}`));
  const given = byPlace(each(tasks), { index, expectations: listening });
  await given.next();
  expect(told).toEqual([3, 3, 1, 2]);
});

test('what needs no chunk is not held back, and a chunk that is nowhere is left to who reads it', async () => {
  const { index } = createIndex();
  const tasks = [fileOf('a', 'nowhere'), link, fileOf('b', 'nowhere either')];
  const given = await Array.fromAsync(byPlace(each(tasks), { index, expectations }));
  expect(given.map(({ path }) => path)).toEqual(['link', 'a', 'b']);
});

test('long files are held back for fewer others, since each brings the names of all its chunks', async () => {
  const { index } = createIndex();
  let walked = 0;
  async function* walk(): AsyncGenerator<FileTask> {
    for (; walked < 100; walked += 1) yield fileOf(`${walked}`, 'nowhere', 10);
  }
  const given = byPlace(walk(), { index, expectations }, { windowChunks: 30 });
  expect((await given.next()).value?.path).toBe('0');
  expect(walked).toBe(2);
  expect(await Array.fromAsync(given)).toHaveLength(99);
});

test('where a part of the index is damaged, every file is given all the same', async () => {
  const { state, index } = createIndex();
  const lost = fileOf('a', 'lost');
  const root = rootOf(hashOf('lost'));
  await state.store.create(`chunk-index/${root}`, Buffer.from('no shard'));
  const tasks = [lost, fileOf('b', 'other')];
  expect(await Array.fromAsync(byPlace(each(tasks), { index, expectations }))).toEqual(tasks);
  await expect(index.lookup([hashOf('lost')])).rejects.toMatchObject({ code: 'FIRN_SEAL_BROKEN' });
});

test('what was told of is taken back when two more groups came, and all of it in the end', () => {
  const over: number[] = [];
  let groups = 0;
  const { expect: tell, release } = createExpectations({
    expect: () => {
      groups += 1;
      const group = groups;
      return () => void over.push(group);
    },
  });
  for (let n = 0; n < 4; n += 1) tell([]);
  expect(over).toEqual([1, 2]);
  release();
  expect(over).toEqual([1, 2, 3, 4]);
});
