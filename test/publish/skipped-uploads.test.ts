/** An upload that a batch had to pass over, and the events of it that come later. */
import { expect, test } from 'vitest';
import { archiveBatch } from '../../src/archive/archive-batch.ts';
import { recordInJournal, recordUpload, sealDueBatches } from '../../src/archive/batches.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import type { Repository } from '../../src/repository.ts';
import { BlobStoreError } from '../../src/storage/blob-store.ts';
import { intercepted } from '../journal/journal-kit.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { archiveAll, contentOf, createTestRepository, upload } from '../kit/repository.ts';

/** A repository in whose inbox this upload lies in the Archive tier for now. */
function withOffline(repository: Repository, name: string): Repository {
  const inbox = intercepted(repository.inbox, {
    before: (call, of) => {
      if (call === 'readStream' && of === name) throw new BlobStoreError('offline', of);
    },
  });
  return { ...repository, inbox };
}

test('an event that comes again while its upload waits is dropped though it was passed over; the snapshot names it, and the event counts once more after that', async () => {
  const { repository } = await createTestRepository();
  await upload(repository, 'src/a', 'one');
  await upload(repository, 'src/b', 'two');
  await archiveAll(withOffline(repository, 'src/a'), 'src');
  await recordUpload(repository, 'src/a');
  expect(await repository.journalOf('src').hasOpenRecords()).toBe(false);
  const published = await publishSource(repository, 'src');
  expect(published?.snapshot?.skipped).toMatchObject({
    count: 1,
    paths: [{ path: 'a', code: 'FIRN_FILE_UNREADABLE' }],
  });

  await recordUpload(repository, 'src/a');
  await archiveAll(repository, 'src');
  const again = await publishSource(repository, 'src');
  expect(await contentOf(repository, again!.snapshot!)).toEqual({ a: 'one', b: 'two' });
});

test('a version that only a batch knows which passed over it is recorded again by the batch that meets it', async () => {
  const { repository } = await createTestRepository();
  await upload(repository, 'src/a', 'one');
  const [first] = await sealDueBatches(repository, { source: 'src', force: true });
  await upload(repository, 'src/a', 'two');
  const [second] = await sealDueBatches(repository, { source: 'src', force: true });
  await archiveBatch(withOffline(repository, 'src/a'), second!);
  // Readable by now: the first batch finds another version than its own, which nobody is going to announce any more.
  const archived = await archiveBatch(repository, first!);
  expect(archived).toMatchObject({ outcome: 'archived', receipt: { changes: 1 } });
  await archiveAll(repository, 'src');
  const published = await publishSource(repository, 'src');
  expect(await contentOf(repository, published!.snapshot!)).toEqual({ a: 'two' });
});

test('a batch that had to pass over all its uploads makes a snapshot that names them, though the tree stays as it was', async () => {
  const { repository } = await createTestRepository();
  const publishPassedOver = async () => {
    await recordUpload(repository, 'src/a');
    await archiveAll(withOffline(repository, 'src/a'), 'src');
    return await publishSource(repository, 'src');
  };
  const named = { count: 1, paths: [{ path: 'a', code: 'FIRN_FILE_UNREADABLE' }] };
  await repository.inbox.create('src/a', Buffer.from('one'));
  const first = await publishPassedOver();
  expect(first).toMatchObject({ outcome: 'published', snapshot: { totals: { files: 0 }, skipped: named } });
  const second = await publishPassedOver();
  expect(second).toMatchObject({ outcome: 'published', snapshot: { root: first?.snapshot?.root, skipped: named } });
});

/** Replaces an upload, with its event, as by somebody who appends to a log. */
async function replaceUpload({ inbox }: Repository, name: string, content: string): Promise<void> {
  const { etag } = await inbox.properties(name);
  await inbox.replace(name, Buffer.from(content), { ifMatch: etag });
}

test('an upload that is replaced before each batch is read is in each snapshot all the same, as it is then', async () => {
  const { repository } = await createTestRepository();
  await upload(repository, 'src/log', 'line 0');
  for (let round = 1; round <= 3; round += 1) {
    const [due] = await sealDueBatches(repository, { source: 'src', force: true });
    await replaceUpload(repository, 'src/log', `line ${round}`);
    await recordUpload(repository, 'src/log');
    await archiveBatch(repository, due!);
    const published = await publishSource(repository, 'src');
    expect(await contentOf(repository, published!.snapshot!)).toEqual({ log: `line ${round}` });
  }
});

test('a version that was archived before its own batch is consumed by that batch only, and a removal in between counts', async () => {
  const { repository } = await createTestRepository({ environment: { FIRN_INBOX: 'consume' } });
  await upload(repository, 'src/a', 'one');
  await upload(repository, 'src/b', 'one');
  const [due] = await sealDueBatches(repository, { source: 'src', force: true });
  for (const path of ['a', 'b']) await replaceUpload(repository, `src/${path}`, 'two');
  await recordUpload(repository, 'src/a');
  await recordUpload(repository, 'src/b');
  await recordInJournal(repository, 'src', { kind: 'removal', path: 'b', nonce: 'n' });
  const own = await sealDueBatches(repository, { source: 'src', force: true });
  await archiveBatch(repository, due!);
  const early = await publishSource(repository, 'src');
  expect(await contentOf(repository, early!.snapshot!)).toEqual({ a: 'two', b: 'two' });
  const left = async () => (await Array.fromAsync(repository.inbox.list())).map(({ name }) => name);
  expect(await left()).toEqual(['src/a', 'src/b']);
  for (const batch of own) await archiveBatch(repository, batch);
  const late = await publishSource(repository, 'src');
  expect(await contentOf(repository, late!.snapshot!)).toEqual({ a: 'two' });
  expect(await left()).toEqual(['src/b']);
  // They waited in a batch already, so they were not recorded once more: that would have undone the removal.
  expect(await archiveAll(repository, 'src')).toEqual([]);
});

test('records of the journal that are damaged are named in the snapshot, with the batch that had them', async () => {
  const account = createMemoryAccount();
  const { repository } = await createTestRepository({ containers: account });
  await upload(repository, 'src/a', 'one');
  await upload(repository, 'src/b', 'two');
  const [due] = await sealDueBatches(repository, { source: 'src', force: true });
  const partition = `journal/src/${due!.batch}`;
  const body = Buffer.from((await repository.state.store.read(partition)).body);
  body[body.length - 1]! ^= 1;
  account.overwrite('firn-state', partition, body);
  const told: string[] = [];
  await archiveBatch({ ...repository, onWarning: ({ code }) => told.push(code) }, due!);
  const published = await publishSource(repository, 'src');
  expect(await contentOf(repository, published!.snapshot!)).toEqual({ a: 'one' });
  expect(told).toEqual(['FIRN_JOURNAL_DAMAGED']);
  const path = { path: partition, code: 'FIRN_JOURNAL_DAMAGED', problem: expect.stringContaining('1 records') };
  expect(published?.snapshot?.skipped).toEqual({ count: 1, paths: [path] });
});

test('while the container of the inbox is missing no upload counts as deleted', async () => {
  const { repository } = await createTestRepository();
  const { inbox } = repository;
  await upload(repository, 'src/a', 'one');
  const [due] = await sealDueBatches(repository, { source: 'src', force: true });
  const uploads = await Array.fromAsync(inbox.list(), async ({ name }) => ({ name, ...(await inbox.read(name)) }));
  await inbox.deleteContainer();
  const missing = { code: 'FIRN_CONTAINER_MISSING' };
  await expect(recordUpload(repository, 'src/a')).rejects.toMatchObject(missing);
  await expect(archiveBatch(repository, due!)).rejects.toMatchObject(missing);
  await inbox.createContainer();
  for (const { name, body } of uploads) await inbox.create(name, body);
  await archiveBatch(repository, due!);
  const published = await publishSource(repository, 'src');
  expect(await contentOf(repository, published!.snapshot!)).toEqual({ a: 'one' });
});
