/** How hosted functions come to an end of their work, after whatever they went through. */
import { batchesWithoutReceipt } from '../../src/archive/batches.ts';
import { publishNow } from '../../src/local/demo/watch.ts';
import type { Repository } from '../../src/repository.ts';
import type { Hosted } from '../e2e/hosted.ts';
import { contentOf } from '../kit/repository.ts';
import { isComplete } from './complete.ts';

/** For `expect.poll`: the lock of a publish that died ends after a minute, and many rounds leave many batches. */
export const patience = { timeout: isComplete ? 900_000 : 180_000, interval: 3_000 };

/** As long as a message is hidden whose host died: before that it may come by itself. */
const NAME_AGAIN_MS = 30_000;

/**
 * Does at once what timers do later, as often as it is called: seals, and names batches again that came to no message.
 * It gives what is published.
 */
export function publishedAtLast(
  repository: Repository,
  hostUrl: string,
  hosted: Hosted,
): () => Promise<Record<string, string>> {
  const named = new Map<string, number>();
  return async () => {
    for (const { batch } of await batchesWithoutReceipt(repository, 'photos')) {
      if (performance.now() - (named.get(batch) ?? -NAME_AGAIN_MS) < NAME_AGAIN_MS) continue;
      named.set(batch, performance.now());
      await hosted.queueBatch('photos', batch);
    }
    await publishNow(hostUrl, 'photos');
    const head = await repository.snapshots.readHead('photos');
    return head === undefined ? {} : await contentOf(repository, head.snapshot);
  };
}
