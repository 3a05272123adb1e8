/** What repair lists and reads: each pointer once, of many too, nothing that it does not need, and in bounded memory. */
import { describe, expect, test } from 'vitest';
import { chunkBlobName, thinBlobName, thinMetadata } from '../../src/chunks/chunk-blobs.ts';
import type { ChunkLocation } from '../../src/chunks/location.ts';
import { findRepairMarker } from '../../src/index/marker.ts';
import { type RepairOptions, repairIndex } from '../../src/index/repair.ts';
import { allRoots } from '../../src/index/root-view.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import { hashOf } from '../kit/arbitraries.ts';
import { hooked, keys, locationsIn, watched } from './index-kit.ts';
import {
  chunksOf,
  createStorage,
  namesOf,
  placeIn,
  putLarge,
  putLegacyPointer,
  putPacked,
  putPointer,
  putShard,
  putTar,
} from './repairing.ts';

type Storage = ReturnType<typeof createStorage>;
const tar = hashOf('tar');

/** A repair, and the names of the blobs that it read. */
async function repairWatched({ data, state }: Storage, options: Partial<RepairOptions> = {}) {
  const watchedData = watched(data.store);
  const watchedState = watched(state.store);
  const parts = { data: new SealedBlobs(watchedData.store, keys), state: new SealedBlobs(watchedState.store, keys) };
  const report = await repairIndex(parts, { owner: 'test', ...options });
  const read = (calls: readonly string[]) =>
    calls.filter((call) => call.startsWith('read ')).map((call) => call.slice('read '.length));
  return { report, dataRead: read(watchedData.calls), stateRead: read(watchedState.calls) };
}

async function entries({ fresh }: Storage): Promise<string[]> {
  return await Array.fromAsync(fresh().locations(), ({ hash }) => hash);
}

function hashes(locations: readonly ChunkLocation[]): string[] {
  return locations.map(({ hash }) => hash).sort();
}

describe('repair', () => {
  test('takes every pointer of however many, and reads each body once', async () => {
    const storage = createStorage();
    const { store } = storage.data;
    await putTar(store, tar);
    const own = locationsIn('', 300, 'own').map(({ hash }) => placeIn(tar, hash));
    const legacy = locationsIn('', 600, 'legacy').map(({ hash }) => placeIn(tar, hash));
    for (const location of own) await putPointer(store, location);
    for (const location of legacy) await putLegacyPointer(store, location);
    const tars = locationsIn('', 600, 'tars').map(({ hash }) => hash);
    const packed = locationsIn('', 600, 'packed').map(({ hash }, n) => placeIn(tars[n] ?? '', hash));
    for (const location of packed) {
      await putTar(store, location.blob);
      await putPacked(storage.data, location.blob, [location]);
    }
    const { report, dataRead } = await repairWatched(storage);
    expect(report).toMatchObject({ entries: 1_500, quarantinedCount: 0, listed: 1 + 300 + 600 + 600 + 600, passes: 1 });
    expect(await entries(storage)).toEqual(hashes([...own, ...legacy, ...packed]));
    const bodies = [...legacy.map(({ hash }) => chunkBlobName(hash)), ...tars.map(thinBlobName)];
    expect(dataRead.sort()).toEqual(bodies.sort());
  });

  test('reads no body that is too long for a pointer, or of another root, and no shard that it wrote', async () => {
    const storage = createStorage();
    const { store } = storage.data;
    await putTar(store, tar);
    const [mine, other, long] = [...chunksOf(tar, 'a', 1), ...chunksOf(tar, 'c', 1), ...chunksOf(tar, 'a', 1, 'long')];
    for (const location of [mine!, other!]) await putLegacyPointer(store, location);
    const { firn_parent: _, ...metadata } = thinMetadata(long!);
    await store.create(chunkBlobName(long!.hash), Buffer.alloc(129, tar), { metadata });
    await putLarge(store, `a${hashOf('large').slice(1)}`);
    await putShard(storage.state, 'a', [mine!]);
    await putShard(storage.state, 'a7', [mine!]);
    await storage.state.store.create('chunk-index/a/stray', Buffer.from('whatever'));
    const { report, dataRead, stateRead } = await repairWatched(storage, { roots: ['a'] });
    expect(report).toMatchObject({ entries: 2, quarantinedCount: 1, shardsWritten: 1, shardsRemoved: 2 });
    expect(dataRead).toEqual([chunkBlobName(mine!.hash)]);
    expect(stateRead.sort()).toEqual(['chunk-index/a', 'chunk-index/a7', 'repair']);
  });

  test('asks for no properties of what the listing has proved', async () => {
    const storage = createStorage();
    await putTar(storage.data.store, tar);
    await putPacked(storage.data, tar, chunksOf(tar, 'a', 3));
    await putPointer(storage.data.store, chunksOf(tar, 'a', 1, 'own')[0] as ChunkLocation);
    await putLarge(storage.data.store, `a${hashOf('large').slice(1)}`);
    await storage.repair();
    const { store, calls } = watched(storage.data.store);
    await repairIndex({ data: new SealedBlobs(store, keys), state: storage.state }, { owner: 'test' });
    expect(calls).toEqual(['list chunks/', 'list thin/', `read ${thinBlobName(tar)}`]);
  });

  test('sets aside one place of nonsense among so many that they are packed as they come', async () => {
    const storage = createStorage();
    const { store } = storage.data;
    await putTar(store, tar);
    const many = chunksOf(tar, 'a', 600);
    for (const [n, location] of many.entries()) {
      // More than the table of locations has bits for.
      await putPointer(store, n === 300 ? { ...location, offsetInFrame: 99_999_999_999 } : location);
    }
    expect(await storage.repair()).toMatchObject({
      entries: 599,
      quarantined: [{ blob: chunkBlobName(many[300]!.hash), reason: expect.stringContaining('behind the end of any') }],
    });
    expect(await entries(storage)).toEqual(hashes(many.toSpliced(300, 1)));
  });

  test('sets aside a pointer that vanishes between its listing and its reading', async () => {
    const storage = createStorage();
    const { store } = storage.data;
    await putTar(store, tar);
    const [legacy, packed] = chunksOf(tar, 'a', 2);
    await putLegacyPointer(store, legacy!);
    await putPacked(storage.data, tar, [packed!]);
    const vanishing = hooked(store, {
      before: async (call, name) => {
        if (call === 'read') await store.delete(name);
      },
    });
    const parts = { data: new SealedBlobs(vanishing, keys), state: storage.state };
    const report = await repairIndex(parts, { owner: 'test' });
    expect(report).toMatchObject({ entries: 0, quarantinedCount: 2, finished: true });
    expect(report.quarantined).toEqual([
      { blob: chunkBlobName(legacy!.hash), reason: 'its body names no tar chunk' },
      { blob: thinBlobName(tar), reason: `The blob ${thinBlobName(tar)} is missing.` },
    ]);
  });

  test('lists again only what did not fit, as often as the budget asks, and reports everything once', async () => {
    const storage = createStorage();
    const { store } = storage.data;
    await putTar(store, tar);
    const roots = ['1', '2', '3', '4', '5', '6', '7', 'f'];
    const packed = roots.flatMap((root) => chunksOf(tar, root, 2));
    await putPacked(storage.data, tar, packed);
    const own = roots.flatMap((root) => chunksOf(tar, root, 1, 'own'));
    for (const location of own) await putPointer(store, location);
    for (const root of roots) await putPointer(store, placeIn(hashOf('no tar'), root + hashOf('bad').slice(1)));
    await store.create('chunks/readme', Buffer.from('not ours'));
    const metadata = { firn_type: 'thin', firn_format: '1' };
    await store.create(chunkBlobName(`f${hashOf('damaged').slice(1)}`), Buffer.alloc(0), { metadata });
    await store.create(thinBlobName(hashOf('damaged')), Buffer.from('damaged'));
    const { store: data, calls } = watched(store);
    const parts = { data: new SealedBlobs(data, keys), state: storage.state };
    // Each root has four places, one of which turns out to be wrong.
    const report = await repairIndex(parts, { owner: 'test', locationsMax: 8 });
    expect(report).toMatchObject({ passes: 4, entries: 24, listed: 21, quarantinedCount: 11, roots: allRoots.length });
    expect(calls.filter((call) => call === 'list chunks/')).toHaveLength(1);
    expect(calls.filter((call) => call === 'list thin/')).toHaveLength(4);
    // Of the roots that are done nothing is listed again.
    expect(calls.filter((call) => call === 'list chunks/1' || call === 'list chunks/2')).toEqual([]);
    expect(await entries(storage)).toEqual(hashes([...packed, ...own]));
  });

  test('holds one root whatever the budget, and nothing of roots that it does not repair', async () => {
    const storage = createStorage();
    await putTar(storage.data.store, tar);
    const many = ['1', '2', '3'].flatMap((root) => chunksOf(tar, root, 20));
    await putPacked(storage.data, tar, many);
    // One for each of these, and one for what is below and above them.
    expect(await storage.repair({ locationsMax: 1 })).toMatchObject({ passes: 5, entries: 60 });
    const few = [...chunksOf(tar, '0', 2, 'few'), ...chunksOf(tar, 'e', 2, 'few')];
    for (const location of few) await putPointer(storage.data.store, location);
    expect(await storage.repair({ roots: ['0', 'e'], locationsMax: 4 })).toMatchObject({ passes: 1, entries: 4 });
  });
});

test('a repair that is cancelled ends with the reason of that, leaves the marker, and is finished by the next', async () => {
  const storage = createStorage();
  await putTar(storage.data.store, tar);
  const chunks = ['1', '2', '3'].flatMap((root) => chunksOf(tar, root, 2));
  await putPacked(storage.data, tar, chunks);
  const cancelling = new AbortController();
  const reason = new Error('enough');
  const state = hooked(storage.state.store, {
    after: (call, name) => {
      if (call === 'create' && name === 'chunk-index/1') cancelling.abort(reason);
    },
  });
  const parts = { data: storage.data, state: new SealedBlobs(state, keys) };
  const now = () => new Date('2026-01-02T03:04:05Z');
  await expect(repairIndex(parts, { owner: 'me', now, signal: cancelling.signal })).rejects.toBe(reason);
  expect(await namesOf(storage.state.store, 'chunk-index/')).toEqual(['chunk-index/1']);
  expect(await findRepairMarker(storage.state.store)).toMatchObject({
    owner: 'me',
    started: '2026-01-02T03:04:05.000Z',
  });
  expect(await storage.repair()).toMatchObject({ entries: 6, finished: true });
  expect(await entries(storage)).toEqual(hashes(chunks));
});
