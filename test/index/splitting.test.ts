import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ChunkLocation, LocationTable } from '../../src/chunks/location.ts';
import { ChunkIndex } from '../../src/index/chunk-index.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { locationOf } from '../kit/arbitraries.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { dyingStore, ProcessDied } from '../kit/mortal.ts';
import { flushed, hooked, keys, locationsIn, missingFrom, open, shardNames, watched } from './index-kit.ts';
import { layoutOf } from './repairing.ts';

/** No shard over the limit, none below another, and all of it found by a fresh session. */
async function expectWhole(store: BlobStore, locations: readonly ChunkLocation[], entriesMax = 8): Promise<void> {
  const names = await shardNames(store);
  expect(names.filter((name) => names.some((other) => other !== name && other.startsWith(name)))).toEqual([]);
  const index = open(store, entriesMax);
  expect(await missingFrom(index, locations)).toEqual([]);
  const listed = await Array.fromAsync(index.locations(), ({ hash }) => hash);
  expect(listed).toEqual([...new Set(locations.map(({ hash }) => hash))].sort());
  for (const name of names)
    expect(listed.filter((hash) => hash.startsWith(name)).length).toBeLessThanOrEqual(entriesMax);
}

/** A root that is over the limit, as a Firn with a larger one left it. */
async function grown(count: number): Promise<{ store: BlobStore; locations: ChunkLocation[] }> {
  const store = createMemoryBlobStore();
  const locations = [...locationsIn('a', count), ...locationsIn('a3c', 12)];
  await flushed(open(store, 1000), locations);
  return { store, locations };
}

describe('a shard over the limit', () => {
  test('splits by the next digit, only as deep as its hashes ask', async () => {
    const store = createMemoryBlobStore();
    const locations = [...locationsIn('a3c', 9), ...locationsIn('a7', 3)];
    await flushed(open(store), locations);
    const names = await shardNames(store);
    expect(names.filter((name) => name.length === 2)).toEqual(['a7']);
    expect(names.filter((name) => name.startsWith('a3c')).length).toBe(names.length - 1);
    await expectWhole(store, locations);
  });

  test('splits at 2,049 entries, not at 2,048', async () => {
    const store = createMemoryBlobStore();
    const locations = locationsIn('a', 2_049);
    const session = () => new ChunkIndex(new SealedBlobs(store, keys), { cacheBytesMax: 1024 * 1024 });
    await flushed(session(), locations.slice(0, 2_048));
    expect(await shardNames(store)).toEqual(['a']);
    await flushed(session(), locations);
    expect(await shardNames(store)).toHaveLength(16);
    await expectWhole(store, locations, 2_048);
  });

  test('after a split takes new locations in its children, and makes the child that is missing', async () => {
    const store = createMemoryBlobStore();
    const first = [...locationsIn('a3', 5), ...locationsIn('a4', 5)];
    await flushed(open(store), first);
    expect(await shardNames(store)).toEqual(['a3', 'a4']);
    const second = [...locationsIn('a4', 1, 'new'), ...locationsIn('a5', 1, 'new')];
    await flushed(open(store), second);
    expect(await shardNames(store)).toEqual(['a3', 'a4', 'a5']);
    await expectWhole(store, [...first, ...second]);
  });
});

describe('more locations than a shard takes, where there is none', () => {
  const locations = [...locationsIn('a', 30), ...locationsIn('a3c', 12)];
  const layout = layoutOf(
    locations.map(({ hash }) => hash),
    8,
  );

  test('are written once, in the shards that splitting would make of them', async () => {
    const { store, calls } = watched(createMemoryBlobStore());
    await flushed(open(store), locations);
    expect(calls.sort()).toEqual([...layout.map((name) => `create chunk-index/${name}`), 'list chunk-index/']);
    await expectWhole(store, locations);
    expect(new Set(layout.map((name) => name.length))).toEqual(new Set([2, 3, 4]));
  });

  test('go into the shard that is there, and it is split then', async () => {
    const { store, calls } = watched(createMemoryBlobStore());
    const there = locationsIn('a', 3, 'there');
    await flushed(open(store), there);
    await flushed(open(store), locations);
    expect(calls.filter((call) => / chunk-index\/a$/.test(call))).toEqual([
      'create chunk-index/a',
      'read chunk-index/a',
      'replace chunk-index/a',
      'delete chunk-index/a',
    ]);
    await expectWhole(store, [...there, ...locations]);
  });

  test('are all in the index when another writer makes the parent meanwhile, and the next flush brings it down', async () => {
    const store = createMemoryBlobStore();
    const others = locationsIn('a', 3, 'other');
    let isMade = false;
    const racing = hooked(store, {
      before: async (call) => {
        if (call !== 'create' || isMade) return;
        isMade = true;
        await flushed(open(store), others);
      },
    });
    await flushed(open(racing), locations);
    expect(await shardNames(store)).toEqual(['a', ...layout]);
    expect(await missingFrom(open(store), [...locations, ...others])).toEqual([]);
    await flushed(open(store), locationsIn('a', 1, 'more'));
    await expectWhole(store, [...locations, ...others, ...locationsIn('a', 1, 'more')]);
  });

  test('are completed by the next flush when the process dies at any call, and none of what was there is lost', async () => {
    for (const when of ['before', 'after'] as const) {
      let deaths = 0;
      for (let died = true; died; ) {
        const store = createMemoryBlobStore();
        await flushed(open(store), locationsIn('a7', 3));
        died = await flushed(open(dyingStore(store, deaths + 1, when)), locations).then(
          () => false,
          () => true,
        );
        if (died) deaths += 1;
        await flushed(open(store), locations);
        await expectWhole(store, [...locations, ...locationsIn('a7', 3)]);
      }
      expect(deaths).toBeGreaterThan(layout.length);
    }
  });
});

describe('a process that dies at any call of a split', () => {
  for (const when of ['before', 'after'] as const) {
    test(`${when} its effect hides nothing, and the next flush heals what it left`, async () => {
      let died = true;
      let deaths = 0;
      let overlaps = 0;
      for (let at = 1; died; at += 1) {
        const { store, locations } = await grown(30);
        const added = locationsIn('a', 2, 'added');
        died = await flushed(open(dyingStore(store, at, when)), added).then(
          () => false,
          (error: Error) => {
            expect(error).toBeInstanceOf(ProcessDied);
            return true;
          },
        );
        expect(await missingFrom(open(store), locations)).toEqual([]);
        if (!died) break;
        deaths += 1;
        const names = await shardNames(store);
        if (names.includes('a') && names.length > 1) overlaps += 1;
        expect(await Array.fromAsync(open(store).locations(), ({ hash }) => hash)).toEqual(
          expect.arrayContaining(locations.map(({ hash }) => hash)),
        );
        await flushed(open(store), added);
        await expectWhole(store, [...locations, ...added]);
      }
      expect(deaths).toBeGreaterThan(25);
      expect(overlaps).toBeGreaterThan(10);
    });
  }

  test('is healed also by a flush that brings nothing new to the root', async () => {
    const { store, locations } = await grown(30);
    await flushed(open(dyingStore(store, 12, 'after')), locationsIn('a', 2, 'added')).catch(() => {});
    expect(await shardNames(store)).toContain('a');
    await flushed(open(store), locations.slice(0, 1));
    expect(await shardNames(store)).not.toContain('a');
  });
});

describe('a reader during a split', () => {
  test('finds everything between any two calls of it, with what it listed before and with a fresh listing', async () => {
    const { store, locations } = await grown(30);
    const early = open(store, 1000);
    await early.lookup([locations[0]!.hash]);
    let looked = 0;
    const splitting = hooked(store, {
      after: async () => {
        looked += 1;
        expect(await missingFrom(open(store), locations)).toEqual([]);
        expect(await missingFrom(early, locations)).toEqual([]);
      },
    });
    await flushed(open(splitting), locationsIn('a', 1, 'added'));
    expect(looked).toBeGreaterThan(25);
  });

  test('that listed the shard before and reads it after lists once more, and answers', async () => {
    const { store, locations } = await grown(30);
    const { store: seen, calls } = watched(store);
    let split = false;
    const racing = hooked(seen, {
      before: async (call) => {
        if (call !== 'read' || split) return;
        split = true;
        await flushed(open(store), locationsIn('a', 1, 'added'));
      },
    });
    const reader = open(racing);
    expect(await missingFrom(reader, locations)).toEqual([]);
    expect(calls.filter((call) => call.startsWith('list'))).toEqual(['list chunk-index/', 'list chunk-index/a']);
    expect(split).toBe(true);
  });

  test('is not misled by a parent that was made again since it listed', async () => {
    const { store, locations } = await grown(30);
    let split = false;
    const racing = hooked(store, {
      before: async (call) => {
        if (call !== 'read' || split) return;
        split = true;
        await flushed(open(store), locationsIn('a', 1, 'added'));
        // A writer with an old view makes the parent again, with one entry.
        const other = createMemoryBlobStore();
        await flushed(open(other), locationsIn('a', 1, 'stale'));
        await store.create('chunk-index/a', (await other.read('chunk-index/a')).body);
      },
    });
    expect(await missingFrom(open(racing), locations)).toEqual([]);
    expect(await missingFrom(open(store), [...locations, ...locationsIn('a', 1, 'stale')])).toEqual([]);
  });
});

test('what another writer adds to a shard while it splits is not deleted with it', async () => {
  const { store, locations } = await grown(30);
  const late = locationsIn('a', 3, 'late');
  let adding = 0;
  const racing = hooked(store, {
    before: async (call, name) => {
      if (call === 'delete' && name === 'chunk-index/a' && adding < 3) {
        adding += 1;
        const state = new SealedBlobs(store, keys);
        const { body, etag } = await state.get('shard', name);
        const table = LocationTable.of([...LocationTable.from(name, body).locations(), late[adding - 1]!]);
        await state.replace('shard', name, table.bytes, { ifMatch: etag });
      }
    },
  });
  const splitting = await flushed(open(racing), locationsIn('a', 1, 'added'));
  expect(adding).toBe(3);
  expect(await missingFrom(splitting, [...locations, ...late])).toEqual([]);
  await expectWhole(store, [...locations, ...late, ...locationsIn('a', 1, 'added')]);
});

test('a session that wrote to a parent that was made again still finds what is below', async () => {
  const { store, locations } = await grown(30);
  const session = open(store, 1000);
  await session.lookup(locationsIn('c', 1).map(({ hash }) => hash));
  await flushed(open(store), locationsIn('a', 1, 'added'));
  const other = createMemoryBlobStore();
  await flushed(open(other), locationsIn('a', 1, 'stale'));
  await store.create('chunk-index/a', (await other.read('chunk-index/a')).body);
  await flushed(session, locationsIn('a', 1, 'mine'));
  const all = [...locations, ...['added', 'stale', 'mine'].flatMap((name) => locationsIn('a', 1, name))];
  expect(await missingFrom(session, all)).toEqual([]);
  await expectWhole(store, all);
});

test('a reader that listed a split root finds everything when a repair has brought it together since', async () => {
  const store = createMemoryBlobStore();
  const locations = locationsIn('a', 40);
  await flushed(open(store), locations);
  const reader = open(store);
  expect((await reader.lookup(locationsIn('c', 1).map(({ hash }) => hash))).size).toBe(0);
  const children = await shardNames(store);
  expect(children.length).toBeGreaterThan(10);
  const other = createMemoryBlobStore();
  await flushed(open(other, 1000), locations);
  await store.create('chunk-index/a', (await other.read('chunk-index/a')).body);
  for (const child of children) await store.delete(`chunk-index/${child}`);
  expect(await missingFrom(reader, locations)).toEqual([]);
});

test('where levels overlap the parent wins, each chunk is listed once, and the next flush brings them together', async () => {
  const { store, locations } = await grown(30);
  await flushed(open(store), locationsIn('a', 1, 'added'));
  const [twice] = locations;
  const other = createMemoryBlobStore();
  await flushed(open(other), [locationOf(twice!.hash, 5)]);
  await store.create('chunk-index/a', (await other.read('chunk-index/a')).body);
  const lookUp = async () => (await open(store).lookup([twice!.hash])).get(twice!.hash)?.location.frameOffset;
  expect(await lookUp()).toBe(5);
  const listed = await Array.fromAsync(open(store).locations());
  expect(listed).toHaveLength(locations.length + 1);
  expect(listed.find(({ hash }) => hash === twice!.hash)?.frameOffset).toBe(5);
  await flushed(open(store), locationsIn('a', 1, 'more'));
  expect(await lookUp()).toBe(5);
  await expectWhole(store, [...locations, ...locationsIn('a', 1, 'added'), ...locationsIn('a', 1, 'more')]);
});

test('eight writers on one root that splits again and again lose nothing', async () => {
  const store = createMemoryBlobStore();
  const own = (writer: number) => locationsIn('a', 30, `writer ${writer}`);
  await Promise.all(
    Array.from({ length: 8 }, async (_, writer) => {
      const kept = open(store);
      for (const [n, location] of own(writer).entries()) await flushed(n % 2 === 0 ? kept : open(store), [location]);
    }),
  );
  const all = Array.from({ length: 8 }, (_, writer) => own(writer)).flat();
  expect(await missingFrom(open(store), all)).toEqual([]);
  // Those that came last may have left something to heal.
  await flushed(open(store), all);
  await expectWhole(store, all);
});

test('however recording, looking up and flushing interleave, nothing is lost, and what is said to be in the shards is', async () => {
  const pool = [...locationsIn('a', 40), ...locationsIn('a1', 20), ...locationsIn('c', 20)];
  const step = fc.record({
    session: fc.nat({ max: 2 }),
    act: fc.constantFrom('record', 'lookup', 'flush', 'flush and go on', 'reopen'),
    picks: fc.array(fc.nat({ max: pool.length - 1 }), { maxLength: 12 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), fc.integer({ min: 1, max: 6 }), async (steps, entriesMax) => {
      const store = createMemoryBlobStore();
      const sessions = [0, 1, 2].map(() => ({ index: open(store, entriesMax), known: new Set<ChunkLocation>() }));
      const running: Promise<unknown>[] = [];
      const all = new Set<ChunkLocation>();
      for (const { session: n, act, picks } of steps) {
        const session = sessions[n]!;
        const chosen = picks.map((pick) => pool[pick]!);
        if (act === 'record') {
          session.index.record(chosen);
          for (const location of chosen) {
            session.known.add(location);
            all.add(location);
          }
        } else if (act === 'lookup') {
          const found = await session.index.lookup(chosen.map(({ hash }) => hash));
          for (const location of chosen) {
            if (session.known.has(location)) expect(found.get(location.hash)?.location).toEqual(location);
          }
          const settled = chosen.filter(({ hash }) => found.get(hash)?.pending === false);
          expect(await missingFrom(open(store), settled)).toEqual([]);
        } else if (act === 'reopen') {
          await session.index.flush();
          sessions[n] = { index: open(store, entriesMax), known: new Set() };
        } else {
          const flush = session.index.flush();
          if (act === 'flush') await flush;
          else running.push(flush);
        }
      }
      await Promise.all(running);
      await Promise.all(sessions.map(({ index }) => index.flush()));
      expect(await missingFrom(open(store), [...all])).toEqual([]);
      for (const { index } of sessions) expect(index.recordedCount).toBe(0);
    }),
    { numRuns: 60 },
  );
});

test.each([
  ['one root', 'a'],
  ['all roots', ''],
])('a flush writes 64 shards at the same time, and never more, when they are of %s', async (_, under) => {
  const prefixes = Array.from({ length: 256 }, (__, n) => under + n.toString(16).padStart(2, '0'));
  let inFlight = 0;
  let most = 0;
  let waiting: (() => void)[] = [];
  const store = hooked(createMemoryBlobStore(), {
    async before(call) {
      if (call !== 'create') return;
      inFlight += 1;
      most = Math.max(most, inFlight);
      await new Promise<void>((resolve) => {
        waiting.push(resolve);
        if (waiting.length < 64) return;
        for (const go of waiting) go();
        waiting = [];
      });
    },
    after(call) {
      if (call === 'create') inFlight -= 1;
    },
  });
  await flushed(
    open(store),
    prefixes.flatMap((prefix) => locationsIn(prefix, 3, prefix)),
  );
  expect(most).toBe(64);
  expect(await shardNames(store)).toEqual(prefixes);
});
