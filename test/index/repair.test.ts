import { describe, expect, test } from 'vitest';
import { thinMetadata } from '../../src/chunks/chunk-blobs.ts';
import { type ChunkLocation, LocationTable } from '../../src/chunks/location.ts';
import { findRepairMarker, REPAIR_MARKER, takeRepairMarker } from '../../src/index/marker.ts';
import { type RepairOptions, repairIndex } from '../../src/index/repair.ts';
import { allRoots, rootOf } from '../../src/index/root-view.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import type { Repository } from '../../src/repository.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { hashOf, locationOf } from '../kit/arbitraries.ts';
import { damage } from '../kit/damage.ts';
import { deathsOf, Life, mortalStore, ProcessDied } from '../kit/mortal.ts';
import { archiveAll, contentOf, createTestRepository, upload } from '../kit/repository.ts';
import { hooked } from './index-kit.ts';
import { expectRight, makeRuin, openPlain, repairRuin } from './repair-ruin.ts';
import {
  copyOf,
  deleteAll,
  entriesOf,
  fingerprintOf,
  namesOf,
  placeIn,
  publishFiles,
  putShard,
  putTar,
} from './repairing.ts';

const owner = 'test';
const files = Object.fromEntries(Array.from({ length: 12 }, (_, n) => [`f${n}`, `content ${n} `.repeat(n + 1)]));
const large = Buffer.alloc(5 * 1024 * 1024, 'large chunk ');

async function repair(repository: Repository, options: Partial<RepairOptions> = {}) {
  return await repairIndex(repository, { owner, ...options });
}

async function publishedRepository(thinChunks: 'packed' | 'blob' = 'packed') {
  const { repository, reopen } = await createTestRepository({
    thinChunks,
    encrypted: false,
    chunking: { method: 'file' },
  });
  const snapshot = await publishFiles(repository, 'docs', { ...files, large });
  return {
    repository,
    reopen,
    snapshot,
    content: await contentOf(repository, snapshot),
    state: repository.state.store,
  };
}

/** Turns the pointers of a repository with a blob for each chunk into the legacy form. */
async function toLegacy({ data }: Repository): Promise<number> {
  let count = 0;
  for (const item of await Array.fromAsync(data.store.list({ prefix: 'chunks/' }))) {
    const { firn_parent: parent, ...metadata } = item.metadata;
    if (parent === undefined) continue;
    count += 1;
    await data.store.delete(item.name);
    await data.store.create(item.name, Buffer.from(parent), { metadata, tier: 'Cool' });
  }
  return count;
}

describe('repair brings the index back', () => {
  test('when every shard is deleted, so that a fresh instance restores every snapshot', async () => {
    const { repository, reopen, snapshot, content, state } = await publishedRepository();
    const before = await entriesOf(repository);
    await deleteAll(state, 'chunk-index/');
    const report = await repair(repository);
    expect(report).toMatchObject({
      roots: allRoots.length,
      entries: 13,
      quarantinedCount: 0,
      finished: true,
      passes: 1,
      listed: 3,
    });
    const fresh = await reopen();
    expect(await entriesOf(fresh)).toEqual(before);
    expect(await contentOf(fresh, snapshot)).toEqual(content);
    expect(await findRepairMarker(state)).toBeUndefined();
  });

  test('to the same index from packed pointers, from pointers of their own and from legacy ones', async () => {
    const packed = await publishedRepository('packed');
    const single = await publishedRepository('blob');
    const legacy = await publishedRepository('blob');
    expect(await toLegacy(legacy.repository)).toBe(12);
    const expected = await entriesOf(packed.repository);
    for (const { repository, reopen, state } of [packed, single, legacy]) {
      await deleteAll(state, 'chunk-index/');
      expect(await repair(repository)).toMatchObject({ entries: 13, quarantinedCount: 0 });
      expect(await entriesOf(await reopen())).toEqual(expected);
    }
  });

  test('in several passes where not all fits into memory', async () => {
    const { repository, reopen, state } = await publishedRepository();
    const before = await entriesOf(repository);
    await deleteAll(state, 'chunk-index/');
    const report = await repair(repository, { locationsMax: 3 });
    expect(report).toMatchObject({ entries: 13, roots: allRoots.length, listed: 3 });
    expect(report.passes).toBeGreaterThan(2);
    expect(await entriesOf(await reopen())).toEqual(before);
  });

  test('of one root only, and touches no other shard', async () => {
    const { repository, reopen, state } = await publishedRepository();
    const before = await entriesOf(repository);
    const [victim = '', other = ''] = await namesOf(state, 'chunk-index/');
    const root = rootOf(victim.slice('chunk-index/'.length));
    await state.delete(victim);
    const etag = (await state.properties(other)).etag;
    const report = await repair(repository, { roots: [root] });
    expect(report).toMatchObject({ roots: 1, shardsWritten: 1, shardsRemoved: 0, finished: true });
    expect((await state.properties(other)).etag).toBe(etag);
    expect(await entriesOf(await reopen())).toEqual(before);
  });

  test('and writes nothing where nothing is wrong', async () => {
    const { repository, reopen } = await publishedRepository();
    const before = await entriesOf(repository);
    expect(await repair(repository)).toMatchObject({ shardsWritten: 0, shardsRemoved: 0, entries: 13 });
    expect(await entriesOf(await reopen())).toEqual(before);
  });
});

describe('repair meets bad shards', () => {
  const shardOf = async (state: BlobStore) => (await namesOf(state, 'chunk-index/'))[0]!;

  test.each<[string, (state: BlobStore, name: string) => Promise<void>]>([
    [
      'a truncated one',
      async (state, name) => {
        const { body, properties } = await state.read(name);
        await state.replace(name, body.subarray(0, body.length - 7), { ifMatch: properties.etag });
      },
    ],
    ['one with a flipped bit', damage],
    [
      'one under the wrong prefix',
      async (state, name) => {
        const { body } = await state.read(name);
        await state.create('chunk-index/zz', body);
        await state.create(`${name}/x`, body);
      },
    ],
  ])('%s', async (_, spoil) => {
    const { repository, reopen, state } = await publishedRepository();
    const before = await entriesOf(repository);
    await spoil(state, await shardOf(state));
    const report = await repair(repository);
    expect(report.shardsWritten + report.shardsRemoved).toBeGreaterThan(0);
    expect(await entriesOf(await reopen())).toEqual(before);
  });

  test('two overlapping levels: what is true of both is kept once', async () => {
    const { repository, reopen, state } = await publishedRepository();
    const before = await entriesOf(repository);
    const name = await shardOf(state);
    const { body } = await repository.state.get('shard', name);
    const [location] = LocationTable.from(name, body).locations();
    const child = `chunk-index/${location!.hash.slice(0, 2)}`;
    await repository.state.create('shard', child, body);
    expect(await repair(repository)).toMatchObject({ shardsRemoved: 1 });
    expect(await entriesOf(await reopen())).toEqual(before);
    expect(await namesOf(state, child)).toEqual([]);
  });

  test('an entry whose chunk blob is missing goes; one that lost its pointer stays', async () => {
    const { repository, reopen, state } = await publishedRepository();
    const before = await entriesOf(repository);
    const shards = await namesOf(state, 'chunk-index/');
    const empty = allRoots.find((root) => !shards.includes(`chunk-index/${root}`));
    const ghost = locationOf(empty + hashOf('ghost').slice(1));
    const index = repository.createIndex();
    index.record([ghost]);
    await index.flush();
    await deleteAll(repository.data.store, 'thin/');
    expect(await repair(repository)).toMatchObject({ entries: 13 });
    expect(await entriesOf(await reopen())).toEqual(before);
    expect(await namesOf(state, 'chunk-index/')).toEqual(shards);
  });

  test('one of a newer version stops repair with its code, and the marker stays', async () => {
    const { repository, state } = await publishedRepository();
    const name = await shardOf(state);
    const { body, etag } = await repository.state.get('shard', name);
    body.writeUInt32LE(99, 4);
    await repository.state.replace('shard', name, body, { ifMatch: etag });
    await expect(repair(repository)).rejects.toMatchObject({ code: 'FIRN_REPOSITORY_NEWER' });
    expect(await findRepairMarker(state)).toBeDefined();
  });
});

describe('repair sets aside', () => {
  const hash = `aa${hashOf('bad').slice(2)}`;
  const name = `chunks/${hash}`;
  const pointer: ChunkLocation = { ...locationOf(hash), blob: hashOf('no tar') };
  const { firn_raw_bytes: _, ...incomplete } = thinMetadata(pointer);

  test.each([
    ['a pointer whose tar chunk is missing', name, '', thinMetadata(pointer), /is missing/],
    ['a pointer with missing metadata', name, '', incomplete, /lacks firn_raw_bytes/],
    ['a pointer with nonsensical metadata', name, '', { ...thinMetadata(pointer), firn_offset: '-1' }, /no number/],
    ['a pointer far behind any frame', name, '', { ...thinMetadata(pointer), firn_offset: '99999999999' }, /behind/],
    ['a legacy pointer whose body is no hash', name, 'x'.repeat(64), legacyOf(pointer), /no tar chunk/],
    ['a legacy pointer that is a large file', name, 'x'.repeat(64_000), legacyOf(pointer), /no tar chunk/],
    ['a blob of a newer format', name, '', { ...thinMetadata(pointer), firn_format: '2' }, /format version 2/],
    ['a blob that is not ours', 'chunks/readme.txt', 'hello', {}, /no chunk of Firn/],
    ['a packed pointer of nonsense', `thin/${hash}`, 'nonsense', {}, /./],
    ['a packed pointer with another name', 'thin/x', 'nonsense', {}, /no pointer of Firn/],
  ])('%s, names it with the reason, and finishes', async (_case, blob, body, metadata, reason) => {
    const { repository, reopen, snapshot, content, state } = await publishedRepository();
    await repository.data.store.create(blob, Buffer.from(body), { metadata });
    await deleteAll(state, 'chunk-index/');
    const report = await repair(repository);
    expect(report).toMatchObject({ entries: 13, quarantinedCount: 1, finished: true });
    expect(report.quarantined).toEqual([{ blob, reason: expect.stringMatching(reason) }]);
    expect(await contentOf(await reopen(), snapshot)).toEqual(content);
    expect(await namesOf(repository.data.store, blob)).toEqual([blob]);
  });

  test('packed pointers whose tar chunk is missing, and counts beyond what it names', async () => {
    const { repository, state } = await publishedRepository();
    const [thin = ''] = await namesOf(repository.data.store, 'thin/');
    await repository.data.store.delete(thin.replace('thin/', 'chunks/'));
    for (let n = 0; n < 150; n += 1) await repository.data.store.create(`chunks/x${n}`, Buffer.alloc(0));
    await deleteAll(state, 'chunk-index/');
    const report = await repair(repository);
    expect(report).toMatchObject({ entries: 1, quarantinedCount: 151 });
    expect(report.quarantined).toHaveLength(100);
  });
});

function legacyOf(location: ChunkLocation): Record<string, string> {
  const { firn_parent: _, ...metadata } = thinMetadata(location);
  return metadata as Record<string, string>;
}

describe('repair beside others', () => {
  test('dying at any request, before or after its effect, and run again, it comes to the right index', async () => {
    const ruin = await makeRuin();
    const start = await fingerprintOf(ruin.state);
    const whole = await copyOf(ruin.state);
    const life = new Life();
    const run = (state: BlobStore, of: Life) =>
      repairRuin({ data: mortalStore(ruin.data, of), state: mortalStore(state, of) });
    await run(whole, life);
    const end = await fingerprintOf(whole);
    await expectRight(whole, ruin);

    const states = new Set<string>();
    const deaths = deathsOf(life);
    for (const death of deaths) {
      const state = await copyOf(ruin.state);
      await expect(run(state, new Life(death))).rejects.toBeInstanceOf(ProcessDied);
      // What is left is the same after many of them, since most only read: then so is what comes of it.
      const left = await fingerprintOf(state);
      if (states.has(left)) continue;
      states.add(left);
      if (left !== start && left !== end) expect(await namesOf(state, REPAIR_MARKER)).toEqual([REPAIR_MARKER]);
      expect((await openPlain(state).lookup(ruin.found)).size).toBe(ruin.found.length);
      expect(await repairRuin({ data: ruin.data, state })).toMatchObject({ finished: true, roots: allRoots.length });
      await expectRight(state, ruin);
    }
    process.stdout.write(`${deaths.length} points at which a repair died, ${states.size} states that it left\n`);
    expect(states.size).toBeGreaterThan(25);
  });

  test('two at once come to the right index and leave no marker', async () => {
    const { repository, reopen, state } = await publishedRepository();
    const before = await entriesOf(repository);
    await deleteAll(state, 'chunk-index/');
    const reports = await Promise.all([repair(repository), repair(repository)]);
    expect(reports.map(({ entries }) => entries)).toEqual([13, 13]);
    expect(reports.some(({ finished }) => finished)).toBe(true);
    expect(await entriesOf(await reopen())).toEqual(before);
    expect(await findRepairMarker(state)).toBeUndefined();
  });

  test('a repair of one root does not end one of all; one of all ends one of a root', async () => {
    const { repository, state } = await publishedRepository();
    await takeRepairMarker(state, { started: 'then', owner: 'dead', roots: undefined });
    await expect(repair(repository, { roots: ['a'] })).rejects.toMatchObject({ code: 'FIRN_REPAIR_UNFINISHED' });
    await repair(repository);
    await takeRepairMarker(state, { started: 'then', owner: 'dead', roots: ['a'] });
    await expect(repair(repository, { roots: ['b'] })).rejects.toMatchObject({ code: 'FIRN_REPAIR_UNFINISHED' });
    await repair(repository, { roots: ['a'] });
    expect(await findRepairMarker(state)).toBeUndefined();
  });

  test('a flush that began before it and writes while it lists loses nothing', async () => {
    const { repository, reopen, state } = await publishedRepository();
    await deleteAll(state, 'chunk-index/');
    // Its chunk blob was not there yet when the repair listed them.
    const tar = hashOf('late tar');
    const late = ['0', '7', 'f'].map((root) => placeIn(tar, root + hashOf('late').slice(1)));
    let stored = false;
    const racing = hooked(state, {
      before: async (call, name) => {
        if (stored || call !== 'list' || !name.startsWith('chunk-index/')) return;
        stored = true;
        await putTar(repository.data.store, tar);
        for (const location of late) await putShard(repository.state, rootOf(location.hash), [location]);
      },
    });
    const report = await repairIndex(
      { data: repository.data, state: new SealedBlobs(racing, repository.keys) },
      { owner },
    );
    expect(report.entries).toBe(16);
    const found = await (await reopen()).createIndex().lookup(late.map(({ hash }) => hash));
    expect([...found.values()].map(({ location }) => location)).toEqual(late);
  });

  test('while the marker stands a publish refuses, says what to run, loses nothing, and publishes afterwards', async () => {
    const { repository, reopen, state } = await publishedRepository();
    await upload(repository, 'docs/new', 'new content');
    await archiveAll(repository, 'docs');
    await takeRepairMarker(state, { started: 'then', owner: 'dead', roots: undefined });
    const refusal = publishSource(await reopen(), 'docs');
    await expect(refusal).rejects.toMatchObject({
      code: 'FIRN_REPAIR_UNFINISHED',
      retryable: true,
      advice: expect.stringContaining('firn repair-index'),
    });
    await repair(repository);
    const outcome = await publishSource(await reopen(), 'docs');
    expect(await contentOf(await reopen(), outcome!.snapshot!)).toMatchObject({ new: 'new content', f1: files.f1 });
  });

  test('while the marker stands a lookup that needs the shards refuses', async () => {
    const { repository, reopen, state } = await publishedRepository();
    const [entry = ''] = await entriesOf(repository);
    const { hash } = JSON.parse(entry) as ChunkLocation;
    await state.create(REPAIR_MARKER, Buffer.from('nonsense'));
    const index = (await reopen()).createIndex();
    await expect(index.lookup([hash])).rejects.toMatchObject({ code: 'FIRN_REPAIR_UNFINISHED' });
    await repair(repository);
    expect((await index.lookup([hash])).size).toBe(1);
  });
});
