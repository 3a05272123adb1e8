/** A publish and a repair of the chunk index exclude each other; whichever comes second says for whom it waits. */
import { describe, expect, test } from 'vitest';
import { FirnError } from '../../src/errors.ts';
import { findRepairMarker, takeRepairMarker } from '../../src/index/marker.ts';
import { repairIndex } from '../../src/index/repair.ts';
import { type RunRepairOptions, runRepair } from '../../src/index/repair-run.ts';
import { rootOf } from '../../src/index/root-view.ts';
import { planPublish } from '../../src/publish/plan.ts';
import { buildFiletrees } from '../../src/publish/steps.ts';
import type { Repository } from '../../src/repository.ts';
import { publishLock } from '../../src/storage/lock-names.ts';
import type { Hooks } from '../index/index-kit.ts';
import { createWorld, gateBefore, intrusion, isHeadWrite, publish, SOURCE, type World } from './publishers.ts';

const FILES = { a: 'one', b: 'two' };
const LOCK = publishLock(SOURCE);

/** A world with a snapshot, and a batch to publish. */
async function publishedWorld(): Promise<World> {
  const world = await createWorld();
  await publish(await world.process('first'));
  await world.drop({ b: FILES.b });
  return world;
}

function rootsOf({ keys }: Repository): string[] {
  return Object.values(FILES).map((content) => rootOf(keys.hash(Buffer.from(content))));
}

async function repair(world: World, options: RunRepairOptions = {}, hooks: Hooks = {}) {
  const repository = await world.process('repairer', { hooks });
  return await runRepair(repository, { roots: rootsOf(repository), ...options });
}

async function expectAllPublished(world: World): Promise<void> {
  const snapshots = await world.snapshots();
  expect(snapshots).toHaveLength(2);
  expect(await world.contentOf(snapshots[1])).toEqual(FILES);
  const proof = await world.process('proof');
  const { entries, shardsWritten, shardsRemoved } = await repairIndex(proof, { owner: 'proof', roots: rootsOf(proof) });
  expect({ entries, shardsWritten, shardsRemoved }).toEqual({ entries: 2, shardsWritten: 0, shardsRemoved: 0 });
}

async function publishingIn(world: World) {
  const gate = gateBefore(isHeadWrite);
  const publishing = publish(await world.process('ann', { hooks: gate.hooks }));
  await gate.reached;
  return { gate, publishing };
}

const busyWithAnn = {
  code: 'FIRN_LOCK_BUSY',
  details: { lock: LOCK, owner: expect.stringMatching(/^ann since .* \(publish of docs by firn\)$/) },
};

const isShardWrite = (call: string, name: string) =>
  ['create', 'replace', 'delete'].includes(call) && name.startsWith('chunk-index/');

test('wherever a repair comes upon a publish, no shard is written by one while the other is at work, and nothing is lost', async () => {
  let refused = 0;
  let requests = 0;
  for (let at = 0; at <= requests; at += 1) {
    const world = await publishedWorld();
    const waits = Promise.withResolvers<void>();
    let isRewriting = false;
    const rewriting: Hooks = {
      before(call, name) {
        if (call === 'list' && name === 'chunks/') isRewriting = true;
      },
      after(call, name) {
        if (call === 'delete' && name === 'repair') isRewriting = false;
      },
    };
    let repairing: Promise<unknown> = Promise.resolve();
    const repairer = intrusion(at, async () => {
      repairing = repair(world, { onWait: () => waits.resolve() }, rewriting);
      await Promise.race([repairing, waits.promise]);
    });
    let trespasses = 0;
    const hooks: Hooks = {
      async before(call, name) {
        await repairer.before();
        if (isRewriting && isShardWrite(call, name)) trespasses += 1;
      },
    };
    const outcome = await publish(await world.process('ann', { hooks })).catch((error: unknown) => error);
    if (outcome instanceof FirnError) {
      refused += 1;
      expect(outcome).toMatchObject({
        code: 'FIRN_REPAIR_UNFINISHED',
        message: expect.stringMatching(/under repair since .* \(by .*\)/),
      });
    } else expect(outcome).toMatchObject({ outcome: 'published' });
    if (at > 0) expect(await world.clock.settle(repairing)).toMatchObject({ finished: true });
    expect(trespasses, `request ${at}`).toBe(0);
    requests = Math.max(requests, repairer.requests);
    await publish(await world.process('next'));
    await expectAllPublished(world);
  }
  expect(requests).toBeGreaterThan(20);
  expect(refused).toBeGreaterThan(5);
});

describe('a repair', () => {
  test('waits for a publish that is at its commit, says for whom, and then repairs', async () => {
    const world = await publishedWorld();
    const { gate, publishing } = await publishingIn(world);
    const told: Error[] = [];
    const repairing = repair(world, { onWait: (busy) => told.push(busy) });
    await world.clock.advance(60_000);
    expect(told).toMatchObject([busyWithAnn]);
    expect(await Promise.race([repairing, 'waiting'])).toBe('waiting');
    gate.open();
    expect(await publishing).toMatchObject({ outcome: 'published' });
    expect(await world.clock.settle(repairing, 60_000)).toMatchObject({ finished: true, entries: 2 });
    await expectAllPublished(world);
  });

  test('waits no longer than a minute for a publish that died', async () => {
    const world = await publishedWorld();
    const dead = await world.process('dead');
    (await dead.locks.acquire(LOCK, { reason: 'test', waitMsMax: 0 })).leave();
    const begun = world.clock.now();
    expect(await world.clock.settle(repair(world))).toMatchObject({ finished: true });
    expect(world.clock.now() - begun).toBeLessThan(70_000);
  });

  test('gives up on a publish that does not end, names it, and leaves everything as it was, also no marker', async () => {
    const world = await publishedWorld();
    const { gate, publishing } = await publishingIn(world);
    const writes: string[] = [];
    const watch: Hooks = {
      before(call, name) {
        if (isShardWrite(call, name)) writes.push(`${call} ${name}`);
      },
    };
    const repairing = repair(world, { publishesMsMax: 90_000 }, watch);
    await expect(world.clock.settle(repairing)).rejects.toMatchObject(busyWithAnn);
    expect(writes).toEqual([]);
    expect(await findRepairMarker(world.state)).toBeUndefined();
    gate.open();
    expect(await publishing).toMatchObject({ outcome: 'published' });
    await expectAllPublished(world);
  });

  test('that is cancelled while it waits leaves no marker', async () => {
    const world = await publishedWorld();
    const { gate, publishing } = await publishingIn(world);
    const controller = new AbortController();
    const enough = new Error('enough');
    const waits = Promise.withResolvers<void>();
    const repairing = repair(world, { signal: controller.signal, onWait: () => waits.resolve() });
    await waits.promise;
    expect(await findRepairMarker(world.state)).toBeDefined();
    controller.abort(enough);
    await expect(repairing).rejects.toBe(enough);
    expect(await findRepairMarker(world.state)).toBeUndefined();
    gate.open();
    await publishing;
  });

  test('that gives up leaves the marker of an earlier one that was not finished', async () => {
    const world = await publishedWorld();
    const { gate, publishing } = await publishingIn(world);
    await takeRepairMarker(world.state, { started: 'then', owner: 'dead', roots: ['a'] });
    const whole = repair(world, { roots: undefined, publishesMsMax: 0 });
    await expect(whole).rejects.toMatchObject({ code: 'FIRN_LOCK_BUSY' });
    expect(await findRepairMarker(world.state)).toBeDefined();
    gate.open();
    await publishing;
  });
});

describe('a publish', () => {
  test('that begins while a repair runs is refused though its process saw none a moment ago, and gives its lock back', async () => {
    const world = await publishedWorld();
    const ann = await world.process('ann');
    await ann.checkRepair();
    const gate = gateBefore((call, name) => call === 'list' && name === 'chunks/');
    const repairing = repair(world, {}, gate.hooks);
    await gate.reached;
    await expect(publish(ann)).rejects.toMatchObject({
      code: 'FIRN_REPAIR_UNFINISHED',
      advice: expect.stringContaining('firn repair-index'),
    });
    expect((await world.locks()).map(({ name, held }) => [name, held])).toEqual([
      [LOCK, false],
      ['repair', true],
    ]);
    gate.open();
    expect(await repairing).toMatchObject({ finished: true });
    await publish(await world.process('next'));
    await expectAllPublished(world);
  });

  test('stops its build, too, when a repair has set its marker', async () => {
    const world = await publishedWorld();
    const plan = await planPublish(await world.process('ann'), SOURCE);
    await takeRepairMarker(world.state, { started: 'then', owner: 'the other', roots: undefined });
    const other = await world.process('ann');
    await expect(buildFiletrees(other, plan ?? { plan: '', snapshot: '' })).rejects.toMatchObject({
      code: 'FIRN_REPAIR_UNFINISHED',
      details: { owner: 'the other' },
    });
  });
});
