import { describe, expect, test } from 'vitest';
import { LocationTable } from '../../src/chunks/location.ts';
import { takeRepairMarker } from '../../src/index/marker.ts';
import { findDrift } from '../../src/index/repair-check.ts';
import { findRepairNeed, runRepair } from '../../src/index/repair-run.ts';
import { allRoots } from '../../src/index/root-view.ts';
import { REPAIR_LOCK } from '../../src/storage/lock-names.ts';
import { createLocks } from '../../src/storage/locks.ts';
import { hashOf, locationOf } from '../kit/arbitraries.ts';
import { damage } from '../kit/damage.ts';
import { createTestRepository } from '../kit/repository.ts';
import { deleteAll, entriesOf, namesOf, publishFiles } from './repairing.ts';

const files = Object.fromEntries(Array.from({ length: 20 }, (_, n) => [`f${n}`, `content ${n}`]));
const inTwoDays = () => new Date(Date.now() + 2 * 24 * 60 * 60 * 1000);

async function published(thinChunks: 'packed' | 'blob') {
  const { repository } = await createTestRepository({ thinChunks });
  await publishFiles(repository, 'docs', { ...files, large: Buffer.alloc(5 * 1024 * 1024, 'large') });
  const state = repository.state.store;
  const shards = await namesOf(state, 'chunk-index/');
  return { repository, state, shards, roots: shards.map((name) => name.slice('chunk-index/'.length)) };
}

describe.each(['packed', 'blob'] as const)('the check, with %s pointers,', (thinChunks) => {
  test('finds nothing in an index that is right', async () => {
    const { repository } = await published(thinChunks);
    expect(await findDrift(repository, allRoots, { now: inTwoDays })).toEqual([]);
    expect(await findRepairNeed(repository, { now: inTwoDays })).toEqual({ checked: 1, drifted: [] });
  });

  test('names every root whose entries are gone, but not what may still wait to be published', async () => {
    const { repository, state, roots } = await published(thinChunks);
    await deleteAll(state, 'chunk-index/');
    expect((await findDrift(repository, allRoots, { now: inTwoDays })).map(({ root }) => root).sort()).toEqual(roots);
    expect(await findDrift(repository, allRoots)).toEqual([]);
  });

  test('names the root of a damaged shard and of an entry without its blob; repair of these makes it right', async () => {
    const { repository, state, shards, roots } = await published(thinChunks);
    const before = await entriesOf(repository);
    await damage(state, shards[0]!);
    const ghost = locationOf(roots[1] + hashOf('ghost').slice(1));
    const { body, etag } = await repository.state.get('shard', shards[1]!);
    const table = LocationTable.of([...LocationTable.from('', body).locations(), ghost]);
    await repository.state.replace('shard', shards[1]!, table.bytes, { ifMatch: etag });
    const drifted = await findDrift(repository, allRoots);
    expect(drifted.map(({ root }) => root)).toEqual(roots.slice(0, 2));
    const report = await runRepair(repository, { roots: roots.slice(0, 2) });
    expect(report).toMatchObject({ roots: 2, shardsWritten: 2 });
    expect(await entriesOf(repository)).toEqual(before);
  });
});

test('an unfinished repair is to be finished, whatever a sample says', async () => {
  const { repository, state } = await published('packed');
  await takeRepairMarker(state, { started: 'then', owner: 'dead', roots: ['a'] });
  expect(await findRepairNeed(repository)).toEqual({ unfinished: { roots: ['a'] }, checked: 0, drifted: [] });
});

test('a second repair is refused while one runs, and says whose it is', async () => {
  const { repository, state } = await published('packed');
  const held = await createLocks(state, { owner: 'the other' }).acquire(REPAIR_LOCK, { reason: 'test', waitMsMax: 0 });
  await expect(runRepair(repository, {})).rejects.toMatchObject({
    code: 'FIRN_LOCK_BUSY',
    details: { owner: expect.stringContaining('the other') },
  });
  await held.release();
  expect(await runRepair(repository, {})).toMatchObject({ finished: true });
});
