/** Repair, when a request fails and the process lives. That a process dies is in `repair.test.ts`. */
import { expect, test } from 'vitest';
import { REPAIR_MARKER } from '../../src/index/marker.ts';
import { type Interruption, interrupted, watched } from './index-kit.ts';
import { expectRight, interruptedRuin, makeRuin, openPlain, repairRuin, ruinedRoots } from './repair-ruin.ts';
import { copyOf, fingerprintOf, namesOf } from './repairing.ts';

test.each(['failure before', 'failure after'] as const)(
  'a request that fails (%s its effect) ends it with the code of that; run again, it comes to the right index',
  async (how) => {
    const ruin = await makeRuin();
    const counting: Interruption = { at: 0, how, calls: 0 };
    await repairRuin(interruptedRuin(ruin.data, await copyOf(ruin.state), counting), ruinedRoots);
    const start = await fingerprintOf(ruin.state);
    for (let at = 1; at <= counting.calls; at += 1) {
      const state = await copyOf(ruin.state);
      const failing = interruptedRuin(ruin.data, state, { at, how, calls: 0 });
      await expect(repairRuin(failing, ruinedRoots)).rejects.toMatchObject({ code: 'FIRN_STORAGE_FAILED' });
      // Only the failure of the very last request, the removal of the marker, can leave none when all is done.
      const isDone = at === counting.calls && how === 'failure after';
      if (!isDone && (await fingerprintOf(state)) !== start) {
        expect(await namesOf(state, REPAIR_MARKER)).toEqual([REPAIR_MARKER]);
      }
      expect((await openPlain(state).lookup(ruin.found)).size).toBe(ruin.found.length);
      expect(await repairRuin({ data: ruin.data, state }, ruinedRoots)).toMatchObject({ finished: true, roots: 5 });
      await expectRight(state, ruin, ['F', 'zz']);
    }
  },
);

test('an answer that is lost, to whichever request, changes nothing', async () => {
  const ruin = await makeRuin();
  const { store, calls } = watched(await copyOf(ruin.state));
  await repairRuin({ data: ruin.data, state: store });
  let points = 0;
  for (const [n, call] of calls.entries()) {
    if (!/^(create|replace|delete) /.test(call)) continue;
    points += 1;
    const state = await copyOf(ruin.state);
    const losing = interrupted(state, { at: n + 1, how: 'lost answer', calls: 0 });
    expect(await repairRuin({ data: ruin.data, state: losing })).toMatchObject({ finished: true });
    await expectRight(state, ruin);
  }
  expect(points).toBeGreaterThan(25);
});
