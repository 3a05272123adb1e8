import { describe, expect, it } from 'vitest';
import { type Journal, openJournal } from '../../src/journal/journal.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { dyingStore, ProcessDied } from '../kit/mortal.ts';
import {
  allPaths,
  type Clock,
  createClock,
  createState,
  numberOf,
  partitionBlobs,
  pathsOf,
  settings,
  upload,
} from './journal-kit.ts';

const smallSettings = { ...settings, recordsMax: 2 };

interface Life {
  readonly acknowledged: string[];
  /** In batches whose retirement was asked for: they may be gone. */
  readonly retiring: Set<string>;
  ended: boolean;
}

/** A process that appends, seals and retires until it is done or dies. */
async function live(journal: Journal, life: Life, name: string): Promise<void> {
  const append = async (path: string) => {
    await journal.append([upload(path)]);
    life.acknowledged.push(path);
  };
  for (let round = 0; round < 2; round += 1) {
    for (let at = 0; at < 3; at += 1) await append(`${name} ${round} ${at}`);
    await journal.sealDue({ force: true });
    const [first] = await journal.batches();
    if (first === undefined) continue;
    const paths = await pathsOf(journal, first.batch);
    for (const path of paths) life.retiring.add(path);
    await journal.retire([first.batch]);
  }
  await append(`${name} last`);
  life.ended = true;
}

async function survive(state: BlobStore, clock: Clock, life: Life): Promise<void> {
  clock.ms += 11 * 60_000;
  const next = openJournal(state, 'photos', smallSettings, { now: clock.now });
  const paths = await allPaths(next);
  for (const path of life.acknowledged) if (!life.retiring.has(path)) expect(paths).toContain(path);
  expect(new Set(paths).size).toBe(paths.length);
  const batches = await next.batches();
  expect(await next.hasOpenRecords()).toBe(false);
  const { sealed } = await next.append([upload('after 1'), upload('after 2')]);
  expect(sealed).toHaveLength(1);
  for (const { batch } of batches) expect(numberOf(sealed[0]!)).toBeGreaterThan(numberOf(batch));
  expect(await partitionBlobs(state, 'photos')).toHaveLength(batches.length + 1);
  const { body } = await state.read('journal/photos/manifest');
  expect(JSON.parse(body.toString()).partitions).toHaveLength(batches.length + 1);
}

describe('a process that dies at any call', () => {
  for (const when of ['before', 'after'] as const) {
    it(`${when} its effect loses nothing that was acknowledged, and leaves nothing that the next does not complete`, async () => {
      let ended = false;
      let deaths = 0;
      for (let at = 1; !ended; at += 1) {
        const clock = createClock();
        const state = createState(clock);
        const life: Life = { acknowledged: [], retiring: new Set(), ended: false };
        const journal = openJournal(dyingStore(state, at, when), 'photos', smallSettings, { now: clock.now });
        await live(journal, life, 'a').catch((error) => expect(error).toBeInstanceOf(ProcessDied));
        ended = life.ended;
        deaths = at;
        await survive(state, clock, life);
      }
      expect(deaths).toBeGreaterThan(50);
    });
  }

  it('does not hold up another that works at the same time, nor lose its records', async () => {
    for (let at = 1; at < 120; at += 1) {
      const clock = createClock();
      const state = createState(clock);
      const life: Life = { acknowledged: [], retiring: new Set(), ended: false };
      const store = dyingStore(state, at, at % 2 === 0 ? 'before' : 'after');
      const dying = openJournal(store, 'photos', smallSettings, { now: clock.now });
      const living = openJournal(state, 'photos', smallSettings, { now: clock.now });
      const other: Life = { ...life, ended: false };
      await Promise.all([live(dying, life, 'a').catch(() => undefined), live(living, other, 'b')]);
      expect(other.ended).toBe(true);
      await survive(state, clock, life);
    }
  });
});
