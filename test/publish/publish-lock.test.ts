/** Publishes of one source exclude each other, say for whom they wait, and rest on no lock. */
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { FirnError } from '../../src/errors.ts';
import { planPublish, wholeIndex } from '../../src/publish/plan.ts';
import type { PlanReference } from '../../src/publish/plan-blob.ts';
import { endPublish, type HeldPublish, underPublishLock } from '../../src/publish/publish-lock.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import { buildFiletrees, commitSnapshot, flushShards } from '../../src/publish/steps.ts';
import type { Repository } from '../../src/repository.ts';
import { publishLock } from '../../src/storage/lock-names.ts';
import { leaseIdFor } from '../../src/storage/locks.ts';
import type { Hooks } from '../index/index-kit.ts';
import { damage } from '../kit/damage.ts';
import { createFakeClock, type FakeClock } from '../kit/fake-clock.ts';
import { archiveAll, upload } from '../kit/repository.ts';
import { createWorld, gateBefore, intrusion, isHeadWrite, publish, SOURCE, type World } from './publishers.ts';

const LOCK = publishLock(SOURCE);

/** A publish that stands before its commit. */
async function publishingIn(world: World, name = 'ann') {
  const gate = gateBefore(isHeadWrite);
  const publishing = publish(await world.process(name, { hooks: gate.hooks }));
  await gate.reached;
  return { gate, publishing };
}

describe('two publishes of one source', () => {
  test('one waits for the other, is told once for whom, and finds nothing left to do', async () => {
    const world = await createWorld();
    const { gate, publishing } = await publishingIn(world);
    const told: Error[] = [];
    const waiting = publish(await world.process('bob'), { onWait: (busy) => told.push(busy) });
    await world.clock.advance(100_000);
    expect(told).toMatchObject([
      {
        code: 'FIRN_LOCK_BUSY',
        message: expect.stringMatching(
          /^The lock publish-docs is held by ann since 2023-.* \(publish of docs by firn\)\.$/,
        ),
      },
    ]);
    gate.open();
    expect(await publishing).toMatchObject({ outcome: 'published' });
    expect(await world.clock.settle(waiting, 60_000)).toBeUndefined();
    const [snapshot, ...others] = await world.snapshots();
    expect(others).toEqual([]);
    expect(await world.contentOf(snapshot)).toEqual({ a: 'one' });
    expect((await world.locks()).map(({ held, last }) => [held, last?.token])).toEqual([[false, 2]]);
    expect(world.clock.pending()).toBe(0);
  });

  test('the one that waits publishes what came since', async () => {
    const world = await createWorld();
    const { gate, publishing } = await publishingIn(world);
    await world.drop({ b: 'two' });
    const waiting = publish(await world.process('bob'));
    await world.clock.advance(1_000);
    gate.open();
    await publishing;
    expect(await world.clock.settle(waiting, 60_000)).toMatchObject({ outcome: 'published' });
    const [first, second] = await world.snapshots();
    expect(second?.parent).toBe(first?.id);
    expect(await world.contentOf(second)).toEqual({ a: 'one', b: 'two' });
  });

  test.each([0, 30])(
    'a wait of %i seconds that runs out names the owner, since when and why, and harms nothing',
    async (lockWaitSeconds) => {
      const world = await createWorld();
      const { gate, publishing } = await publishingIn(world);
      const begun = world.clock.now();
      const bob = await world.process('bob', { lockWaitSeconds });
      await expect(world.clock.settle(publish(bob))).rejects.toMatchObject({
        code: 'FIRN_LOCK_BUSY',
        details: { lock: LOCK, owner: expect.stringMatching(/^ann since .* \(publish of docs by firn\)$/) },
        advice: expect.stringContaining('firn locks'),
      });
      expect(world.clock.now() - begun).toBeLessThan(lockWaitSeconds * 1000 + 1_000);
      gate.open();
      expect(await publishing).toMatchObject({ outcome: 'published' });
    },
  );

  test('a signal ends the wait, with its reason', async () => {
    const world = await createWorld();
    const { gate, publishing } = await publishingIn(world);
    const controller = new AbortController();
    const enough = new Error('enough');
    const waiting = publish(await world.process('bob'), { signal: controller.signal });
    await world.clock.advance(10_000);
    controller.abort(enough);
    await expect(waiting).rejects.toBe(enough);
    gate.open();
    await publishing;
  });

  test('the lock of a publish that died is free within a minute, and the next goes on with its plan', async () => {
    const world = await createWorld();
    const dead = await world.process('dead', { clock: createFakeClock() });
    const lock = await dead.locks.acquire(LOCK, { reason: 'test', waitMsMax: 0 });
    const plan = await planPublish(dead, SOURCE);
    const begun = world.clock.now();
    const outcome = await world.clock.settle(publish(await world.process('bob')), 70_000);
    expect(outcome?.snapshot?.id).toBe(plan?.snapshot);
    expect(world.clock.now() - begun).toBeLessThan(70_000);
    expect(await lock.release()).toBe(false);
  });

  test('publishes of other sources are not waited for', async () => {
    const world = await createWorld();
    const { gate, publishing } = await publishingIn(world);
    const bob = await world.process('bob', { lockWaitSeconds: 0 });
    await upload(bob, 'other/a', 'one');
    await archiveAll(bob, 'other');
    expect(await publishSource(bob, 'other')).toMatchObject({ outcome: 'published' });
    gate.open();
    await publishing;
  });

  test('where nothing waits no lock is taken', async () => {
    const world = await createWorld();
    expect(await publishSource(await world.process('ann'), 'other')).toBeUndefined();
    expect(await world.locks()).toEqual([]);
  });
});

/** When whatever lease there was has ended. */
async function publishAfterLease(world: World, name: string): Promise<void> {
  await world.clock.advance(60_000);
  await publish(await world.process(name, { lockWaitSeconds: 0 }));
}

describe('a publisher that has lost its lock', () => {
  /** Something happens before each request of a publisher in turn (0: none, to count them); then the next publishes what is left. */
  async function atEveryRequest(
    clockOf: (world: World) => FakeClock,
    happening: (world: World) => Promise<unknown>,
    check: (outcome: unknown) => void,
  ): Promise<void> {
    let requests = 0;
    for (let at = 0; at <= requests; at += 1) {
      const world = await createWorld();
      const intruder = intrusion(at, () => happening(world));
      const ann = await world.process('ann', { hooks: intruder, clock: clockOf(world), lockWaitSeconds: 0 });
      check(await publish(ann).catch((error: unknown) => error));
      requests = Math.max(requests, intruder.requests);
      await publishAfterLease(world, 'next');
      const [snapshot, ...others] = await world.snapshots();
      expect(others, `request ${at}`).toEqual([]);
      expect(await world.contentOf(snapshot), `request ${at}`).toEqual({ a: 'one' });
    }
    expect(requests).toBeGreaterThan(15);
  }

  test('stops by its signal wherever it is, and the next publish completes its work', async () => {
    let stopped = 0;
    await atEveryRequest(
      ({ clock }) => clock,
      async ({ state, clock, locks }) => {
        if ((await locks()).length === 0) return;
        await state.breakLease(`locks/${LOCK}`);
        await clock.advance(20_000);
      },
      (outcome) => {
        if (!(outcome instanceof Error)) return;
        const { code, retryable } = outcome as FirnError;
        // While it takes the lock, it is told at once.
        expect({ code, retryable }).toEqual({
          code: expect.stringMatching(/^FIRN_LOCK_(LOST|BUSY)$/),
          retryable: true,
        });
        if (code === 'FIRN_LOCK_LOST') stopped += 1;
      },
    );
    expect(stopped).toBeGreaterThan(10);
  });

  test('says so also where what it was doing says only that it was aborted', async () => {
    const world = await createWorld();
    const options = { by: 'firn', waitMsMax: 0 };
    const working = underPublishLock(await world.process('ann'), SOURCE, options, ({ signal }) =>
      pause(600_000, undefined, { signal }),
    );
    const failure = expect(working).rejects.toMatchObject({ code: 'FIRN_LOCK_LOST' });
    await expect.poll(async () => (await world.locks())[0]?.last?.owner).toBe('ann');
    await world.state.breakLease(`locks/${LOCK}`);
    await world.clock.advance(20_000);
    await failure;
  });

  test('and does not know it, because it was paused, harms nothing that another has done meanwhile', async () => {
    let conflicts = 0;
    await atEveryRequest(
      createFakeClock,
      async (world) => await publishAfterLease(world, 'bob'),
      (outcome) => {
        if (!(outcome instanceof Error)) return;
        const { code } = outcome as FirnError;
        expect(code).toMatch(/^FIRN_(PUBLISH_CONFLICT|LOCK_BUSY)$/);
        if (code === 'FIRN_PUBLISH_CONFLICT') conflicts += 1;
      },
    );
    expect(conflicts).toBeGreaterThan(3);
  });

  test.each(['receipts/', 'plans/'])(
    'commits no plan that another gave up, since something below %s was damaged, and replaced',
    async (prefix) => {
      const world = await createWorld();
      await world.drop({ b: 'two' });
      // Ann has built her tree, of both batches, and stands in her flush.
      const flushing = gateBefore((call, name) => call === 'create' && name.startsWith('chunk-index/'));
      const built = Promise.withResolvers<void>();
      const hooks: Hooks = {
        ...flushing.hooks,
        after: (call, name) => void (call === 'create' && name.startsWith('filetrees/') && built.resolve()),
      };
      const ann = await world.process('ann', { hooks, clock: createFakeClock() });
      const publishing = publish(ann).catch((error: unknown) => error);
      await Promise.all([flushing.reached, built.promise]);

      const blobs = (await Array.fromAsync(world.state.list({ prefix }))).map(({ name }) => name);
      await damage(world.state, blobs.findLast((name) => !name.endsWith('/receipt') && !name.endsWith('/index')) ?? '');
      await world.clock.advance(60_000);
      // Bob plans anew, and stands before his snapshot.
      const committing = gateBefore((call, name) => call === 'create' && name.startsWith('snapshots/'));
      const bob = await world.process('bob', { hooks: committing.hooks, lockWaitSeconds: 0 });
      if (prefix === 'receipts/') await expect(publish(bob)).rejects.toMatchObject({ code: 'FIRN_RECEIPT_DAMAGED' });
      const replacing = publish(bob);
      await committing.reached;

      flushing.open();
      expect(await publishing).toMatchObject({ code: 'FIRN_PUBLISH_CONFLICT' });
      committing.open();
      expect(await replacing).toMatchObject({ outcome: 'published' });
      const [snapshot, ...others] = await world.snapshots();
      expect(others).toEqual([]);
      expect(await world.contentOf(snapshot)).toEqual(prefix === 'plans/' ? { a: 'one', b: 'two' } : { a: 'one' });

      // What was given up is archived again.
      await world.clock.advance(3_600_000);
      const next = await world.process('next');
      await archiveAll(next, SOURCE);
      await publish(next);
      expect(await world.contentOf((await world.snapshots()).at(-1))).toEqual({ a: 'one', b: 'two' });
    },
  );
});

describe('the steps of one run', () => {
  const leaseId = leaseIdFor('run 1');
  const options = { leaseId, by: 'the orchestration 1', waitMsMax: 0 };

  /** A step in a process of its own. */
  async function step<T>(
    world: World,
    work: (repository: Repository, held: HeldPublish) => Promise<T>,
    hooks: Hooks = {},
  ): Promise<T> {
    const repository = await world.process('a host', { hooks });
    return await underPublishLock(repository, SOURCE, options, (held) => work(repository, held));
  }

  async function planned(world: World): Promise<PlanReference> {
    const plan = await step(world, (repository, held) => planPublish(repository, SOURCE, held));
    if (plan === undefined) throw new Error('nothing was planned');
    return plan;
  }

  async function expectRefused(world: World): Promise<void> {
    await expect(publish(await world.process('bob', { lockWaitSeconds: 0 }))).rejects.toMatchObject({
      code: 'FIRN_LOCK_BUSY',
      details: { owner: expect.stringMatching(/^a host since .* \(publish of docs by the orchestration 1\)$/) },
    });
  }

  test('hold the lock from the plan to the commit, and others are refused in between', async () => {
    const world = await createWorld();
    const plan = await planned(world);
    await expectRefused(world);
    // Two steps at once: the first to end does not end it for the other.
    const gate = gateBefore((call, name) => call === 'create' && name.startsWith('chunk-index/'));
    const flushing = step(world, (repository, held) => flushShards(repository, plan, wholeIndex, held), gate.hooks);
    await gate.reached;
    const tree = await step(world, (repository, held) => buildFiletrees(repository, plan, held));
    await world.clock.advance(300_000);
    await expectRefused(world);
    gate.open();
    await flushing;
    await expectRefused(world);
    const { outcome } = await step(world, async (repository, held) => {
      const committed = await commitSnapshot(repository, plan, tree, held);
      await held.release();
      return committed;
    });
    expect(outcome).toBe('published');
    expect((await world.locks()).map(({ held, last }) => [held, last?.token])).toEqual([[false, 1]]);
    expect(world.clock.pending()).toBe(0);
  });

  test('that died leave the lock for a minute; resumed in time, the run goes on under the same token', async () => {
    const world = await createWorld();
    const plan = await planned(world);
    await world.clock.advance(50_000);
    await expectRefused(world);
    await step(world, (repository, held) => flushShards(repository, plan, wholeIndex, held));
    expect((await world.locks())[0]?.last?.token).toBe(1);
    await world.clock.advance(60_000);
    const bob = await world.process('bob', { lockWaitSeconds: 0 });
    expect((await publish(bob))?.snapshot?.id).toBe(plan.snapshot);
  });

  test('that come back while another publishes are told who it is, and when it is done that it was faster', async () => {
    const world = await createWorld();
    const plan = await planned(world);
    await world.clock.advance(60_000);
    const { gate, publishing } = await publishingIn(world, 'bob');
    const flush = () => step(world, (repository, held) => flushShards(repository, plan, wholeIndex, held));
    await expect(flush()).rejects.toMatchObject({
      code: 'FIRN_LOCK_BUSY',
      details: { owner: expect.stringContaining('bob since') },
    });
    gate.open();
    await publishing;
    await expect(flush()).rejects.toMatchObject({ code: 'FIRN_PUBLISH_CONFLICT' });
  });

  test('that failed leave the lock to the last one, which gives it back', async () => {
    const world = await createWorld();
    await planned(world);
    const failing = step(world, async () => {
      throw new Error('no luck');
    });
    await expect(failing).rejects.toThrow('no luck');
    await expectRefused(world);
    await endPublish(await world.process('another host'), SOURCE, leaseId);
    expect(await publish(await world.process('bob', { lockWaitSeconds: 0 }))).toMatchObject({ outcome: 'published' });
  });
});
