/** An upload is deleted only when its content is really on storage, whatever the index says. */
import { expect, onTestFinished, test, vi } from 'vitest';
import { takeRepairMarker } from '../../src/index/marker.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import { type OpenOptions, openRepository, type Repository } from '../../src/repository.ts';
import { intercepted } from '../journal/journal-kit.ts';
import { damage } from '../kit/damage.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { archiveAll, createTestRepository, upload } from '../kit/repository.ts';

const LARGE = Buffer.alloc(5 * 1024 * 1024, 7);

async function consuming() {
  const account = createMemoryAccount();
  const { repository } = await createTestRepository({ containers: account, environment: { FIRN_INBOX: 'consume' } });
  const open = async (options: OpenOptions = {}) => await openRepository(account, repository.settings, options);
  return { account, repository, open };
}

async function publish(repository: Repository) {
  await archiveAll(repository, 'src');
  return await publishSource(repository, 'src');
}

async function namesIn({ list }: Repository['inbox'], prefix = ''): Promise<string[]> {
  return (await Array.fromAsync(list({ prefix }))).map(({ name }) => name);
}

test.each(['lost', 'cut short'])(
  'an upload whose chunks the index takes for stored stays in the inbox where their blob is %s',
  async (fault) => {
    const { account, repository, open } = await consuming();
    await upload(repository, 'src/large', LARGE);
    await upload(repository, 'src/small', 'one');
    await publish(repository);
    const { store } = repository.data;
    for (const name of await namesIn(store, 'chunks/')) {
      if (fault === 'lost') await store.delete(name);
      else account.overwrite('firn-data', name, (await store.read(name)).body.subarray(0, 40));
    }
    const told: unknown[] = [];
    const fresh = await open({ onWarning: ({ code, details }) => told.push({ code, details }) });
    await upload(fresh, 'src/again/large', LARGE);
    await upload(fresh, 'src/again/small', 'one');
    await upload(fresh, 'src/empty', '');
    expect(await publish(fresh)).toMatchObject({ outcome: 'published', snapshot: { stored: { newChunks: 0 } } });
    expect(await namesIn(fresh.inbox)).toEqual(['src/again/large', 'src/again/small']);
    const details = expect.objectContaining({ source: 'src', uploads: 2 });
    expect(told).toEqual([{ code: 'FIRN_UPLOAD_KEPT', details }]);
  },
);

test('where uploads are deleted, each chunk blob is asked for once', async () => {
  const { account, repository } = await consuming();
  for (let i = 0; i < 20; i += 1) await upload(repository, `src/${i}`, `content ${i}`);
  const asked: string[] = [];
  const before = (call: string, name: string) => {
    if (call === 'properties' && name.startsWith('chunks/')) asked.push(name);
  };
  const containers = {
    container: (name: string) => intercepted(account.container(name), { before }),
  };
  const counted = await openRepository(containers, repository.settings);
  await archiveAll(counted, 'src');
  asked.length = 0;
  await publishSource(counted, 'src');
  expect(await namesIn(repository.inbox)).toEqual([]);
  expect(asked).toHaveLength(1);
});

test('nothing is deleted while the index is under repair, and the next publish makes up for it', async () => {
  const { account, repository, open } = await consuming();
  await upload(repository, 'src/a', 'one');
  await archiveAll(repository, 'src');
  const repairBegins = async (call: string, name: string) => {
    if (call !== 'create' || name !== 'heads/src') return;
    await takeRepairMarker(repository.state.store, { started: 'now', owner: 'ann', roots: undefined });
    // What was found of a repair is good for a second.
    const later = performance.now() + 2_000;
    vi.spyOn(performance, 'now').mockReturnValue(later);
  };
  onTestFinished(() => void vi.restoreAllMocks());
  const containers = {
    container: (name: string) => intercepted(account.container(name), { instead: repairBegins }),
  };
  const meetingRepair = await openRepository(containers, repository.settings);
  expect(await publishSource(meetingRepair, 'src')).toMatchObject({ outcome: 'published' });
  expect(await namesIn(repository.inbox)).toEqual(['src/a']);
  await repository.state.store.delete('repair');
  expect(await publishSource(await open(), 'src')).toBeUndefined();
  expect(await namesIn(repository.inbox)).toEqual([]);
  expect(await namesIn(repository.state.store, 'receipts/')).toEqual([]);
});

/** A file that is archived again under another name, and whose publish is still to come. */
async function archivedTwice() {
  const world = await consuming();
  const { repository } = world;
  await upload(repository, 'src/d/a', 'one');
  await publish(repository);
  await upload(repository, 'src/d/b', 'one');
  await archiveAll(repository, 'src');
  return world;
}

test('a damaged shard keeps uploads where they are, and holds up no publish', async () => {
  const { repository, open } = await archivedTwice();
  const { store } = repository.state;
  for (const name of await namesIn(store, 'chunk-index/')) await damage(store, name);
  const told: string[] = [];
  const fresh = await open({ onWarning: ({ code }) => told.push(code) });
  expect(await publishSource(fresh, 'src')).toMatchObject({ outcome: 'published' });
  expect(told).toEqual(['FIRN_UPLOAD_KEPT']);
  expect(await publishSource(await open(), 'src')).toBeUndefined();
  expect(await namesIn(fresh.inbox)).toEqual(['src/d/b']);
});

test('uploads whose snapshot cannot be read stay where they are, too', async () => {
  const { account, repository, open } = await archivedTwice();
  const dying = {
    container: (name: string) =>
      intercepted(account.container(name), {
        before: (call, blob) => {
          if (call === 'delete' && blob === 'src/d/b') throw new Error('the process is dead');
        },
      }),
  };
  await expect(publishSource(await openRepository(dying, repository.settings), 'src')).rejects.toThrow('is dead');
  const { store } = repository.data;
  for (const name of await namesIn(store, 'filetrees/')) await damage(store, name);
  const told: string[] = [];
  const fresh = await open({ onWarning: ({ code }) => told.push(code) });
  expect(await publishSource(fresh, 'src')).toBeUndefined();
  expect(told).toEqual(['FIRN_UPLOAD_KEPT']);
  expect(await namesIn(fresh.inbox)).toEqual(['src/d/b']);
});

test('what stays in the inbox is told also where the receipt turns out to be damaged behind it', async () => {
  const { account, repository, open } = await archivedTwice();
  const chunks = repository.data.store;
  for (const name of await namesIn(chunks, 'chunks/')) await chunks.delete(name);
  const { state } = repository;
  const [receipt = ''] = (await namesIn(state.store, 'receipts/')).filter((name) => name.endsWith('/receipt'));
  const { body } = await state.get('receipt', receipt);
  const value: unknown = JSON.parse(body.toString());
  expect(value).toMatchObject({ changes: 1 });
  const endsEarly = async (call: string, name: string) => {
    if (call !== 'replace' || name !== 'heads/src') return;
    await state.store.delete(receipt);
    await state.create('receipt', receipt, Buffer.from(JSON.stringify({ ...Object(value), changes: 2 })));
  };
  const containers = { container: (name: string) => intercepted(account.container(name), { instead: endsEarly }) };
  const told: string[] = [];
  const onWarning = ({ code }: { code: string }) => void told.push(code);
  const publishing = await openRepository(containers, repository.settings, { onWarning });
  expect(await publishSource(publishing, 'src')).toMatchObject({ outcome: 'published' });
  expect(told.sort()).toEqual(['FIRN_RECEIPT_DAMAGED', 'FIRN_UPLOAD_KEPT']);
  expect(await publishSource(await open(), 'src')).toBeUndefined();
  expect(await namesIn(repository.inbox)).toEqual(['src/d/b']);
});
