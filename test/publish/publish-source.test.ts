import { describe, expect, test } from 'vitest';
import { archiveBatch } from '../../src/archive/archive-batch.ts';
import { recordInJournal, recordUpload, sealDueBatches } from '../../src/archive/batches.ts';
import { deleteReceipt, findReceipt, listReceipts } from '../../src/archive/receipt.ts';
import { walkTree } from '../../src/filetree/walk.ts';
import { sourcesDue } from '../../src/publish/due.ts';
import { planPublish, wholeIndex } from '../../src/publish/plan.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import { buildFiletrees, commitSnapshot, flushShards } from '../../src/publish/steps.ts';
import type { Repository } from '../../src/repository.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { lawlessLocks } from '../kit/lawless-locks.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { archiveAll, contentOf, createTestRepository, upload } from '../kit/repository.ts';

async function snapshotsOf(repository: Repository) {
  return await Array.fromAsync(repository.snapshots.list());
}

async function publish(repository: Repository, source = 'src') {
  await archiveAll(repository, source);
  return await publishSource(repository, source);
}

async function names(store: BlobStore, prefix: string): Promise<string[]> {
  return (await Array.fromAsync(store.list({ prefix }))).map(({ name }) => name);
}

describe('publishing uploads', () => {
  test('uploads become a snapshot that holds them, and nothing that waited is left', async () => {
    const { repository, reopen } = await createTestRepository();
    await upload(repository, 'src/a.txt', 'one', { mtime: '2024-01-01T00:00:00.5Z', mode: '0640' });
    await upload(repository, 'src/d/b.txt', 'two');
    await upload(repository, 'src/empty', '');
    const published = await publish(repository);
    expect(published?.outcome).toBe('published');
    const fresh = await reopen();
    const [snapshot, ...others] = await snapshotsOf(fresh);
    expect(others).toEqual([]);
    expect(snapshot).toMatchObject({ source: 'src', parent: undefined, totals: { files: 3, folders: 1, bytes: 6 } });
    expect(await contentOf(fresh, snapshot!)).toEqual({ 'a.txt': 'one', 'd/b.txt': 'two', empty: '' });
    for (const prefix of ['receipts/', 'plans/', 'journal/src/0'])
      expect(await names(fresh.state.store, prefix)).toEqual([]);
    expect((await names(fresh.inbox, '')).length).toBe(3);
  });

  test('a second publish follows the first and changes only what changed', async () => {
    const { repository } = await createTestRepository();
    await upload(repository, 'src/a', 'one');
    await upload(repository, 'src/b', 'two');
    const first = await publish(repository);
    await upload(repository, 'src/b', 'two, changed');
    await upload(repository, 'src/c', 'three');
    const second = await publish(repository);
    expect(second?.snapshot).toMatchObject({
      parent: first?.snapshot?.id,
      changes: { added: 1, changed: 1, removed: 0 },
    });
    const [before, after] = await snapshotsOf(repository);
    expect(await contentOf(repository, before!)).toEqual({ a: 'one', b: 'two' });
    expect(await contentOf(repository, after!)).toEqual({ a: 'one', b: 'two, changed', c: 'three' });
  });

  test('a redelivered event, before the batch or after the publish, makes no new snapshot', async () => {
    const { repository } = await createTestRepository();
    await upload(repository, 'src/a', 'one');
    await recordUpload(repository, 'src/a');
    await publish(repository);
    await recordUpload(repository, 'src/a');
    expect((await publish(repository))?.outcome).toBe('unchanged');
    expect((await snapshotsOf(repository)).length).toBe(1);
    expect(await names(repository.state.store, 'receipts/')).toEqual([]);
    expect(await publishSource(repository, 'src')).toBeUndefined();
  });

  test('a redelivered queue message finds its receipt, and after the publish that the batch is retired', async () => {
    const { repository } = await createTestRepository();
    await upload(repository, 'src/a', 'one');
    const [batch] = await sealDueBatches(repository, { source: 'src', force: true });
    expect((await archiveBatch(repository, batch!)).outcome).toBe('archived');
    const stored = await names(repository.data.store, 'chunks/');
    expect((await archiveBatch(repository, batch!)).outcome).toBe('repeated');
    await publishSource(repository, 'src');
    expect((await archiveBatch(repository, batch!)).outcome).toBe('retired');
    expect(await names(repository.data.store, 'chunks/')).toEqual(stored);
  });

  test('a version that was replaced before it was read gives way to the new one, whose own event then finds nothing new', async () => {
    const { repository } = await createTestRepository();
    await upload(repository, 'src/a', 'one');
    await repository.inbox.delete('src/a');
    await repository.inbox.create('src/a', Buffer.from('two'));
    expect(await contentOf(repository, (await publish(repository))!.snapshot!)).toEqual({ a: 'two' });
    await recordUpload(repository, 'src/a');
    expect((await publish(repository))?.outcome).toBe('unchanged');
  });

  test('deleting an upload removes nothing from the archive; a removal record does, with all below it', async () => {
    const { repository } = await createTestRepository();
    for (const name of ['src/a', 'src/d/x', 'src/d/y', 'src/e']) await upload(repository, name, name);
    await publish(repository);
    await repository.inbox.delete('src/a');
    await recordUpload(repository, 'src/a');
    for (const path of ['d', 'e']) {
      await recordInJournal(repository, 'src', { kind: 'removal', path, nonce: path });
    }
    await upload(repository, 'src/d/z', 'again');
    const { snapshot } = (await publish(repository))!;
    expect(await contentOf(repository, snapshot!)).toEqual({ a: 'src/a', 'd/z': 'again' });
  });

  test('batches with the same content, one after another before any publish, store it once', async () => {
    const { repository } = await createTestRepository();
    const content = 'the same '.repeat(1000);
    await upload(repository, 'one/a', content);
    await archiveAll(repository, 'one');
    const stored = await names(repository.data.store, 'chunks/');
    expect(stored.length).toBe(1);
    await upload(repository, 'two/b', content);
    await archiveAll(repository, 'two');
    expect(await names(repository.data.store, 'chunks/')).toEqual(stored);
    // The source that did not store it is published first: the index must know the chunk all the same.
    const { snapshot } = (await publishSource(repository, 'two'))!;
    expect(await contentOf(repository, snapshot!)).toEqual({ b: content });
  });

  test('batches with the same content at the same moment both publish, and the index keeps one location', async () => {
    const { repository } = await createTestRepository();
    const content = 'the same '.repeat(1000);
    await upload(repository, 'one/a', content);
    await upload(repository, 'two/b', content);
    await Promise.all(['one', 'two'].map((source) => archiveAll(repository, source)));
    await Promise.all(['one', 'two'].map((source) => publishSource(repository, source)));
    for (const snapshot of await snapshotsOf(repository)) {
      expect(Object.values(await contentOf(repository, snapshot))).toEqual([content]);
    }
    expect((await repository.createIndex().statistics()).entries).toBe(1);
  });

  test('in an inbox that is consumed, an upload goes when its snapshot is published, and only in that version', async () => {
    const { repository } = await createTestRepository({ environment: { FIRN_INBOX: 'consume' } });
    await upload(repository, 'src/a', 'one');
    await upload(repository, 'src/b', 'two');
    await archiveAll(repository, 'src');
    expect(await names(repository.inbox, '')).toEqual(['src/a', 'src/b']);
    await upload(repository, 'src/b', 'newer');
    await publishSource(repository, 'src');
    expect(await names(repository.inbox, '')).toEqual(['src/b']);
    const { snapshot } = (await publish(repository))!;
    expect(await contentOf(repository, snapshot!)).toEqual({ a: 'one', b: 'newer' });
    expect(await names(repository.inbox, '')).toEqual([]);
  });

  test('a file and a folder of one name are both kept', async () => {
    const { repository } = await createTestRepository();
    await upload(repository, 'src/a', 'file');
    await upload(repository, 'src/a/b', 'below');
    expect(await contentOf(repository, (await publish(repository))!.snapshot!)).toEqual({ a: 'file', 'a/b': 'below' });
  });

  test('uploads that no file system could give back are named in the snapshot and stay in the inbox', async () => {
    const { repository } = await createTestRepository({ environment: { FIRN_INBOX: 'consume' } });
    await upload(repository, 'src/a//b', 'x');
    await upload(repository, 'src/ok', 'y');
    const { snapshot } = (await publish(repository))!;
    expect(snapshot?.skipped).toMatchObject({ count: 1, paths: [{ path: 'a//b', code: 'FIRN_PATH_UNUSABLE' }] });
    expect(await names(repository.inbox, '')).toEqual(['src/a//b']);
  });

  test('folders and links come from the metadata of their uploads', async () => {
    const { repository } = await createTestRepository();
    await upload(repository, 'src/d', '', { hdi_isfolder: 'true', mode: '0750' });
    await upload(repository, 'src/l', '../target', { is_symlink: 'true' });
    const { snapshot } = (await publish(repository))!;
    const entries = await Array.fromAsync(walkTree(repository.filetrees, snapshot!.root), ({ entry }) => entry);
    expect(entries).toMatchObject([
      { name: 'd', type: 'folder', mode: 0o750 },
      { name: 'l', type: 'link', target: '../target' },
    ]);
  });
});

const twoDigits = wholeIndex.flatMap((first) => wholeIndex.map((second) => first + second));

describe('a flush', () => {
  const cases = [
    ['by the roots that there are', wholeIndex.map((root) => [root]), undefined],
    ['by longer texts, as a version with other roots planned it', twoDigits.map((two) => [two]), undefined],
    ['a few at a time', [wholeIndex], 3],
  ] as const;
  test.each(cases)('brings all new chunks into the index, asked for %s', async (_, groups, locationsAtOnce) => {
    const { repository } = await createTestRepository();
    for (let n = 0; n < 40; n += 1) await upload(repository, `src/${n}`, `content ${n}`);
    await archiveAll(repository, 'src');
    const plan = (await planPublish(repository, 'src'))!;
    let added = 0;
    for (const prefixes of groups) added += (await flushShards(repository, plan, prefixes, { locationsAtOnce })).added;
    expect(added).toBe(40);
    const locations = await Array.fromAsync(repository.createIndex().locations());
    expect(locations).toHaveLength(40);
  });
});

describe('a publish that dies or meets another', () => {
  test('is resumed under the same plan and makes one snapshot, wherever it died', async () => {
    for (const died of ['plan', 'flush', 'build', 'snapshot'] as const) {
      const { repository, reopen } = await createTestRepository();
      await upload(repository, 'src/a', 'one');
      await archiveAll(repository, 'src');
      const plan = (await planPublish(repository, 'src'))!;
      if (died !== 'plan') await flushShards(repository, plan, wholeIndex);
      if (died === 'build' || died === 'snapshot') {
        const tree = await buildFiletrees(repository, plan);
        if (died === 'snapshot') {
          // Died between writing the manifest and moving the head.
          const { snapshots } = repository;
          const dying: Repository = Object.assign(Object.create(repository) as Repository, {
            snapshots: Object.assign(Object.create(Object.getPrototypeOf(snapshots)), {
              readHead: snapshots.readHead.bind(snapshots),
              create: snapshots.create.bind(snapshots),
              moveHead: async () => {
                throw new Error('died');
              },
            }),
          });
          await expect(commitSnapshot(dying, plan, tree)).rejects.toThrow('died');
        }
      }
      const fresh = await reopen();
      await upload(fresh, 'src/b', 'two');
      await archiveAll(fresh, 'src');
      await publishSource(fresh, 'src');
      await publishSource(fresh, 'src');
      const all = await snapshotsOf(fresh);
      expect(all[0]?.id, died).toBe(plan.snapshot);
      expect(
        all.map(({ parent }) => parent),
        died,
      ).toEqual([undefined, all[0]!.id]);
      expect(await contentOf(fresh, all[1]!), died).toEqual({ a: 'one', b: 'two' });
    }
  });

  test('two publishers at once write one snapshot, and both succeed or one says that the other was faster', async () => {
    const { repository, reopen } = await createTestRepository();
    await upload(repository, 'src/a', 'one');
    await archiveAll(repository, 'src');
    // Three, and no lock keeps them apart.
    const publishers = [repository, await reopen(), await reopen()];
    const results = await Promise.allSettled(
      publishers.map((publisher) => publishSource({ ...publisher, locks: lawlessLocks }, 'src')),
    );
    for (const result of results) {
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'FIRN_PUBLISH_CONFLICT' });
    }
    const [snapshot, ...others] = await snapshotsOf(repository);
    expect(others).toEqual([]);
    expect(await contentOf(repository, snapshot!)).toEqual({ a: 'one' });
    expect(await publishSource(repository, 'src')).toBeUndefined();
  });

  test('a shard that cannot be written leaves no snapshot, keeps the receipt, and the next publish succeeds', async () => {
    const { repository } = await createTestRepository();
    await upload(repository, 'src/a', 'one');
    await archiveAll(repository, 'src');
    const broken: Repository = {
      ...repository,
      createIndex: () => {
        const index = repository.createIndex();
        index.flush = async () => {
          throw new Error('no luck');
        };
        return index;
      },
    };
    await expect(publishSource(broken, 'src')).rejects.toThrow('no luck');
    expect(await snapshotsOf(repository)).toEqual([]);
    expect((await Array.fromAsync(listReceipts(repository.state.store, 'src'))).length).toBe(1);
    expect((await publishSource(repository, 'src'))?.outcome).toBe('published');
  });

  test('batches are published without gaps: a later batch waits for an earlier one', async () => {
    const { repository } = await createTestRepository();
    await upload(repository, 'src/a', 'old');
    const [first] = await sealDueBatches(repository, { source: 'src', force: true });
    await upload(repository, 'src/a', 'new');
    const [second] = await sealDueBatches(repository, { source: 'src', force: true });
    await archiveBatch(repository, second!);
    expect(await publishSource(repository, 'src')).toBeUndefined();
    await archiveBatch(repository, first!);
    const { snapshot } = (await publishSource(repository, 'src'))!;
    expect(await contentOf(repository, snapshot!)).toEqual({ a: 'new' });
  });

  test('a damaged receipt is discarded, its batch is archived again, and nothing is lost', async () => {
    const { repository } = await createTestRepository();
    await upload(repository, 'src/a', 'one');
    const [reference] = await sealDueBatches(repository, { source: 'src', force: true });
    await archiveBatch(repository, reference!);
    const receipt = await findReceipt(repository.state, 'src', reference!.batch);
    const parts = await names(repository.state.store, `receipts/src/${reference!.batch}/${receipt!.run}/`);
    const { store } = repository.state;
    const part = parts[0]!;
    const { body, properties } = await store.read(part);
    body.writeUInt8(body.readUInt8(60) ^ 1, 60);
    await store.replace(part, body, { ifMatch: properties.etag });
    await expect(publishSource(repository, 'src')).rejects.toMatchObject({ code: 'FIRN_RECEIPT_DAMAGED' });
    expect((await archiveBatch(repository, reference!)).outcome).toBe('archived');
    const { snapshot } = (await publishSource(repository, 'src'))!;
    expect(await contentOf(repository, snapshot!)).toEqual({ a: 'one' });
  });

  test('a receipt that comes back after its batch was published is not applied again', async () => {
    const { repository } = await createTestRepository();
    await upload(repository, 'src/a', 'one');
    const [first] = await archiveAll(repository, 'src');
    const receipt = await findReceipt(repository.state, 'src', first!);
    const kept = await Promise.all(
      (await names(repository.state.store, `receipts/src/${first}/`)).map(async (name) => ({
        name,
        body: (await repository.state.store.read(name)).body,
      })),
    );
    await publishSource(repository, 'src');
    expect(receipt).toBeDefined();
    for (const { name, body } of kept) await repository.state.store.create(name, body);
    expect(await publishSource(repository, 'src')).toBeUndefined();
    expect(await names(repository.state.store, 'receipts/')).toEqual([]);
    await deleteReceipt(repository.state, 'src', first!);
  });
});

describe('heads', () => {
  test('a head that is missing or damaged is rebuilt from the snapshots', async () => {
    const { repository } = await createTestRepository();
    await upload(repository, 'src/a', 'one');
    await publish(repository);
    await upload(repository, 'src/b', 'two');
    const { snapshot } = (await publish(repository))!;
    const { store } = repository.state;
    await store.delete('heads/src');
    expect((await repository.snapshots.readHead('src'))?.snapshot.id).toBe(snapshot?.id);
    await store.replace('heads/src', Buffer.from('junk'), { ifMatch: (await store.properties('heads/src')).etag });
    expect((await repository.snapshots.readHead('src'))?.snapshot.id).toBe(snapshot?.id);
    await upload(repository, 'src/c', 'three');
    expect((await publish(repository))?.snapshot?.parent).toBe(snapshot?.id);
  });

  test('a snapshot is later than its parent though the clock went back', async () => {
    let now = new Date('2026-05-05T12:00:00Z');
    const { repository } = await createTestRepository({ now: () => now });
    await upload(repository, 'src/a', 'one');
    const first = await publish(repository);
    now = new Date('2026-05-05T11:00:00Z');
    await upload(repository, 'src/b', 'two');
    const second = await publish(repository);
    expect(Date.parse(second!.snapshot!.time)).toBeGreaterThan(Date.parse(first!.snapshot!.time));
    expect((await snapshotsOf(repository)).map(({ id }) => id)).toEqual([first?.snapshot?.id, second?.snapshot?.id]);
  });
});

describe('what an attempt left that died before its receipt', () => {
  test('is swept when it is a week old, by the next publish of its source or the timer, and not before', async () => {
    let now = new Date('2026-05-05T12:00:00Z');
    const account = createMemoryAccount({ now: () => now.getTime() });
    const { repository } = await createTestRepository({ containers: account, now: () => now });
    const { store } = repository.state;
    const day = 24 * 60 * 60 * 1000;
    for (const sweep of ['publish', 'timer'] as const) {
      await store.create('receipts/src/scan-1/run/changes-000000', Buffer.from('old'));
      now = new Date(now.getTime() + 4 * day);
      await store.create('receipts/src/scan-1/run/changes-000001', Buffer.from('newer'));
      for (const [days, left] of [
        [6, 2],
        [2, 0],
      ] as const) {
        now = new Date(now.getTime() + days * day);
        if (sweep === 'publish') await publishSource(repository, 'src');
        else expect(await Array.fromAsync(sourcesDue(repository))).toEqual([]);
        expect(await names(store, 'receipts/'), `${sweep} after ${days} days`).toHaveLength(left);
      }
    }
  });
});
