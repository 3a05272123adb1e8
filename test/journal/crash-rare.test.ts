/** Leaving, rejoining, forgetting, and a manifest made anew: dying at every storage operation of each. */
import { describe, expect, it } from 'vitest';
import { type Journal, openJournal } from '../../src/journal/journal.ts';
import { encodeHeader, encodeRecord } from '../../src/journal/partition.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { dyingStore, ProcessDied } from '../kit/mortal.ts';
import { allPaths, createClock, createState, partitionBlobs, settings, upload } from './journal-kit.ts';

const MANIFEST = 'journal/photos/manifest';

interface World {
  readonly state: BlobStore;
  readonly clock: ReturnType<typeof createClock>;
  open(store?: BlobStore): Journal;
}

function createWorld(): World {
  const clock = createClock();
  const state = createState(clock);
  return { clock, state, open: (store = state) => openJournal(store, 'photos', settings, { now: clock.now }) };
}

async function appendBatch(journal: Journal, path: string): Promise<string> {
  await journal.append([upload(path)]);
  const [info] = await journal.sealDue({ force: true });
  return info!.batch;
}

/** Lets `act` die at every call of the storage, before its effect and after it. @returns at how many it died. */
async function dieEverywhere<T>(
  prepare: (world: World) => Promise<T>,
  act: (journal: Journal, prepared: T) => Promise<unknown>,
  verify: (world: World, prepared: T, isDone: boolean) => Promise<void>,
): Promise<number> {
  let deaths = 0;
  for (const when of ['before', 'after'] as const) {
    let isDone = false;
    for (let at = 1; !isDone; at += 1) {
      const world = createWorld();
      const prepared = await prepare(world);
      await act(world.open(dyingStore(world.state, at, when)), prepared).then(
        () => {
          isDone = true;
        },
        (error) => expect(error).toBeInstanceOf(ProcessDied),
      );
      deaths += isDone ? 0 : 1;
      await verify(world, prepared, isDone);
    }
  }
  return deaths;
}

/** What timers do later: nothing that is not needed is left. */
async function clearUp({ open, clock }: World): Promise<void> {
  clock.ms += 11 * 60_000;
  for (let round = 0; round < 4; round += 1) await open().sealDue();
}

async function prepareThree({ open }: World): Promise<void> {
  await appendBatch(open(), 'a');
  await appendBatch(open(), 'b');
  await open().append([upload('c')]);
}

describe('a process that dies at any call', () => {
  it('of leaving has left all or nothing, and rejoining brings all back', async () => {
    const deaths = await dieEverywhere(
      prepareThree,
      (journal) => journal.leave(),
      async (world, _, isDone) => {
        const { state, open } = world;
        await open().append([upload('after')]);
        const live = await allPaths(open());
        expect([['a', 'b', 'c', 'after'], ['after']]).toContainEqual(live);
        if (isDone) expect(live).toEqual(['after']);
        await clearUp(world);
        expect(await allPaths(open())).toEqual(live);
        await open().rejoin();
        expect(await allPaths(open())).toEqual(['a', 'b', 'c', 'after']);
        await clearUp(world);
        expect(await partitionBlobs(state, 'photos')).toHaveLength((await open().batches()).length);
      },
    );
    expect(deaths).toBeGreaterThan(15);
  });

  it('of rejoining has brought back all or nothing', async () => {
    const deaths = await dieEverywhere(
      async (world) => {
        await prepareThree(world);
        await world.open().leave();
        await appendBatch(world.open(), 'since');
      },
      (journal) => journal.rejoin(),
      async (world, _, isDone) => {
        const live = await allPaths(world.open());
        expect([['a', 'b', 'c', 'since'], ['since']]).toContainEqual(live);
        if (isDone) expect(live).toHaveLength(4);
        await clearUp(world);
        await world.state.delete(MANIFEST);
        expect(await allPaths(world.open())).toEqual(live);
      },
    );
    expect(deaths).toBeGreaterThan(8);
  });

  it('of making a manifest anew leaves it to the next, who comes to the same', async () => {
    const deaths = await dieEverywhere(
      async ({ state, open, clock }) => {
        await appendBatch(open(), 'left');
        await open().leave();
        for (let at = 0; at < 8; at += 1) await appendBatch(open(), `small ${at}`);
        await open().compact({ isIdle: () => true });
        await open().append([upload('open')]);
        const header = encodeHeader({ source: 'photos', partition: 11, created: clock.now(), kind: 'compacted' });
        await state.createAppend(
          'journal/photos/0000000011-00000000',
          Buffer.concat([header, encodeRecord(upload('x'))]),
        );
        await state.delete(MANIFEST);
      },
      (journal) => journal.batches(),
      async (world) => {
        const expected = [...Array.from({ length: 8 }, (_, at) => `small ${at}`), 'open'];
        expect(await allPaths(world.open())).toEqual(expected);
        await clearUp(world);
        expect(await allPaths(world.open())).toEqual(expected);
        expect(await partitionBlobs(world.state, 'photos')).toHaveLength(4);
        await world.open().rejoin();
        expect(await allPaths(world.open())).toEqual(['left', ...expected]);
      },
    );
    expect(deaths).toBeGreaterThan(40);
  });

  it('of forgetting a lost batch has its note before the batch is forgotten, and it can be done again', async () => {
    const deaths = await dieEverywhere(
      async ({ state, open }) => {
        const lost = await appendBatch(open(), 'a');
        await appendBatch(open(), 'b');
        await state.delete(`journal/photos/${lost}`);
        return lost;
      },
      (journal, lost) => journal.forget(lost),
      async (world, lost) => {
        const isForgotten = !(await world.open().batches()).some(({ batch }) => batch === lost);
        const notes = await Array.fromAsync(world.state.list({ prefix: 'journal-set-aside/' }), ({ name }) => name);
        if (isForgotten) expect(notes).toEqual([`journal-set-aside/photos/${lost}-forgotten`]);
        else await world.open().forget(lost);
        expect(await allPaths(world.open())).toEqual(['b']);
        await clearUp(world);
        const left = await Array.fromAsync(world.state.list({ prefix: 'journal/' }), ({ name }) => name);
        expect(left).toHaveLength(3);
      },
    );
    expect(deaths).toBeGreaterThan(8);
  });
});
