/** A publish in one process flushes the chunk index and builds the filetrees at the same time; its snapshot waits for both. */
import { expect, test } from 'vitest';
import { rootOf } from '../../src/index/root-view.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import type { Containers } from '../../src/repository.ts';
import { intercept } from '../chunks/intercept.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { archiveAll, contentOf, createTestRepository, upload } from '../kit/repository.ts';

const steps = ['chunk-index', 'filetrees'] as const;
type Step = (typeof steps)[number];

interface Hooks {
  readonly before: (step: Step) => Promise<void>;
  readonly after?: (step: Step) => void;
}

/** Storage that asks around each write of a step. */
function watched({ before, after }: Hooks): Containers {
  const account = createMemoryAccount();
  const write = async <T>(blob: string, next: () => Promise<T>): Promise<T> => {
    const step = steps.find((each) => blob.startsWith(`${each}/`));
    if (step === undefined) return await next();
    await before(step);
    const written = await next();
    after?.(step);
    return written;
  };
  return {
    container: (name) =>
      intercept(account.container(name), {
        create: (next, blob, ...rest) => write(blob, () => next(blob, ...rest)),
        replace: (next, blob, ...rest) => write(blob, () => next(blob, ...rest)),
      }),
  };
}

test('each waits until the other has begun, and the publish ends all the same', async () => {
  const begun = new Map(steps.map((step) => [step, Promise.withResolvers<void>()]));
  const containers = watched({
    async before(step) {
      begun.get(step)?.resolve();
      await Promise.all([...begun.values()].map(({ promise }) => promise));
    },
  });
  const { repository } = await createTestRepository({ containers });
  await upload(repository, 'src/a', 'one');
  await archiveAll(repository, 'src');
  const published = await publishSource(repository, 'src');
  expect(await contentOf(repository, published!.snapshot!)).toEqual({ a: 'one' });
});

test.each(steps)('one that fails after the other has ended leaves no snapshot (%s)', async (failing) => {
  const othersEnded = Promise.withResolvers<void>();
  let othersLeft = Number.POSITIVE_INFINITY;
  const containers = watched({
    async before(step) {
      if (step !== failing) return;
      await othersEnded.promise;
      throw new Error('no luck');
    },
    after() {
      othersLeft -= 1;
      if (othersLeft === 0) othersEnded.resolve();
    },
  });
  const { repository } = await createTestRepository({ containers });
  const contents = Array.from({ length: 20 }, (_, n) => `content ${n}`);
  for (const content of contents) await upload(repository, `src/folder of ${content}/a`, content);
  await archiveAll(repository, 'src');
  const shards = new Set(contents.map((content) => rootOf(repository.keys.hash(Buffer.from(content)))));
  // Folders as small as these lie in the node of the root.
  othersLeft = failing === 'filetrees' ? shards.size : 1;
  await expect(publishSource(repository, 'src')).rejects.toThrow('no luck');
  expect(othersLeft).toBe(0);
  expect(await repository.snapshots.names()).toEqual([]);
});
