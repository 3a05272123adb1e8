/** How hosted functions come to an end of their work, after whatever they went through. */
import { batchesWithoutReceipt } from '../../src/archive/batches.ts';
import { publishNow } from '../../src/local/demo/watch.ts';
import type { Repository } from '../../src/repository.ts';
import type { Hosted } from '../e2e/hosted.ts';
import { contentOf } from '../kit/repository.ts';

/** For `expect.poll`: the lock of a publish that died ends after a minute. */
export const patience = { timeout: 180_000, interval: 3_000 };

/**
 * Does at once what timers do later: seals, and names batches again that came to no message.
 * @returns what is published.
 */
export async function publishedAtLast(
  repository: Repository,
  hostUrl: string,
  hosted: Hosted,
): Promise<Record<string, string>> {
  for (const { batch } of await batchesWithoutReceipt(repository, 'photos')) await hosted.queueBatch('photos', batch);
  await publishNow(hostUrl, 'photos');
  const head = await repository.snapshots.readHead('photos');
  return head === undefined ? {} : await contentOf(repository, head.snapshot);
}
