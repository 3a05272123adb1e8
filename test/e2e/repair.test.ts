/** The hosted repair of the chunk index, from an index that is gone. */
import { expect, test } from 'vitest';
import { findRepairMarker, takeRepairMarker } from '../../src/index/marker.ts';
import { deleteAll, entriesOf, namesOf } from '../index/repairing.ts';
import { contentOf } from '../kit/repository.ts';
import { until } from '../kit/until.ts';
import { startHosted } from './hosted.ts';

test('POST brings back an index that was deleted; the timer finishes a repair that died', async () => {
  await using hosted = await startHosted({ FIRN_REPAIR_SCHEDULE: '*/2 * * * * *' });
  const { repository } = hosted;
  const state = repository.state.store;
  await hosted.put('docs/a', 'one');
  await hosted.put('docs/b', 'two');
  await hosted.recorded('docs', 2);
  await hosted.publish('docs');
  const snapshot = await hosted.published('docs', undefined);
  const before = await entriesOf(repository);
  // Two, unless the key of this repository leads both chunks to one root.
  const shards = await namesOf(state, 'chunk-index/');

  await deleteAll(state, 'chunk-index/');
  const wrong = await fetch(`${hosted.stack.hostUrl}/api/repair-index?root=xyz`, { method: 'POST' });
  expect(wrong.status).toBe(400);
  // The timer may be looking at the index at that very moment.
  await until('the repair was started', async () => {
    const response = await fetch(`${hosted.stack.hostUrl}/api/repair-index`, { method: 'POST' });
    expect(response.status).toBe(202);
    return ((await response.json()) as { started: boolean }).started || undefined;
  });
  await until('the index is back', async () => {
    const names = await namesOf(state, 'chunk-index/');
    return names.length === shards.length && (await findRepairMarker(state)) === undefined ? true : undefined;
  });
  expect(await entriesOf(repository)).toEqual(before);
  expect(await contentOf(repository, snapshot)).toEqual({ a: 'one', b: 'two' });

  await deleteAll(state, 'chunk-index/');
  await takeRepairMarker(state, { started: 'then', owner: 'dead', roots: undefined });
  await until('the timer has finished it', async () => ((await findRepairMarker(state)) ? undefined : true));
  expect(await entriesOf(repository)).toEqual(before);
});
