/** What chunk blobs and pointers that are damaged, foreign or missing do to a repair, and what is right afterwards. */
import { describe, expect, test } from 'vitest';
import { archiveBatch } from '../../src/archive/archive-batch.ts';
import { sealDueBatches } from '../../src/archive/batches.ts';
import { chunkBlobName, largeMetadata, tarMetadata, thinBlobName, thinMetadata } from '../../src/chunks/chunk-blobs.ts';
import { type ChunkLocation, LocationTable } from '../../src/chunks/location.ts';
import { repairIndex } from '../../src/index/repair.ts';
import { findDrift } from '../../src/index/repair-check.ts';
import { rootOf } from '../../src/index/root-view.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import type { Repository } from '../../src/repository.ts';
import type { BlobMetadata } from '../../src/storage/blob-store.ts';
import { hashOf } from '../kit/arbitraries.ts';
import { damage } from '../kit/damage.ts';
import { contentOf, createTestRepository, upload } from '../kit/repository.ts';
import { restored } from '../restore/restoring.ts';
import { shardNames } from './index-kit.ts';
import {
  chunksOf,
  createStorage,
  deleteAll,
  namesOf,
  placeIn,
  publishFiles,
  putLarge,
  putPacked,
  putPointer,
  putShard,
  putTar,
  TAR_BYTES,
} from './repairing.ts';

const owner = 'test';
const tar = hashOf('tar');
const good = chunksOf(tar, 'a', 3);
const [bad] = chunksOf(tar, 'a', 1, 'bad') as [ChunkLocation];

/** A tar chunk with three chunks, whose pointers are whole. */
async function createSound() {
  const storage = createStorage();
  await putTar(storage.data.store, tar);
  await putPacked(storage.data, tar, good);
  return storage;
}

type Storage = Awaited<ReturnType<typeof createSound>>;

async function entries({ fresh }: Storage): Promise<ChunkLocation[]> {
  return await Array.fromAsync(fresh().locations());
}

function byHash(locations: readonly ChunkLocation[]): ChunkLocation[] {
  return [...locations].sort((a, b) => (a.hash < b.hash ? -1 : 1));
}

describe('a pointer of its own', () => {
  const { firn_parent: _, ...orphan } = thinMetadata(bad);
  const cases: [string, BlobMetadata, string, RegExp][] = [
    ['that names no tar chunk', orphan as BlobMetadata, '', /^it names no tar chunk$/],
    ['whose tar chunk is no hash', { ...thinMetadata(bad), firn_parent: 'aa' }, '', /^it names no tar chunk$/],
    ['without a frame', { ...thinMetadata(bad), firn_frame_bytes: '0' }, '', /^it points at a frame of no bytes$/],
    ['behind the end of its tar chunk', thinMetadata({ ...bad, frameOffset: TAR_BYTES - 99 }), '', /behind the end of/],
    ['that points at a large chunk', thinMetadata({ ...bad, blob: hashOf('large') }), '', /is missing$/],
    ['of an unknown type', { ...thinMetadata(bad), firn_type: 'fat' }, '', /^its type «fat» is unknown$/],
    ['of no format', { firn_type: 'thin' }, '', /^its metadata lacks firn_format$/],
    ['of the legacy form, cut off', orphan as BlobMetadata, tar.slice(1), /^it names no tar chunk$/],
  ];

  test.each(cases)(
    '%s is set aside; the chunks of the others are in the index',
    async (_case, metadata, body, reason) => {
      const storage = await createSound();
      await putLarge(storage.data.store, hashOf('large'));
      await storage.data.store.create(chunkBlobName(bad.hash), Buffer.from(body), { metadata });
      expect(await storage.repair({ roots: ['a'] })).toMatchObject({
        entries: 3,
        quarantinedCount: 1,
        quarantined: [{ blob: chunkBlobName(bad.hash), reason: expect.stringMatching(reason) }],
        finished: true,
      });
      expect(await entries(storage)).toEqual(byHash(good));
    },
  );

  test('of the legacy form is understood with its newline, and when it lies offline it is set aside', async () => {
    const storage = await createSound();
    const { firn_parent: parent = '', ...metadata } = thinMetadata(bad);
    const [offline] = chunksOf(tar, 'a', 1, 'offline') as [ChunkLocation];
    await storage.data.store.create(chunkBlobName(bad.hash), Buffer.from(`${parent}\n`), { metadata });
    await storage.data.store.create(chunkBlobName(offline.hash), Buffer.from(parent), { metadata, tier: 'Archive' });
    expect(await storage.repair()).toMatchObject({
      entries: 4,
      quarantined: [{ blob: chunkBlobName(offline.hash), reason: 'its body names no tar chunk' }],
    });
    expect(await entries(storage)).toEqual(byHash([...good, bad]));
  });

  test('is reported by the repair of its own root only, and read by no other', async () => {
    const storage = await createSound();
    await putPointer(storage.data.store, { ...bad, blob: hashOf('no tar') });
    await storage.data.store.create('chunks/readme', Buffer.from('not ours'));
    expect(await storage.repair({ roots: ['b'] })).toMatchObject({ entries: 0, quarantinedCount: 0, listed: 4 });
    expect(await shardNames(storage.state.store)).toEqual([]);
    expect(await storage.repair({ roots: ['a'] })).toMatchObject({ entries: 3, quarantinedCount: 1 });
    expect(await storage.repair()).toMatchObject({ entries: 3, quarantinedCount: 2 });
  });
});

describe('packed pointers', () => {
  const other = hashOf('other tar');
  const name = thinBlobName(other);
  const cases: [string, (storage: Storage) => Promise<unknown>, RegExp][] = [
    ['with a flipped bit', async ({ data }) => await damage(data.store, name), /damaged or was tampered with/],
    [
      'of another tar chunk',
      async ({ data }) => await replaceThin(data, LocationTable.of([bad]).bytes),
      /points into another tar chunk/,
    ],
    [
      'of a newer version',
      async ({ data }) => {
        const { bytes } = LocationTable.of([placeIn(other, bad.hash)]);
        bytes.writeUInt32LE(2, 4);
        await replaceThin(data, bytes);
      },
      /format version 2/,
    ],
    ['that are no table', async ({ data }) => await replaceThin(data, Buffer.from('no table')), /cannot be understood/],
    [
      'in the Archive tier',
      async ({ data: { store } }) => {
        const { body } = await store.read(name);
        await store.delete(name);
        await store.create(name, body, { tier: 'Archive' });
      },
      /Archive tier/,
    ],
  ];

  async function replaceThin(data: Storage['data'], body: Buffer): Promise<void> {
    await data.store.delete(name);
    await data.create('thin', name, body);
  }

  test.each(cases)('%s are set aside; the chunks of the others are in the index', async (_case, break_, reason) => {
    const storage = await createSound();
    await putTar(storage.data.store, other);
    await putPacked(storage.data, other, [placeIn(other, bad.hash)]);
    await break_(storage);
    const report = await storage.repair();
    expect(report).toMatchObject({ entries: 3, quarantinedCount: 1, finished: true });
    expect(report.quarantined).toEqual([{ blob: name, reason: expect.stringMatching(reason) }]);
    expect(await entries(storage)).toEqual(byHash(good));
  });

  test('of which one makes no sense count once as set aside, and the others are taken', async () => {
    const storage = await createSound();
    await putTar(storage.data.store, other);
    const [one, two, three] = chunksOf(other, 'c', 3) as [ChunkLocation, ChunkLocation, ChunkLocation];
    await putPacked(storage.data, other, [
      one,
      { ...two, frameOffset: TAR_BYTES },
      { ...three, offsetInFrame: 4_000_000_000 },
    ]);
    expect(await storage.repair()).toMatchObject({ entries: 4, quarantinedCount: 1, quarantined: [{ blob: name }] });
    expect(await entries(storage)).toEqual(byHash([...good, one]));
  });
});

describe('a chunk blob whose own metadata is damaged', () => {
  test('is set aside, and the pointers into a tar chunk are taken: they are as good as its bytes', async () => {
    const storage = await createSound();
    await storage.data.store.delete(chunkBlobName(tar));
    const metadata = { ...tarMetadata(TAR_BYTES, [{ members: 3, storedBytes: TAR_BYTES }]), firn_frames: '3:7' };
    await storage.data.store.create(chunkBlobName(tar), Buffer.alloc(TAR_BYTES), { metadata });
    expect(await storage.repair()).toMatchObject({
      entries: 3,
      quarantined: [{ blob: chunkBlobName(tar), reason: 'its frames do not add up to the blob' }],
    });
    expect(await entries(storage)).toEqual(byHash(good));
  });

  test.each([
    ['is lacking a number', 100, { firn_type: 'large', firn_format: '1' }, true],
    ['has another length', 100, largeMetadata(200, 99), true],
    ['is of a newer format', 100, { ...largeMetadata(200, 100), firn_format: '2' }, true],
    ['is gone', 100, {}, false],
    ['says that it is a tar chunk', 100, tarMetadata(100, [{ members: 1, storedBytes: 100 }]), false],
    ['is right, but the blob was cut off', 99, largeMetadata(200, 100), false],
  ])(
    '%s: what the index knows of a large chunk stays when the blob is as long',
    async (_case, bytes, metadata, stays) => {
      const storage = await createSound();
      const { store } = storage.data;
      const large = await putLarge(store, hashOf('large'));
      expect(await storage.repair()).toMatchObject({ entries: 4, quarantinedCount: 0 });
      await store.delete(chunkBlobName(large.hash));
      await store.create(chunkBlobName(large.hash), Buffer.alloc(bytes), { metadata });
      const root = rootOf(large.hash);
      expect(await findDrift(storage, [root])).toHaveLength(stays ? 0 : 1);
      await storage.repair();
      expect(await entries(storage)).toEqual(byHash(stays ? [...good, large] : good));
      // Without the index nothing tells of it.
      await deleteAll(storage.state.store, 'chunk-index/');
      expect(await storage.repair()).toMatchObject({ entries: 3 });
    },
  );
});

describe('an entry that only the index has', () => {
  const elsewhere = `a${hashOf('elsewhere').slice(1)}`;
  const cases: [string, (large: ChunkLocation) => ChunkLocation, boolean][] = [
    ['in a tar chunk that is there stays', () => bad, true],
    ['behind the end of that tar chunk goes', () => ({ ...bad, frameOffset: TAR_BYTES - 99 }), false],
    ['behind the end of any frame goes', () => ({ ...bad, offsetInFrame: 4_000_000_000 }), false],
    ['in a tar chunk that is a large chunk goes', (large) => ({ ...bad, blob: large.hash }), false],
    ['of a large chunk of another hash goes', (large) => ({ ...large, hash: elsewhere }), false],
    ['of a large chunk that is a tar chunk goes', (large) => ({ ...large, hash: elsewhere, blob: tar }), false],
  ];

  test.each(cases)('%s', async (_case, entryFor, stays) => {
    const storage = await createSound();
    const large = await putLarge(storage.data.store, `a${hashOf('large').slice(1)}`);
    const entry = entryFor(large);
    await putShard(storage.state, 'a', [entry]);
    expect(await findDrift(storage, ['a'])).toHaveLength(stays ? 0 : 1);
    expect(await storage.repair()).toMatchObject({ entries: stays ? 5 : 4, quarantinedCount: 0 });
    expect(await entries(storage)).toEqual(byHash([...good, large, ...(stays ? [entry] : [])]));
  });
});

test('of several places of a chunk the same one is taken whatever tells of it: a large chunk, else the first in the first tar chunk', async () => {
  const [first, second, third] = [tar, hashOf('another'), hashOf('yet another')].sort() as [string, string, string];
  const hashes = chunksOf(tar, 'c', 7).map(({ hash }) => hash);
  const at = (n: number, blob: string, place: Partial<ChunkLocation> = {}) => ({
    ...placeIn(blob, hashes[n] ?? ''),
    ...place,
  });
  const storage = createStorage();
  const { store } = storage.data;
  for (const blob of [first, second, third]) await putTar(store, blob);
  const large = await putLarge(store, hashes[0] ?? '');
  const own = [
    at(1, first),
    at(2, third),
    at(3, second, { frameOffset: 1 }),
    at(4, second, { frameOffset: 2 }),
    at(5, second, { offsetInFrame: 1 }),
    at(6, second, { offsetInFrame: 2 }),
  ];
  for (const location of own) await putPointer(store, location);
  await putPacked(storage.data, first, [at(0, first), at(2, first)]);
  await putPacked(storage.data, second, [
    at(0, second),
    at(1, second),
    at(2, second),
    at(3, second, { frameOffset: 2 }),
    at(4, second, { frameOffset: 1 }),
    at(5, second, { offsetInFrame: 2 }),
    at(6, second, { offsetInFrame: 1 }),
  ]);
  await putPacked(storage.data, third, [at(1, third)]);
  // What the index has of it does not count.
  await putShard(storage.state, 'c', [at(0, third), at(1, third), at(2, third)]);
  expect(await storage.repair()).toMatchObject({ entries: 7, quarantinedCount: 0 });
  const expected = [
    large,
    at(1, first),
    at(2, first),
    at(3, second, { frameOffset: 1 }),
    at(4, second, { frameOffset: 1 }),
    at(5, second, { offsetInFrame: 1 }),
    at(6, second, { offsetInFrame: 1 }),
  ];
  expect(await entries(storage)).toEqual(byHash(expected));
});

test('a place has the tier that its tar chunk has now', async () => {
  const storage = createStorage();
  const metadata = tarMetadata(TAR_BYTES, [{ members: 3, storedBytes: TAR_BYTES }]);
  await storage.data.store.create(chunkBlobName(tar), Buffer.alloc(TAR_BYTES), { metadata, tier: 'Archive' });
  await putPacked(storage.data, tar, good);
  await putPointer(storage.data.store, bad);
  await storage.repair();
  expect(await entries(storage)).toEqual(byHash([...good, bad]).map((at) => ({ ...at, tier: 'Archive' })));
});

describe('chunks that only a damaged pointer told of', () => {
  const files = { a: 'content of a', b: 'content of b' };

  async function published(thinChunks: 'packed' | 'blob') {
    const { repository, reopen } = await createTestRepository({ thinChunks });
    const snapshot = await publishFiles(repository, 'docs', files);
    return { repository, reopen, snapshot };
  }

  /** Archives what was uploaded, and publishes it. */
  async function archiveAndPublish(repository: Repository): Promise<void> {
    for (const { batch } of await repository.journalOf('docs').batches()) {
      await archiveBatch(repository, { source: 'docs', batch });
    }
    await publishSource(repository, 'docs');
  }

  test.each([
    ['packed' as const, 'FIRN_SEAL_BROKEN', {}],
    ['blob' as const, 'FIRN_BLOB_DAMAGED', { b: files.b }],
  ])(
    'are missing by name (%s pointers); an archive of them names the blob in its way, and brings them back when it is gone',
    async (thinChunks, code, others) => {
      const { repository, reopen, snapshot } = await published(thinChunks);
      const { store } = repository.data;
      const [thin = ''] = await namesOf(store, 'thin/');
      const name = thinChunks === 'packed' ? thin : chunkBlobName(repository.keys.hash(Buffer.from(files.a)));
      if (thinChunks === 'packed') await damage(store, name);
      else {
        await store.delete(name);
        await store.create(name, Buffer.alloc(0), { metadata: { firn_type: 'thin', firn_format: '1' } });
      }
      await deleteAll(repository.state.store, 'chunk-index/');
      expect(await repairIndex(await reopen(), { owner })).toMatchObject({
        quarantinedCount: 1,
        quarantined: [{ blob: name }],
      });
      const some = await restored(await reopen(), snapshot);
      expect(some.files).toEqual(others);
      expect(new Set(Object.values(some.failed))).toEqual(new Set(['FIRN_CHUNK_MISSING']));
      // The same files once more, as new uploads.
      for (const [path, content] of Object.entries(files)) await upload(repository, `docs/${path}`, content);
      await sealDueBatches(repository, { source: 'docs', force: true });
      await expect(archiveAndPublish(await reopen())).rejects.toMatchObject({ code, details: { blob: name } });
      await store.delete(name);
      await archiveAndPublish(await reopen());
      expect(await contentOf(await reopen(), snapshot)).toEqual(files);
      // Also when the index is lost once more.
      await deleteAll(repository.state.store, 'chunk-index/');
      expect(await repairIndex(await reopen(), { owner })).toMatchObject({ quarantinedCount: 0 });
      expect(await contentOf(await reopen(), snapshot)).toEqual(files);
    },
  );

  test('are never taken for stored because a pointer is there whose tar chunk is missing', async () => {
    const { repository, reopen, snapshot } = await published('blob');
    const { store } = repository.data;
    const pointers = Object.values(files).map((content) => chunkBlobName(repository.keys.hash(Buffer.from(content))));
    const { metadata } = await store.properties(pointers[0] ?? '');
    await store.delete(chunkBlobName(metadata.firn_parent ?? ''));
    await deleteAll(repository.state.store, 'chunk-index/');
    const report = await repairIndex(await reopen(), { owner });
    expect(report.quarantined.map(({ blob }) => blob).sort()).toEqual([...pointers].sort());
    // In another bundle than before: the tar chunk that the pointers name does not come back.
    for (const [path, content] of Object.entries({ ...files, c: 'new' })) {
      await upload(repository, `docs/${path}`, content);
    }
    await sealDueBatches(repository, { source: 'docs', force: true });
    await expect(archiveAndPublish(await reopen())).rejects.toMatchObject({
      code: 'FIRN_BLOB_DAMAGED',
      details: { blob: expect.stringMatching(pointers.join('|')), problem: expect.stringContaining('is missing') },
    });
    for (const pointer of pointers) await store.delete(pointer);
    await archiveAndPublish(await reopen());
    await deleteAll(repository.state.store, 'chunk-index/');
    expect(await repairIndex(await reopen(), { owner })).toMatchObject({ entries: 3, quarantinedCount: 0 });
    expect(await contentOf(await reopen(), snapshot)).toEqual(files);
  });
});
