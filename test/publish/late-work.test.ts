/** Work that comes late, twice, or after the storage around it changed: nothing of it may undo what is published. */
import { expect, test } from 'vitest';
import { archiveBatch } from '../../src/archive/archive-batch.ts';
import {
  failedBatches,
  markBatchFailed,
  recordInJournal,
  recordUpload,
  sealDueBatches,
} from '../../src/archive/batches.ts';
import { deleteReceipt, findReceipt } from '../../src/archive/receipt.ts';
import { FirnError } from '../../src/errors.ts';
import { walkTree } from '../../src/filetree/walk.ts';
import { createJournals } from '../../src/journal/journals.ts';
import { sourcesDue } from '../../src/publish/due.ts';
import { planPublish, wholeIndex } from '../../src/publish/plan.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import { buildFiletrees, commitSnapshot, flushShards } from '../../src/publish/steps.ts';
import { openRepository, type Repository } from '../../src/repository.ts';
import { plainKeys } from '../../src/sealing/keys.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import { snapshotName } from '../../src/snapshots/snapshot.ts';
import { type BlobStore, BlobStoreError } from '../../src/storage/blob-store.ts';
import { encodeCheckedJson } from '../../src/storage/json-blob.ts';
import { hooked } from '../index/index-kit.ts';
import { intercepted } from '../journal/journal-kit.ts';
import { damage } from '../kit/damage.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { archiveAll, contentOf, createTestRepository, upload } from '../kit/repository.ts';
import { createWorld, SOURCE } from './publishers.ts';

async function publish(repository: Repository, source = 'src') {
  await archiveAll(repository, source);
  return (await publishSource(repository, source))?.snapshot;
}

async function names(store: BlobStore, prefix: string): Promise<string[]> {
  return (await Array.fromAsync(store.list({ prefix }))).map(({ name }) => name);
}

async function overwrite(store: BlobStore, name: string, body: string | Buffer): Promise<void> {
  const { etag } = await store.properties(name);
  await store.replace(name, Buffer.from(body), { ifMatch: etag });
}

test('a commit that is delivered again does not take the next plan of the same parent for its own', async () => {
  const { repository } = await createTestRepository({ environment: { FIRN_INBOX: 'consume' } });
  await upload(repository, 'src/a', 'one');
  await publish(repository);
  await upload(repository, 'src/a', 'one', {
    mtime: (await findEntryTime(repository)) ?? '',
  });
  await archiveAll(repository, 'src');
  const first = (await planPublish(repository, 'src'))!;
  const tree = await buildFiletrees(repository, first);
  expect((await commitSnapshot(repository, first, tree)).outcome).toBe('unchanged');
  await upload(repository, 'src/b', 'two');
  await archiveAll(repository, 'src');
  const second = (await planPublish(repository, 'src'))!;
  expect(second.plan).toBe(first.plan);
  await expect(commitSnapshot(repository, first, tree)).rejects.toMatchObject({ code: 'FIRN_PUBLISH_CONFLICT' });
  expect(await names(repository.inbox, 'src/b')).toEqual(['src/b']);
  const published = await publishSource(repository, 'src');
  expect(await contentOf(repository, published!.snapshot!)).toEqual({ a: 'one', b: 'two' });
});

async function findEntryTime(repository: Repository): Promise<string | undefined> {
  const head = await repository.snapshots.readHead('src');
  for await (const { entry } of walkTree(repository.filetrees, head!.snapshot.root)) return entry.mtime;
  return undefined;
}

test('a step of a publish that was overtaken names the head that it knew and the one there is', async () => {
  const { repository, reopen } = await createTestRepository();
  const overtaken = (known: string, actual: string) => ({
    code: 'FIRN_PUBLISH_CONFLICT',
    details: { source: 'src', known, actual },
    advice: expect.stringMatching(new RegExp(`${known}.*${actual}`)),
  });
  await upload(repository, 'src/a', 'one');
  await archiveAll(repository, 'src');
  const first = (await planPublish(repository, 'src'))!;
  const tree = await buildFiletrees(repository, first);
  await publishSource(await reopen(), 'src');
  const carriedOut = overtaken('none', first.snapshot);
  await expect(buildFiletrees(repository, first)).rejects.toMatchObject(carriedOut);
  await expect(flushShards(repository, first, wholeIndex)).rejects.toMatchObject(carriedOut);
  await expect(commitSnapshot(repository, first, tree)).rejects.toMatchObject(carriedOut);

  await upload(repository, 'src/b', 'two');
  await archiveAll(repository, 'src');
  const second = (await planPublish(repository, 'src'))!;
  const dying = await reopen();
  const { store } = dying.state;
  const remove = store.delete;
  store.delete = async (name, options) => {
    if (name.startsWith('plans/')) throw new Error('died');
    return await remove(name, options);
  };
  await expect(publishSource(dying, 'src')).rejects.toThrow('died');
  const moved = overtaken(first.snapshot, second.snapshot);
  await expect(buildFiletrees(repository, second)).rejects.toMatchObject(moved);
  expect(await publishSource(repository, 'src')).toBeUndefined();
  expect(await repository.snapshots.names()).toHaveLength(2);
});

test('a receipt that was replaced by another run is not published under a plan of the first', async () => {
  const { repository } = await createTestRepository();
  await upload(repository, 'src/a', 'one');
  const [reference] = await sealDueBatches(repository, { source: 'src', force: true });
  await archiveBatch(repository, reference!);
  const plan = (await planPublish(repository, 'src'))!;
  await deleteReceipt(repository.state, 'src', reference!.batch);
  await archiveBatch(repository, reference!);
  await expect(buildFiletrees(repository, plan)).rejects.toMatchObject({ code: 'FIRN_RECEIPT_DAMAGED' });
  expect(await findReceipt(repository.state, 'src', reference!.batch)).toBeDefined();
  const published = await publishSource(repository, 'src');
  expect(await contentOf(repository, published!.snapshot!)).toEqual({ a: 'one' });
});

test('an upload is not acknowledged when the journal cannot take it', async () => {
  const { repository } = await createTestRepository();
  await repository.inbox.create('src/a', Buffer.from('one'));
  await repository.state.store.deleteContainer();
  await expect(recordUpload(repository, 'src/a')).rejects.toMatchObject({ code: 'FIRN_CONTAINER_MISSING' });
});

test('an upload whose version changed without an event is recorded again and archived with the next batch', async () => {
  const { repository } = await createTestRepository();
  await upload(repository, 'src/a', 'one');
  await overwrite(repository.inbox, 'src/a', 'one, and metadata set afterwards');
  await publish(repository);
  const snapshot = await publish(repository);
  expect(await contentOf(repository, snapshot!)).toEqual({ a: 'one, and metadata set afterwards' });
});

test('a head that cannot be told is not moved backwards', async () => {
  const { repository } = await createTestRepository();
  await upload(repository, 'src/a', 'one');
  await publish(repository);
  await upload(repository, 'src/b', 'two');
  const newest = await publish(repository);
  await repository.state.store.delete('heads/src');
  const { snapshots } = repository;
  const get = snapshots.get.bind(snapshots);
  snapshots.get = async (name, options) => {
    if (name === snapshotName(newest!)) {
      throw new FirnError('FIRN_STORAGE_UNREACHABLE', { url: 'u', problem: 'for a moment' });
    }
    return await get(name, options);
  };
  await expect(snapshots.readHead('src')).rejects.toMatchObject({ code: 'FIRN_STORAGE_UNREACHABLE' });
  snapshots.get = get;
  expect((await snapshots.readHead('src'))?.snapshot.id).toBe(newest?.id);
  await repository.state.store.delete('heads/src');
  await overwrite(repository.data.store, snapshotName(newest!), 'damaged');
  await expect(snapshots.readHead('src')).rejects.toMatchObject({ code: 'FIRN_SEAL_BROKEN' });
});

test('a head that was brought back from an older copy is moved on before anything is published on it', async () => {
  const { repository } = await createTestRepository();
  await upload(repository, 'src/a', 'one');
  await publish(repository);
  const { body } = await repository.state.store.read('heads/src');
  await upload(repository, 'src/b', 'two');
  const second = await publish(repository);
  await overwrite(repository.state.store, 'heads/src', body);
  await upload(repository, 'src/c', 'three');
  const third = await publish(repository);
  expect(third?.parent).toBe(second?.id);
  expect(await contentOf(repository, third!)).toEqual({ a: 'one', b: 'two', c: 'three' });
});

test('consuming leaves an upload that a later batch of the same publish removed', async () => {
  const { repository } = await createTestRepository({ environment: { FIRN_INBOX: 'consume' } });
  await upload(repository, 'src/d/a', 'one');
  await upload(repository, 'src/kept', 'two');
  await archiveAll(repository, 'src');
  await recordInJournal(repository, 'src', { kind: 'removal', path: 'd', nonce: '1' });
  const snapshot = await publish(repository);
  expect(await contentOf(repository, snapshot!)).toEqual({ kept: 'two' });
  expect(await names(repository.inbox, '')).toEqual(['src/d/a']);
});

test('an upload that cannot be deleted stays and does not hold up its source', async () => {
  const { repository } = await createTestRepository({ environment: { FIRN_INBOX: 'consume' } });
  const warnings: string[] = [];
  const warned: Repository = { ...repository, onWarning: ({ code }) => warnings.push(code) };
  await upload(warned, 'src/a', 'one');
  await upload(warned, 'src/b', 'two');
  await repository.inbox.acquireLease('src/a', 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 60);
  await publish(warned);
  expect(await names(repository.inbox, '')).toEqual(['src/a']);
  expect(warnings).toEqual(['FIRN_FILE_UNREADABLE']);
  await upload(warned, 'src/c', 'three');
  expect(Object.keys(await contentOf(repository, (await publish(warned))!))).toEqual(['a', 'b', 'c']);
});

test('a lost answer to the creation of a receipt does not cost its parts', async () => {
  const { repository } = await createTestRepository();
  await upload(repository, 'src/a', 'one');
  const [reference] = await sealDueBatches(repository, { source: 'src', force: true });
  const { state } = repository;
  const create = state.create.bind(state);
  state.create = async (kind, name, ...rest) => {
    const created = await create(kind, name, ...rest);
    return name.endsWith('/receipt') ? undefined : created;
  };
  expect((await archiveBatch(repository, reference!)).outcome).toBe('archived');
  state.create = create;
  const published = await publishSource(repository, 'src');
  expect(await contentOf(repository, published!.snapshot!)).toEqual({ a: 'one' });
});

test('a source that is broken does not hold up the others', async () => {
  const { repository } = await createTestRepository();
  for (const source of ['aaa', 'mmm', 'zzz']) await upload(repository, `${source}/a`, source);
  await overwrite(repository.state.store, 'journal/mmm/manifest', encodeCheckedJson({ format: 99 }));
  const warnings: string[] = [];
  const fresh: Repository = {
    ...repository,
    journalOf: createJournals(repository.state.store, {
      recordsMax: 10,
      uploadBytesMax: 10,
      ageSecondsMax: 60,
    }).of,
    onWarning: ({ code }) => warnings.push(code),
  };
  const sealed = await sealDueBatches(fresh, { force: true });
  expect(sealed.map(({ source }) => source)).toEqual(['aaa', 'zzz']);
  for (const reference of sealed) await archiveBatch(fresh, reference);
  expect(await Array.fromAsync(sourcesDue(fresh))).toEqual(['aaa', 'zzz']);
  expect(warnings).toContain('FIRN_REPOSITORY_NEWER');
});

test('a source whose blobs the storage refuses to change does not hold up the others', async () => {
  const { repository } = await createTestRepository();
  const warnings: string[] = [];
  const { store } = repository.state;
  const refusing = intercepted(store, {
    before: (_, name) => {
      if (name.includes('/mmm/')) throw new BlobStoreError('leased', name);
    },
  });
  const now = () => new Date(Date.now() + 30 * 24 * 60 * 60 * 1000);
  const { of } = createJournals(refusing, { recordsMax: 10, uploadBytesMax: 10, ageSecondsMax: 60 }, { now });
  const warned = {
    ...repository,
    state: { store: refusing },
    journalOf: of,
    now,
    onWarning: ({ code }: { code: string }) => warnings.push(code),
  };
  for (const source of ['aaa', 'mmm', 'zzz']) await upload(repository, `${source}/a`, source);
  const sealed = await sealDueBatches(warned, { force: true });
  expect(sealed.map(({ source }) => source)).toEqual(['aaa', 'zzz']);
  expect(warnings).toEqual(['FIRN_STORAGE_FAILED']);
  for (const reference of sealed) await archiveBatch(repository, reference);
  await archiveAll(repository, 'mmm');
  // What an attempt left that died.
  await store.create('receipts/mmm/0/part', Buffer.from('x'));
  expect(await Array.fromAsync(sourcesDue(warned))).toEqual(['aaa', 'zzz']);
  expect(new Set(warnings)).toEqual(new Set(['FIRN_STORAGE_FAILED']));
});

test('a plan that was damaged on the way only is followed, and one that is damaged is removed in that version only', async () => {
  const account = createMemoryAccount();
  const { repository } = await createTestRepository({ containers: account });
  await upload(repository, 'src/a', 'one');
  await archiveAll(repository, 'src');
  const plan = (await planPublish(repository, 'src'))!;
  const flips = { left: 1 };
  let replacing: (() => Promise<void>) | undefined;
  const containers = {
    container: (name: string) => {
      const store = account.container(name);
      const instead = async (call: string, blob: string) => {
        if (call === 'delete' && blob === plan.plan) await replacing?.();
        if (call !== 'read' || blob !== plan.plan || flips.left === 0) return undefined;
        flips.left -= 1;
        const content = await store.read(blob);
        const body = Buffer.from(content.body);
        body[100]! ^= 1;
        return { ...content, body };
      };
      return intercepted(store, { instead });
    },
  };
  const flipped = await openRepository(containers, repository.settings);
  expect(await planPublish(flipped, 'src')).toEqual(plan);

  // Another publisher puts its plan in the place of the damaged one just now.
  flips.left = 2;
  const { store } = repository.state;
  replacing = async () => {
    replacing = undefined;
    const { body } = await store.read(plan.plan);
    await overwrite(store, plan.plan, body);
  };
  expect(await planPublish(flipped, 'src')).toEqual(plan);
});

test('a receipt that was damaged on the way only is published, whatever blob of it and whenever', async () => {
  const account = createMemoryAccount();
  const { repository } = await createTestRepository({ containers: account });
  let damaged = '';
  let reads = 0;
  const containers = {
    container: (name: string) => {
      const store = account.container(name);
      const instead = async (call: string, blob: string) => {
        if (call !== 'read' || !blob.startsWith('receipts/')) return undefined;
        reads -= 1;
        if (reads !== 0) return undefined;
        const content = await store.read(blob);
        const body = Buffer.from(content.body);
        body[body.length - 1]! ^= 1;
        damaged = blob;
        return { ...content, body };
      };
      return intercepted(store, { instead });
    },
  };
  const flipped = await openRepository(containers, repository.settings);
  const seen = new Set<string>();
  for (let at = 1; ; at += 1) {
    await upload(repository, 'src/a', `version ${at}`);
    await archiveAll(repository, 'src');
    reads = at;
    const published = await publishSource(flipped, 'src');
    expect(await contentOf(repository, published!.snapshot!)).toEqual({ a: `version ${at}` });
    if (reads > 0) break;
    seen.add(damaged.split('/').at(-1)!);
  }
  expect(seen).toEqual(new Set(['receipt', 'index', 'changes-000000']));
});

test('a batch is named again though the clock went back, or what is remembered makes no sense', async () => {
  let now = new Date('2026-05-05T12:00:00Z');
  const { repository } = await createTestRepository({ now: () => now });
  await upload(repository, 'src/a', 'one');
  const [sealed] = await sealDueBatches(repository, { source: 'src', force: true });
  now = new Date('2026-05-04T12:00:00Z');
  expect(await sealDueBatches(repository, { source: 'src' })).toEqual([sealed]);
  await overwrite(
    repository.state.store,
    'queued/src',
    JSON.stringify({ format: 1, queued: { [sealed!.batch]: 'yesterday' } }),
  );
  expect(await sealDueBatches(repository, { source: 'src' })).toEqual([sealed]);
  expect(await sealDueBatches(repository, { source: 'src' })).toEqual([]);
  now = new Date('2026-05-04T12:10:00Z');
  expect(await sealDueBatches(repository, { source: 'src' })).toEqual([sealed]);
});

test('a message that ends in the poison queue after its batch was archived leaves no mark', async () => {
  const { repository } = await createTestRepository();
  await upload(repository, 'src/a', 'one');
  const [reference] = await sealDueBatches(repository, { source: 'src', force: true });
  await markBatchFailed(repository, reference!);
  expect((await Array.fromAsync(failedBatches(repository))).length).toBe(1);
  await archiveBatch(repository, reference!);
  await markBatchFailed(repository, reference!);
  expect(await Array.fromAsync(failedBatches(repository))).toEqual([]);
});

test('with one chunk a file, an empty file has no chunk, also one that was announced as large', async () => {
  const { repository } = await createTestRepository({ chunking: { method: 'file' } });
  await upload(repository, 'src/a', '');
  await recordInJournal(repository, 'src', {
    kind: 'upload',
    path: 'a',
    etag: (await repository.inbox.properties('src/a')).etag,
    bytes: 5 * 1024 * 1024,
  });
  const snapshot = await publish(repository);
  expect(await contentOf(repository, snapshot!)).toEqual({ a: '' });
  expect(await names(repository.data.store, 'chunks/')).toEqual([]);
});

test('a damaged receipt is set aside though the index could not be written at the same time', async () => {
  const world = await createWorld();
  const names = async (prefix: string) => (await Array.fromAsync(world.state.list({ prefix }))).map(({ name }) => name);
  await damage(world.state, (await names('receipts/')).find((name) => name.includes('changes-')) ?? '');
  const before = (call: string, name: string) => {
    if (call === 'create' && name.startsWith('chunk-index/')) throw new Error('not now');
  };
  const publishing = publishSource(await world.process('ann', { hooks: { before } }), SOURCE);
  await expect(publishing).rejects.toMatchObject({ code: 'FIRN_RECEIPT_DAMAGED' });
  expect(await names('plans/')).toEqual([]);
  expect(await names('receipts/')).toEqual([]);
});

test('a plan that stands is carried out though another receipt cannot be read, and that is told to the next', async () => {
  const world = await createWorld();
  await planPublish(await world.process('ann'), SOURCE);
  const newer = new SealedBlobs(world.state, plainKeys);
  const name = `receipts/${SOURCE}/scan-20260101T000000000Z-abcdef01/receipt`;
  await newer.create('receipt', name, Buffer.from(JSON.stringify({ format: 2 })));
  const bob = await world.process('bob');
  expect(await publishSource(bob, SOURCE)).toMatchObject({ outcome: 'published' });
  await expect(publishSource(bob, SOURCE)).rejects.toMatchObject({ code: 'FIRN_REPOSITORY_NEWER' });
});

test('one process publishes many sources without reading the manifests of the others again', async () => {
  const sources = ['a', 'b', 'c', 'd', 'e', 'f'];
  const account = createMemoryAccount();
  const reads: string[] = [];
  const before = (call: string, name: string) => void (call === 'read' && reads.push(name));
  const { repository } = await createTestRepository({
    containers: { container: (name) => hooked(account.container(name), { before }) },
  });
  for (let round = 0; round < 2; round += 1) {
    reads.length = 0;
    for (const source of sources) {
      await upload(repository, `${source}/file`, `round ${round} of ${source}`);
      await archiveAll(repository, source);
      await publishSource(repository, source);
    }
  }
  // Its own, and those that the others have published since.
  const manifests = reads.filter((name) => name.startsWith('snapshots/'));
  expect(manifests.length).toBeLessThanOrEqual(4 * sources.length);
});
