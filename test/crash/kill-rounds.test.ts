/**
 * The functions in a real process of their own, killed (SIGKILL) at random moments while uploads come in and are
 * published, and started again. In the end everything is archived and comes back as it was uploaded.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { hostFunctions } from '../../src/local/stack.ts';
import { startHosted } from '../e2e/hosted.ts';
import { chooserFrom, testSeed } from '../kit/random.ts';
import { contentOf } from '../kit/repository.ts';
import { isComplete } from './complete.ts';
import { patience, publishedAtLast } from './hosted-end.ts';

const ROUNDS = isComplete ? 200 : 2;
/** A host needs about a second to start, and to archive what waits and publish it some more: so it dies in all of that. */
const lifeMsMax = { short: 4_000, long: 20_000 } as const;
/** One of so many lives is long. */
const LONG_ONE_IN = 4;
const UPLOADS = 12;

it('a host that is killed again and again loses nothing', { timeout: 3_600_000 }, async () => {
  const choose = chooserFrom(testSeed ?? 1);
  await using hosted = await startHosted({ FIRN_BATCH_RECORDS_MAX: '5' });
  const { stack, repository } = hosted;
  await stack.host.kill();
  const expected: Record<string, string> = {};
  let snapshots = 0;
  for (let round = 1; round <= ROUNDS; round += 1) {
    const host = await hostFunctions(stack.environment, { httpPort: 0 });
    const life = choose(LONG_ONE_IN) === LONG_ONE_IN - 1 ? 'long' : 'short';
    const dying = delay(choose(lifeMsMax[life])).then(() => host.kill());
    for (let n = 0; n < UPLOADS; n += 1) {
      const name = `file ${choose(40)}`;
      expected[name] = `${name} of round ${round}, ${'.'.repeat(choose(2000))}`;
      await hosted.put(`photos/${name}`, expected[name]);
    }
    await dying;
    const names = await repository.snapshots.names();
    snapshots = names.length;
  }
  await using last = await hostFunctions(stack.environment, { httpPort: 0 });
  await expect.poll(publishedAtLast(repository, last.url, hosted), patience).toEqual(expected);
  for await (const snapshot of repository.snapshots.list()) await contentOf(repository, snapshot);
  process.stdout.write(`${ROUNDS} hosts killed, ${snapshots} snapshots on the way; lost: 0\n`);
});
