import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { type ChunkLocation, LocationTable } from '../../src/chunks/location.ts';
import { type CollectedRoot, RootCollector } from '../../src/index/repair-plan.ts';
import { hashOf, locationOf } from '../kit/arbitraries.ts';
import { locationsIn } from './index-kit.ts';
import { chunksOf, createStorage, placeIn, putPacked, putPointer, putShard, putTar } from './repairing.ts';

const ROOTS = 2;
const kinds: readonly (keyof CollectedRoot)[] = ['proved', 'pointers'];

/** Places of few chunks in few roots, so that many chunks have several. */
const anyPlaces = fc.array(
  fc
    .record({ n: fc.nat(80), root: fc.nat(ROOTS - 1), copy: fc.nat(3), as: fc.constantFrom(...kinds) })
    .map(({ n, root, copy, as }) => ({
      location: locationOf(`${root}${hashOf(String(n)).slice(1)}`, copy),
      as,
    })),
  { minLength: 600, maxLength: 1_000 },
);

function collect(places: readonly { location: ChunkLocation; as: keyof CollectedRoot }[], countMax: number) {
  const roots: { proved: ChunkLocation[]; pointers: ChunkLocation[] }[] = [];
  let from = 0;
  let passes = 0;
  while (from < ROOTS) {
    const collector = new RootCollector({ from, to: ROOTS }, countMax);
    for (const { location, as } of places) collector.add(location, as);
    for (; from < collector.to; from += 1) {
      const { proved, pointers } = collector.take(from);
      roots.push({ proved: [...proved.locations()], pointers: [...pointers.locations()] });
    }
    passes += 1;
  }
  return { roots, passes };
}

describe('the collector of a repair', () => {
  test('gives one place of each chunk, the same whatever the order, and however many passes its limit takes', () => {
    fc.assert(
      fc.property(anyPlaces, fc.nat(1_000), fc.func(fc.nat()), (places, countMax, rank) => {
        const { roots } = collect(places, Number.POSITIVE_INFINITY);
        const order = new Map(places.map((place) => [place, rank(place)]));
        const shuffled = places.toSorted((a, b) => (order.get(a) ?? 0) - (order.get(b) ?? 0));
        const limited = collect(shuffled, countMax);
        expect(limited.roots).toEqual(roots);
        expect(limited.passes).toBeLessThanOrEqual(ROOTS);
        for (const kind of kinds) {
          const hashes = places.filter(({ as }) => as === kind).map(({ location }) => location.hash);
          expect(roots.flatMap((root) => root[kind].map(({ hash }) => hash))).toEqual([...new Set(hashes)].sort());
        }
      }),
      { numRuns: 20 },
    );
  });
});

test('a pointer whose tar chunk is missing does not push out another place of its chunk', async () => {
  const { data, repair, fresh } = createStorage();
  const [lost = '', tar = ''] = [hashOf('one'), hashOf('other')].sort();
  await putTar(data.store, tar);
  const chunks = chunksOf(tar, 'a', 600);
  await putPacked(data, tar, chunks);
  for (const { hash } of chunks) await putPointer(data.store, placeIn(lost, hash));
  expect(await repair()).toMatchObject({ entries: 600, quarantinedCount: 600 });
  const found = await Array.fromAsync(fresh().locations());
  expect(found).toEqual(chunks.toSorted((a, b) => (a.hash < b.hash ? -1 : 1)));
});

test('a repair packs pointers, and entries that only shards know, a few at a time', async () => {
  const { data, state, repair } = createStorage();
  const tar = hashOf('tar');
  await putTar(data.store, tar);
  for (const chunk of chunksOf(tar, 'a', 1_000)) await putPointer(data.store, chunk);
  await putShard(state, 'a', chunksOf(tar, 'a', 1_000, 'unproved'));
  const pack = vi.spyOn(LocationTable, 'of');
  try {
    expect(await repair()).toMatchObject({ entries: 2_000 });
    const counts = pack.mock.results.map(({ value }) => (value as LocationTable).count);
    expect(Math.max(...counts)).toBe(128);
  } finally {
    pack.mockRestore();
  }
});

test('a repair reads no shard that it has read or written itself', async () => {
  const { data, state, repair } = createStorage();
  const tar = hashOf('tar');
  await putTar(data.store, tar);
  await putPacked(data, tar, [...chunksOf(tar, 'a', 4_500), ...chunksOf(tar, 'c', 3)]);
  const reads: string[] = [];
  const { read } = state.store;
  state.store.read = async (name, options) => {
    reads.push(name);
    return await read(name, options);
  };
  const ofShards = () => reads.splice(0).filter((name) => name.startsWith('chunk-index/'));
  expect(await repair()).toMatchObject({ shardsWritten: 17 });
  expect(ofShards()).toEqual([]);
  expect(await repair()).toMatchObject({ shardsWritten: 0 });
  expect(ofShards()).toHaveLength(17);
  // One more entry than the chunk blobs prove, and it is false: the shard is written anew.
  await state.store.delete('chunk-index/c');
  const ghosts = locationsIn('c', 2).map(({ hash }) => placeIn(hashOf('no tar'), hash));

  await putShard(state, 'c', ghosts);
  expect(await repair({ roots: ['c'] })).toMatchObject({ shardsWritten: 1, entries: 3 });
  expect(ofShards()).toEqual(['chunk-index/c']);
});
