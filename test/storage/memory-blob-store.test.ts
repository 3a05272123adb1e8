import { expect, test } from 'vitest';
import { createMemoryAccount, createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { blobStoreConformance } from './blob-store-conformance.ts';

let now = 1_700_000_000_000;

blobStoreConformance('memory', {
  open: async (options) => createMemoryBlobStore({ ...options, now: () => now }),
  passTime: (ms) => {
    now += ms;
  },
  runs: 300,
});

test('stores over one container of an account see each other; other containers are apart', async () => {
  const account = createMemoryAccount();
  await account.container('one').create('a', Buffer.from('x'));
  expect((await account.container('one').read('a')).body.toString()).toBe('x');
  await expect(account.container('two').read('a')).rejects.toMatchObject({ failure: 'missing' });
  await expect(account.container('three', { exists: false }).read('a')).rejects.toMatchObject({
    code: 'FIRN_CONTAINER_MISSING',
  });
  expect(await account.container('three', { exists: false }).createContainer()).toBe(true);
});

test('an append blob is full at its limit of blocks', async () => {
  const store = createMemoryBlobStore({ appendBlocksMax: 3 });
  await store.createAppend('log', Buffer.from('1'));
  await store.append('log', Buffer.from('2'));
  await store.append('log', Buffer.from('3'));
  await expect(store.append('log', Buffer.from('4'))).rejects.toMatchObject({ failure: 'full' });
  expect((await store.read('log')).body.toString()).toBe('123');
});
