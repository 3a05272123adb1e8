import { beforeEach, expect, test } from 'vitest';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { breakLock, findLock, listLocks } from '../../src/storage/lock-states.ts';
import { createLocks } from '../../src/storage/locks.ts';
import { createFakeClock, type FakeClock } from '../kit/fake-clock.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';

let clock: FakeClock;
let store: BlobStore;
beforeEach(() => {
  clock = createFakeClock();
  store = createMemoryBlobStore({ now: clock.wallMs });
});

const acquire = (name: string, owner = 'ann') =>
  createLocks(store, { owner, clock }).acquire(name, { reason: 'test', waitMsMax: 0 });
const statesOf = async (prefix = '') =>
  (await Array.fromAsync(listLocks(store, { prefix }))).map(({ name, held, last }) => [name, held, last?.owner]);

test('locks are listed in the order of their names, with whether they are held and by whom last', async () => {
  expect(await statesOf()).toEqual([]);
  await acquire('publish-b', 'bob');
  await (await acquire('publish-a')).release();
  (await acquire('repair', 'dead')).leave();
  expect(await statesOf()).toEqual([
    ['publish-a', false, 'ann'],
    ['publish-b', true, 'bob'],
    ['repair', true, 'dead'],
  ]);
  await clock.advance(60_000);
  expect(await statesOf()).toEqual([
    ['publish-a', false, 'ann'],
    ['publish-b', true, 'bob'],
    ['repair', false, 'dead'],
  ]);
  expect(await statesOf('publish-b')).toEqual([['publish-b', true, 'bob']]);
});

test('a lock whose record cannot be read is listed all the same', async () => {
  await store.create('locks/odd', Buffer.from('{"owner":'));
  expect(await findLock(store, 'odd', {})).toEqual({ name: 'odd', held: false, last: undefined });
  expect(await findLock(store, 'unknown', {})).toBeUndefined();
});

test('a lock that is broken is free at once, and its owner learns it at the next renewal', async () => {
  const lock = await acquire('publish');
  expect(await breakLock(store, 'publish', {})).toBe(true);
  expect(await statesOf()).toEqual([['publish', false, 'ann']]);
  const next = await acquire('publish', 'bob');
  expect(next.token).toBe(2);
  await clock.advance(20_000);
  expect([lock.signal.aborted, next.signal.aborted]).toEqual([true, false]);
});

test('what is not held is not broken: neither free, nor ended, nor unknown', async () => {
  await (await acquire('free')).release();
  (await acquire('ended')).leave();
  await clock.advance(60_000);
  for (const name of ['free', 'ended', 'unknown']) expect(await breakLock(store, name, {}), name).toBe(false);
});
