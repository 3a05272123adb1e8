import { beforeEach, describe, expect, test } from 'vitest';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { connectStorage } from '../../src/storage/connect.ts';
import type { Lock } from '../../src/storage/lock-lease.ts';
import { createLocks, leaseIdFor } from '../../src/storage/locks.ts';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { createCountedStore } from '../kit/counted-store.ts';
import { createFakeClock, type FakeClock } from '../kit/fake-clock.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';

let clock: FakeClock;
let store: BlobStore;
beforeEach(() => {
  clock = createFakeClock();
  store = createMemoryBlobStore({ now: clock.wallMs });
});

const reason = 'test';
const locksOf = (owner: string, over: BlobStore = store) => createLocks(over, { owner, clock });

async function held(name: string, owner = 'ann', over: BlobStore = store, options = {}): Promise<Lock> {
  const lock = await locksOf(owner, over).tryAcquire(name, { reason, ...options });
  if (lock === undefined) throw new Error(`${name} is held`);
  return lock;
}

describe('holding', () => {
  test('a lock has one holder until it is released, and every new owner a greater token', async () => {
    const first = await held('publish');
    expect(await locksOf('bob').tryAcquire('publish', { reason })).toBeUndefined();
    expect(await locksOf('bob').tryAcquire('other', { reason })).toBeDefined();
    expect(await first.release()).toBe(true);
    const second = await held('publish', 'bob');
    expect([first.token, second.token]).toEqual([1, 2]);
    expect(first.signal.aborted).toBe(false);
    expect(second.name).toBe('publish');
  });

  test('it is released by scope, also when the work throws, and keeps no timer', async () => {
    const work = async () => {
      await using lock = await held('publish');
      expect(lock.signal.aborted).toBe(false);
      throw new Error('the work failed');
    };
    await expect(work()).rejects.toThrow('the work failed');
    expect(clock.pending()).toBe(0);
    expect((await held('publish', 'bob')).token).toBe(2);
  });

  test('the owner is on record', async () => {
    const locks = locksOf('ann on host-1');
    expect(await locks.owner('publish')).toBeUndefined();
    await using _ = await held('publish', 'ann on host-1');
    expect(await locks.owner('publish')).toMatchObject({
      owner: 'ann on host-1',
      reason,
      since: clock.date().toISOString(),
      token: 1,
    });
  });

  test('the id of a shared lease is not on record', async () => {
    const leaseId = leaseIdFor('run 7');
    await held('publish', 'ann', store, { leaseId });
    expect((await store.read('locks/publish')).body.toString()).not.toContain(leaseId);
  });

  test('it is renewed at a third of its time and so held for as long as it takes', async () => {
    const renewedAt: number[] = [];
    const counting = {
      ...store,
      renewLease: (...args: Parameters<BlobStore['renewLease']>) => {
        renewedAt.push(clock.now());
        return store.renewLease(...args);
      },
    };
    const lock = await held('publish', 'ann', counting, { ttlSeconds: 30 });
    await clock.advance(35_000);
    expect(renewedAt).toEqual([10_000, 20_000, 30_000]);
    await clock.advance(600_000);
    expect(lock.signal.aborted).toBe(false);
    expect(await locksOf('bob').tryAcquire('publish', { reason })).toBeUndefined();
    expect(await lock.release()).toBe(true);
    await clock.advance(60_000);
    expect(clock.pending()).toBe(0);
  });

  test.each([Number.MAX_SAFE_INTEGER - 1, Number.MAX_SAFE_INTEGER, 2 ** 53, -1])(
    'a record with the token %i, which no lock comes to, does not keep tokens from growing',
    async (token) => {
      const record = { owner: 'alice', reason: 'r', since: '2026-01-02T03:04:05.000Z', token, lease: '' };
      await store.create('locks/publish', Buffer.from(JSON.stringify(record)));
      const tokens: number[] = [];
      for (let taken = 0; taken < 3; taken += 1) {
        const lock = await held('publish', 'bob');
        tokens.push(lock.token);
        await lock.release();
      }
      expect(tokens).toEqual([tokens[0], tokens[0]! + 1, tokens[0]! + 2]);
      expect(tokens[0]).toBeGreaterThan(0);
    },
  );

  test('a record that cannot be read does not stop the next owner, nor make the token smaller', async () => {
    const first = await held('publish');
    await first.release();
    const { etag } = await store.properties('locks/publish');
    await store.replace('locks/publish', Buffer.from('{"token":"'), { ifMatch: etag });
    const second = await held('publish', 'bob');
    expect(second.token).toBeGreaterThan(first.token);
    await second.release();
    expect((await held('publish')).token).toBe(second.token + 1);
  });
});

describe('waiting', () => {
  test('without waiting, a lock that is held is busy, and the owner is named', async () => {
    await held('publish', 'ann');
    await expect(locksOf('bob').acquire('publish', { reason, waitMsMax: 0 })).rejects.toMatchObject({
      code: 'FIRN_LOCK_BUSY',
      details: { lock: 'publish', owner: expect.stringContaining('ann since 2023-') },
    });
  });

  test('it ends with the lock once that is released', async () => {
    const first = await held('publish');
    const waiting = locksOf('bob').acquire('publish', { reason, waitMsMax: 60_000 });
    await clock.advance(20_000);
    await first.release();
    const second = await clock.settle(waiting, 10_000);
    expect(second.token).toBe(2);
  });

  test('it ends when a holder that died has been silent for its time to live', async () => {
    const dead = await held('publish', 'ann', store, { ttlSeconds: 60 });
    dead.leave();
    const begun = clock.now();
    await clock.settle(locksOf('bob').acquire('publish', { reason, waitMsMax: 120_000 }));
    expect(clock.now() - begun).toBeGreaterThanOrEqual(60_000);
    expect(clock.now() - begun).toBeLessThan(66_000);
  });

  test('it is told once, before it begins, whom it is for', async () => {
    const first = await held('publish', 'ann');
    const told: Error[] = [];
    const waiting = locksOf('bob').acquire('publish', {
      reason,
      waitMsMax: 60_000,
      onWait: (busy) => told.push(busy),
    });
    await clock.advance(30_000);
    await first.release();
    await clock.settle(waiting, 10_000);
    expect(told).toMatchObject([{ code: 'FIRN_LOCK_BUSY', details: { owner: expect.stringContaining('ann since') } }]);
    await locksOf('eve').acquire('other', { reason, waitMsMax: 60_000, onWait: (busy) => told.push(busy) });
    expect(told).toHaveLength(1);
  });

  test('it ends at its limit, not much later', async () => {
    await held('publish');
    await expect(clock.settle(locksOf('bob').acquire('publish', { reason, waitMsMax: 12_345 }))).rejects.toMatchObject({
      code: 'FIRN_LOCK_BUSY',
    });
    expect(clock.now()).toBeGreaterThanOrEqual(12_345);
    expect(clock.now()).toBeLessThan(12_500);
  });

  test('a signal ends it at once, with its reason', async () => {
    await held('publish');
    const controller = new AbortController();
    const enough = new Error('enough');
    const waiting = locksOf('bob').acquire('publish', { reason, waitMsMax: 60_000, signal: controller.signal });
    await clock.advance(1_000);
    controller.abort(enough);
    await expect(waiting).rejects.toBe(enough);
  });

  test('a lease that was taken while the caller gave up is given back', async () => {
    const controller = new AbortController();
    const enough = new Error('enough');
    const late = {
      ...store,
      async acquireLease(name: string, leaseId: string, seconds: number) {
        await store.acquireLease(name, leaseId, seconds);
        controller.abort(enough);
        throw enough;
      },
    };
    await (await held('publish')).release();
    const acquiring = locksOf('bob', late).tryAcquire('publish', { reason, signal: controller.signal });
    await expect(acquiring).rejects.toBe(enough);
    await clock.advance(0);
    expect(await locksOf('ann').tryAcquire('publish', { reason })).toBeDefined();
  });

  test('an owner who came and went while the lock was asked for is counted, and not written over unseen', async () => {
    await (await held('publish')).release();
    const seen = Promise.withResolvers<void>();
    const early = {
      ...store,
      async read(...args: Parameters<BlobStore['read']>) {
        const content = await store.read(...args);
        seen.resolve();
        return content;
      },
      async acquireLease(...args: Parameters<BlobStore['acquireLease']>) {
        await seen.promise;
        await (await held('publish', 'bob')).release();
        return await store.acquireLease(...args);
      },
    };
    const lock = await held('publish', 'carol', early);
    expect(lock.token).toBe(3);
    expect(await locksOf('ann').owner('publish')).toMatchObject({ owner: 'carol', token: 3 });
  });

  test('who waits for it asks for its record no oftener than there is something to say', async () => {
    const ann = await held('publish');
    const { store: counted, takeTraffic } = createCountedStore(store);
    const waiting = locksOf('bob', counted).acquire('publish', { reason, waitMsMax: 600_000 });
    await clock.advance(300_000);
    await ann.release();
    await (await clock.settle(waiting, 60_000)).release();
    const { reads, others } = takeTraffic();
    expect(others).toBeGreaterThan(50);
    expect(reads).toBeLessThanOrEqual(3);
  });

  test('of 32 contenders never two hold it, all get it, and tokens grow', async () => {
    let holders = 0;
    const tokens: number[] = [];
    const contend = async (i: number): Promise<void> => {
      const lock = await locksOf(`contender ${i}`).acquire('publish', { reason, waitMsMax: 3_600_000 });
      holders += 1;
      expect(holders).toBe(1);
      tokens.push(lock.token);
      await new Promise<void>((resolve) => clock.after((i % 5) * 1_000, resolve));
      expect(lock.signal.aborted).toBe(false);
      holders -= 1;
      // Some die instead of releasing.
      if (i % 8 === 0) lock.leave();
      else await lock.release();
    };
    await clock.settle(Promise.all(Array.from({ length: 32 }, (_, i) => contend(i))));
    expect(tokens).toEqual(Array.from({ length: 32 }, (_, i) => i + 1));
  });
});

describe('waiting for those who hold locks', () => {
  const wait = (waitMsMax: number, options: { signal?: AbortSignal; onWait?: (busy: Error) => void } = {}) =>
    locksOf('repairer').waitForHolders('publish-', { waitMsMax, ...options });

  test('ends at once where none is held, also without waiting', async () => {
    await (await held('publish-a')).release();
    await held('repair');
    const told: Error[] = [];
    await wait(0, { onWait: (busy) => told.push(busy) });
    expect(told).toEqual([]);
  });

  test('ends when all are given back or have ended, and tells once whom it waits for', async () => {
    const alive = await held('publish-a', 'ann');
    (await held('publish-b', 'dead', store, { ttlSeconds: 30 })).leave();
    const told: Error[] = [];
    const waiting = wait(120_000, { onWait: (busy) => told.push(busy) });
    await clock.advance(90_000);
    expect(await Promise.race([waiting, 'waiting'])).toBe('waiting');
    await alive.release();
    await clock.settle(waiting, 10_000);
    expect(told).toMatchObject([{ code: 'FIRN_LOCK_BUSY', details: { owner: expect.stringContaining('ann since') } }]);
  });

  test('does not wait for who comes later', async () => {
    const first = await held('publish-a');
    const waiting = wait(60_000);
    await clock.advance(1_000);
    await first.release();
    await held('publish-a', 'bob');
    await held('publish-b', 'eve');
    await clock.settle(waiting, 10_000);
  });

  test('ends at its limit with the owner of what is still held', async () => {
    await (await held('publish-a')).release();
    await held('publish-b', 'bob');
    await expect(clock.settle(wait(30_000))).rejects.toMatchObject({
      code: 'FIRN_LOCK_BUSY',
      details: { lock: 'publish-b', owner: expect.stringMatching(/^bob since 2023-.* \(test\)$/) },
    });
    expect(clock.now()).toBeLessThan(30_200);
    await expect(wait(0)).rejects.toMatchObject({ code: 'FIRN_LOCK_BUSY' });
  });

  test('a signal ends it at once, with its reason', async () => {
    await held('publish-a');
    const controller = new AbortController();
    const enough = new Error('enough');
    const waiting = wait(60_000, { signal: controller.signal });
    await clock.advance(1_000);
    controller.abort(enough);
    await expect(waiting).rejects.toBe(enough);
    expect(clock.pending()).toBe(2);
  });
});

describe('losing', () => {
  const unreachable = new Error('no answer');

  test('a renewal that fails is tried again, and nothing is lost when it succeeds in time', async () => {
    let failing = true;
    const flaky = {
      ...store,
      renewLease: async (...args: Parameters<BlobStore['renewLease']>) => {
        if (failing) throw unreachable;
        await store.renewLease(...args);
      },
    };
    const lock = await held('publish', 'ann', flaky, { ttlSeconds: 30 });
    await clock.advance(28_500);
    expect(lock.signal.aborted).toBe(false);
    failing = false;
    await clock.advance(120_000);
    expect(lock.signal.aborted).toBe(false);
    expect(await lock.release()).toBe(true);
  });

  test('a lock that cannot be renewed is lost when its time is over, and not before', async () => {
    const cut = { ...store, renewLease: () => Promise.reject(unreachable) };
    const lock = await held('publish', 'ann', cut, { ttlSeconds: 30 });
    await clock.advance(29_999);
    expect(lock.signal.aborted).toBe(false);
    await clock.advance(1);
    expect(lock.signal.reason).toMatchObject({ code: 'FIRN_LOCK_LOST', details: { lock: 'publish' } });
    expect(clock.pending()).toBe(0);
  });

  test('a renewal that never answers does not keep the lock alive', async () => {
    const hung = { ...store, renewLease: () => new Promise<void>(() => undefined) };
    const lock = await held('publish', 'ann', hung, { ttlSeconds: 30 });
    await clock.advance(30_000);
    expect(lock.signal.reason).toMatchObject({ code: 'FIRN_LOCK_LOST' });
  });

  test('the time counts from before the request, so a slow answer makes it shorter', async () => {
    const slow = {
      ...store,
      async acquireLease(...args: Parameters<BlobStore['acquireLease']>) {
        await clock.jump(8_000);
        return await store.acquireLease(...args);
      },
      renewLease: () => Promise.reject(unreachable),
    };
    await (await held('publish')).release();
    const lock = await held('publish', 'ann', slow, { ttlSeconds: 30 });
    await clock.advance(21_999);
    expect(lock.signal.aborted).toBe(false);
    await clock.advance(1);
    expect(lock.signal.aborted).toBe(true);
  });

  test('a renewal whose answer is lost loses nothing', async () => {
    let renewals = 0;
    const mute = {
      ...store,
      renewLease: async (...args: Parameters<BlobStore['renewLease']>) => {
        await store.renewLease(...args);
        renewals += 1;
        if (renewals % 2 === 1) throw unreachable;
      },
    };
    const lock = await held('publish', 'ann', mute, { ttlSeconds: 15 });
    await clock.advance(120_000);
    expect(lock.signal.aborted).toBe(false);
    expect(renewals).toBeGreaterThan(10);
  });

  test('a lease that was broken is lost at the next renewal', async () => {
    const lock = await held('publish', 'ann', store, { ttlSeconds: 30 });
    await store.breakLease('locks/publish');
    await clock.advance(10_000);
    expect(lock.signal.reason).toMatchObject({ code: 'FIRN_LOCK_LOST' });
  });

  test('a holder that was paused learns it when it wakes, and takes nothing from who came after', async () => {
    // Ann's process has a clock of its own, which stands still with it.
    const annsClock = createFakeClock();
    const paused = await createLocks(store, { owner: 'ann', clock: annsClock }).acquire('publish', {
      reason,
      waitMsMax: 0,
    });
    await clock.advance(600_000);
    const next = await held('publish', 'bob');
    expect(paused.signal.aborted).toBe(false);

    await annsClock.jump(600_000);

    expect(paused.signal.reason).toMatchObject({ code: 'FIRN_LOCK_LOST' });
    expect(annsClock.pending()).toBe(0);
    expect(next.token).toBe(paused.token + 1);
    expect(await paused.release()).toBe(false);
    expect(await paused.release()).toBe(false);
    await clock.advance(300_000);
    expect(next.signal.aborted).toBe(false);
    expect(await next.release()).toBe(true);
  });

  test('a renewal of a lock that another took over does not take it back', async () => {
    const first = await held('publish', 'ann', store, { ttlSeconds: 60 });
    await store.breakLease('locks/publish');
    const second = await held('publish', 'bob');
    await clock.advance(20_000);
    expect(first.signal.aborted).toBe(true);
    expect(second.signal.aborted).toBe(false);
    await clock.advance(120_000);
    expect(second.signal.aborted).toBe(false);
  });

  test('a release does not wait for a renewal, cancels it, and fires no signal', async () => {
    let renewing: AbortSignal | undefined;
    const hung: BlobStore = {
      ...store,
      renewLease: (_name, _leaseId, options) => {
        renewing = options?.signal;
        return new Promise<void>(() => undefined);
      },
    };
    const lock = await held('publish', 'ann', hung, { ttlSeconds: 30 });
    await clock.advance(15_000);
    expect(renewing?.aborted).toBe(false);
    expect(await lock.release()).toBe(true);
    expect(renewing?.aborted).toBe(true);
    expect(clock.pending()).toBe(0);
    await clock.advance(60_000);
    expect(lock.signal.aborted).toBe(false);
  });

  test('a release that cannot reach the storage gives false', async () => {
    const cut = { ...store, releaseLease: () => Promise.reject(unreachable) };
    const lock = await held('publish', 'ann', cut);
    expect(await lock.release()).toBe(false);
    expect(clock.pending()).toBe(0);
  });
});

describe('a lease that steps of one run share', () => {
  const leaseId = leaseIdFor('orchestration 1/publish');

  test('each step takes it up with the same token; others stay out until the last releases', async () => {
    for (const step of ['plan', 'flush', 'commit']) {
      expect(step === 'plan' || (await locksOf('bob').tryAcquire('publish', { reason })) === undefined).toBe(true);
      await using lock = await held('publish', step, store, { leaseId });
      expect(lock.token).toBe(1);
      await clock.advance(100_000);
      expect(await locksOf('bob').tryAcquire('publish', { reason })).toBeUndefined();
      if (step !== 'commit') lock.leave();
    }
    expect(clock.pending()).toBe(0);
    expect((await held('publish', 'bob')).token).toBe(2);
  });

  test('a step that comes back after another owner has a new token', async () => {
    (await held('publish', 'plan', store, { leaseId })).leave();
    await clock.advance(60_000);
    await (await held('publish', 'bob')).release();
    expect((await held('publish', 'flush', store, { leaseId })).token).toBe(3);
  });

  test('steps may hold it at the same time, each renews it, and one that ends does not end it for the others', async () => {
    const steps = await Promise.all(['a', 'b', 'c'].map((step) => held('publish', step, store, { leaseId })));
    expect(steps.map(({ token }) => token)).toEqual([1, 1, 1]);
    for (const [at, step] of steps.entries()) {
      await clock.advance(200_000);
      expect(steps.slice(at).map(({ signal }) => signal.aborted)).not.toContain(true);
      expect(await locksOf('bob').tryAcquire('publish', { reason })).toBeUndefined();
      step.leave();
    }
    expect(clock.pending()).toBe(0);
    // Nobody renews it now: it ends by itself, and not before.
    await clock.advance(39_000);
    expect(await locksOf('bob').tryAcquire('publish', { reason })).toBeUndefined();
    await clock.advance(21_000);
    expect((await held('publish', 'bob')).token).toBe(2);
  });

  test('after its end all steps that come back at once hold it again; while another has it, none does', async () => {
    (await held('publish', 'plan', store, { leaseId })).leave();
    await clock.advance(60_000);
    const others = await held('publish', 'bob');
    const come = () => Promise.all(['a', 'b'].map((step) => locksOf(step).tryAcquire('publish', { reason, leaseId })));
    expect(await come()).toEqual([undefined, undefined]);
    await others.release();
    expect((await come()).map((lock) => lock?.token)).toEqual([3, 3]);
  });

  test('what steps have left is released by its id, and by no other', async () => {
    (await held('publish', 'plan', store, { leaseId })).leave();
    expect(await locksOf('bob').releaseLeft('publish', leaseIdFor('another'))).toBe(false);
    expect(await locksOf('bob').tryAcquire('publish', { reason })).toBeUndefined();
    expect(await locksOf('ann').releaseLeft('publish', leaseId)).toBe(true);
    const next = await held('publish', 'bob');
    expect(await locksOf('ann').releaseLeft('publish', leaseId)).toBe(false);
    expect(await locksOf('ann').releaseLeft('never taken', leaseId)).toBe(false);
    await clock.advance(120_000);
    expect(next.signal.aborted).toBe(false);
  });

  test('a step that holds it while the run releases it learns that it is lost', async () => {
    const step = await held('publish', 'flush', store, { leaseId });
    await locksOf('ann').releaseLeft('publish', leaseId);
    await clock.advance(20_000);
    expect(step.signal.reason).toMatchObject({ code: 'FIRN_LOCK_LOST' });
  });

  test('its id follows from the text and is a GUID', () => {
    expect(leaseIdFor('a')).toBe(leaseIdFor('a'));
    expect(leaseIdFor('a')).not.toBe(leaseIdFor('b'));
    expect(leaseIdFor('a')).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
  });
});

describe('on Azurite', () => {
  const container = async (): Promise<BlobStore> => {
    const over = connectStorage({ connectionString: azuriteConnectionString() }).container(uniqueName());
    await over.createContainer();
    return over;
  };

  test('contenders take turns', { timeout: 120_000 }, async () => {
    const over = await container();
    let holders = 0;
    const tokens: number[] = [];
    await Promise.all(
      Array.from({ length: 6 }, async (_, i) => {
        const locks = createLocks(over, { owner: `contender ${i}` });
        await using lock = await locks.acquire('publish', { reason, waitMsMax: 100_000 });
        holders += 1;
        expect(holders).toBe(1);
        tokens.push(lock.token);
        expect((await locks.owner('publish'))?.owner).toBe(`contender ${i}`);
        holders -= 1;
      }),
    );
    expect(tokens).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test('of 32 who try at the same moment one gets it, each time, and the first time the lock is made', async () => {
    const over = await container();
    for (const round of [1, 2, 3]) {
      const tries = Array.from({ length: 32 }, (_, i) =>
        createLocks(over, { owner: `contender ${i}` }).tryAcquire('publish', { reason }),
      );
      const [winner, ...others] = (await Promise.all(tries)).filter((lock) => lock !== undefined);
      expect(others).toEqual([]);
      expect(winner?.token).toBe(round);
      expect(await winner?.release()).toBe(true);
    }
  });

  test('a lock that was broken and taken is not released by its first holder', async () => {
    const over = await container();
    const first = await createLocks(over, { owner: 'ann' }).acquire('publish', { reason, waitMsMax: 0 });
    await expect(
      createLocks(over, { owner: 'bob' }).acquire('publish', { reason, waitMsMax: 0 }),
    ).rejects.toMatchObject({
      code: 'FIRN_LOCK_BUSY',
      details: { owner: expect.stringContaining('ann') },
    });
    await over.breakLease('locks/publish');
    await using second = await createLocks(over, { owner: 'bob' }).acquire('publish', { reason, waitMsMax: 0 });
    expect(await first.release()).toBe(false);
    expect(await createLocks(over, { owner: 'eve' }).tryAcquire('publish', { reason })).toBeUndefined();
    expect(second.token).toBe(2);
  });
});
