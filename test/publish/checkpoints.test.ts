/**
 * The journal is a write-ahead log with two checkpoints: the snapshot, for what is published, and the compacted partition, for
 * what is live. Whatever is deleted from the log is in one of them by then, and applying the log once more changes nothing.
 */
import { expect, test } from 'vitest';
import { archiveBatch } from '../../src/archive/archive-batch.ts';
import { batchesWithoutReceipt, sealDueBatches } from '../../src/archive/batches.ts';
import { walkTree } from '../../src/filetree/walk.ts';
import { listPartitions } from '../../src/journal/partition-blob.ts';
import { readPartition } from '../../src/journal/partition-reading.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import type { Containers, Repository } from '../../src/repository.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { intercepted } from '../journal/journal-kit.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { contentOf, createTestRepository, upload } from '../kit/repository.ts';

async function publishedPaths(repository: Repository): Promise<string[]> {
  const head = await repository.snapshots.readHead('src');
  if (head === undefined) return [];
  return await Array.fromAsync(walkTree(repository.filetrees, head.snapshot.root), ({ path }) => path);
}

/** Of every partition blob that exists, whatever the manifest says of it. */
async function loggedPaths(state: BlobStore): Promise<string[]> {
  const paths: string[] = [];
  for await (const { item } of listPartitions(state, 'src')) {
    for await (const event of readPartition(state, item.name)) {
      if (event.kind === 'record') paths.push(event.record.path);
    }
  }
  return paths;
}

async function archiveAndPublish(repository: Repository): Promise<void> {
  for (const { batch } of await batchesWithoutReceipt(repository, 'src')) {
    await archiveBatch(repository, { source: 'src', batch });
  }
  await publishSource(repository, 'src');
}

test('nothing leaves the log before it is in a snapshot or in a compacted partition', async () => {
  const account = createMemoryAccount();
  const acknowledged = new Set<string>();
  let deletions = 0;
  let bystander: Repository | undefined;
  const check = async (call: string, name: string) => {
    if (bystander === undefined || call !== 'delete' || !name.startsWith('journal/')) return undefined;
    // Before the deletion, all but what it deletes must be enough.
    const state = account.container('firn-state');
    const { body } = await state.read(name).catch(() => ({ body: undefined }));
    const known = new Set([...(await publishedPaths(bystander)), ...(await loggedPaths(without(state, name)))]);
    if (body !== undefined) for (const path of acknowledged) expect(known, `${name} goes`).toContain(path);
    if (/-[0-9a-f]{8}$/.test(name)) deletions += 1;
    return undefined;
  };
  const watched: Containers = {
    container: (name) =>
      name.endsWith('-state') ? intercepted(account.container(name), { instead: check }) : account.container(name),
  };
  const { repository, reopen } = await createTestRepository({ containers: watched });
  bystander = await reopen();
  for (let round = 0; round < 2; round += 1) {
    for (let at = 0; at < 9; at += 1) {
      await upload(repository, `src/${round}/${at}`, `${round} ${at}`);
      acknowledged.add(`${round}/${at}`);
      await sealDueBatches(repository, { source: 'src', force: true });
    }
    await repository.journalOf('src').compact({ isIdle: () => true });
    await upload(repository, `src/${round}/last`, 'last');
    acknowledged.add(`${round}/last`);
    await sealDueBatches(repository, { source: 'src', force: true });
    await archiveAndPublish(repository);
  }
  expect(deletions).toBe(2 * (9 + 2));
  expect(await loggedPaths(account.container('firn-state'))).toEqual([]);
});

/** The store as it will be without this blob. */
function without(store: BlobStore, gone: string): BlobStore {
  return {
    ...store,
    async *list(options) {
      for await (const item of store.list(options)) if (item.name !== gone) yield item;
    },
  };
}

test('the log applied once more on top of its checkpoint changes nothing', async () => {
  const { repository } = await createTestRepository();
  const state = repository.state.store;
  for (let at = 0; at < 8; at += 1) {
    await upload(repository, `src/${at}`, String(at));
    await sealDueBatches(repository, { source: 'src', force: true });
  }
  const saved: { name: string; body: Buffer }[] = [];
  const save = async () => {
    saved.length = 0;
    for await (const { name } of state.list({ prefix: 'journal/' })) {
      const { body } = await state.read(name);
      saved.push({ name, body });
    }
  };
  /** The journal comes back from a copy, with all that is in a snapshot by now. */
  const bringBack = async () => {
    for await (const { name } of state.list({ prefix: 'journal/' })) await state.delete(name);
    for (const { name, body } of saved) {
      if (name.endsWith('/manifest')) await state.create(name, body);
      else await state.createAppend(name, body);
    }
  };
  await save();
  await archiveAndPublish(repository);
  const first = await repository.snapshots.readHead('src');
  const content = await contentOf(repository, first!.snapshot);
  expect(Object.keys(content)).toHaveLength(8);
  for (const isCompacted of [false, true]) {
    await bringBack();
    if (isCompacted) await repository.journalOf('src').compact({ isIdle: () => true });
    await archiveAndPublish(repository);
    const head = await repository.snapshots.readHead('src');
    expect(head?.snapshot.id).toBe(first?.snapshot.id);
  }
  expect(await contentOf(repository, first!.snapshot)).toEqual(content);
});
