/** The lock of a hosted publish: one run holds it over all its activities, also over the death of its host. */
import { expect, test } from 'vitest';
import { rootOf } from '../../src/index/root-view.ts';
import { hostFunctions } from '../../src/local/stack.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import type { Repository } from '../../src/repository.ts';
import { publishLock } from '../../src/storage/lock-names.ts';
import { findLock } from '../../src/storage/lock-states.ts';
import { createLocks } from '../../src/storage/locks.ts';
import { contentOf } from '../kit/repository.ts';
import { until } from '../kit/until.ts';
import { startHosted } from './hosted.ts';

test('a run waits for the lock of its source, holds it between its activities, names itself to others, and goes on with it after its host was killed', async () => {
  // Its flush is tried again for as long as the test asks who has the lock.
  await using hosted = await startHosted({ FIRN_PUBLISH_RETRY_SECONDS: '2' });
  const { repository } = hosted;
  const stateOfLock = () => findLock(repository.state.store, publishLock('docs'), {});
  const locks = createLocks(repository.state.store, { owner: 'ann' });
  const others = await locks.acquire(publishLock('docs'), { reason: 'test', waitMsMax: 0 });
  await hosted.put('docs/a', 'one');
  await hosted.recorded('docs', 1);
  await hosted.publish('docs');
  await until('a run was told who has the lock', () =>
    hosted.logs.find((line) => line.includes('FIRN_LOCK_BUSY') && line.includes('held by ann since')),
  );
  await others.release();
  const first = await hosted.published('docs', undefined);
  // That it had to wait is no failure.
  expect(hosted.logs.filter((line) => line.includes('FIRN_PUBLISH_FAILED'))).toEqual([]);
  await until('the run has given its lock back', async () =>
    (await stateOfLock())?.held === false ? true : undefined,
  );

  const release = await hosted.blockShards();
  await hosted.put('docs/b', inTheSameShard(repository, 'one'));
  await hosted.recorded('docs', 1);
  await hosted.publish('docs');
  await until('a flush failed', () =>
    hosted.logs.find((line) => line.includes('flushShards') && line.includes('leased')),
  );
  const impatient = { ...repository, settings: { ...repository.settings, lockWaitSeconds: 0 } };
  await expect(publishSource(impatient, 'docs')).rejects.toMatchObject({
    code: 'FIRN_LOCK_BUSY',
    details: {
      lock: 'publish-docs',
      owner: expect.stringMatching(/ since .* \(publish of docs by the orchestration publish-docs\)$/),
    },
  });
  const held = await stateOfLock();
  await hosted.stack.host.kill();
  await release();
  await using _next = await hostFunctions({ ...hosted.stack.environment, ...noNewPublishes }, { httpPort: 0 });
  const second = await hosted.published('docs', first);
  expect(await contentOf(repository, second)).toEqual({ a: 'one', b: inTheSameShard(repository, 'one') });
  const after = await until('the run has given its lock back', async () => {
    const lock = await stateOfLock();
    return lock?.held ? undefined : lock;
  });
  // The same lease, so the same owner: nobody else had it in between. No other run has begun since, either.
  expect(after.last).toEqual(held?.last);
});

/**
 * The timer of a host starts a publish where it saw one due that ended before the start; that one finds nothing to do, and
 * has the lock for a moment. So the next host starts none.
 */
const noNewPublishes = { FIRN_PUBLISH_SCHEDULE: '0 0 0 1 1 *' };

/** Another content, whose chunk is in the same root of the index. */
function inTheSameShard({ keys }: Repository, content: string): string {
  const rootOfText = (text: string) => rootOf(keys.hash(Buffer.from(text)));
  for (let n = 0; ; n += 1) if (rootOfText(`${content} ${n}`) === rootOfText(content)) return `${content} ${n}`;
}
