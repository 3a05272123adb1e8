/** A publish in one process: the same steps as the durable orchestration, in the same order. */
import pMap from 'p-map';
import type { CallOptions } from '../storage/blob-store.ts';
import type { PublishParts } from './parts.ts';
import { groupRoots, planPublish } from './plan.ts';
import { buildFiletrees, commitSnapshot, flushShards, type PublishOutcome } from './steps.ts';

const GROUPS_IN_FLIGHT = 4;

/**
 * Publishes what waits of a source.
 * @returns undefined when nothing waits.
 * @throws FIRN_PUBLISH_CONFLICT, FIRN_RECEIPT_DAMAGED, FIRN_INDEX_CONTENDED and storage errors; nothing is lost, the
 * receipts stay.
 */
export async function publishSource(
  parts: PublishParts,
  source: string,
  options?: CallOptions,
): Promise<PublishOutcome | undefined> {
  const planned = await planPublish(parts, source, options);
  if (planned === undefined) return undefined;
  const { name } = planned;
  const [flushed, built] = await Promise.allSettled([
    pMap(groupRoots(parts.settings.flushRootsPerActivity), (range) => flushShards(parts, name, range, options), {
      concurrency: GROUPS_IN_FLIGHT,
      stopOnError: false,
    }),
    buildFiletrees(parts, name, options),
  ]);
  // All groups have ended: with `stopOnError: false` p-map collects what failed.
  if (flushed.status === 'rejected')
    throw flushed.reason instanceof AggregateError ? flushed.reason.errors[0] : flushed.reason;
  if (built.status === 'rejected') throw built.reason;
  return await commitSnapshot(parts, name, built.value, options);
}
