/** What a step of a publish works for, and what becomes of the plan when it cannot. */
import pMap from 'p-map';
import { deleteReceipt, findReceipt, findUsableReceipt, RECEIPT_PREFIX, type Receipt } from '../archive/receipt.ts';
import { FirnError, isFirnError } from '../errors.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import { headDifference, publishConflict } from '../snapshots/head-difference.ts';
import type { PublishedBatch } from '../snapshots/snapshot.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import type { PublishParts } from './parts.ts';
import {
  deletePlan,
  FIRST,
  findPlan,
  type Plan,
  type PlanReference,
  planName,
  referenceTo,
  type StoredPlan,
} from './plan-blob.ts';

/** Receipts of one plan that are read at the same time. */
export const RECEIPTS_IN_FLIGHT = 16;

/** A plan that stands, as who claimed or found it knows it. */
export interface ClaimedPlan extends StoredPlan {
  /** The receipts of its batches, where they were read for it; a plan that was found has none. */
  readonly receipts?: readonly Receipt[];
}

export interface PlannedStep {
  readonly plan: Plan;
  /** The receipts of the plan, oldest first. */
  readonly receipts: readonly Receipt[];
  /** @throws FIRN_PUBLISH_CONFLICT when the plan is not there any more: it was carried out, or another took its place. */
  readonly checkPlan: () => Promise<void>;
  /** Removes the plan. @returns false when it was removed or replaced already: then its work is done or void. */
  readonly removePlan: () => Promise<boolean>;
}

/**
 * Runs a step of the plan that is meant. When one of its receipts turns out to be damaged, gone, or another run's, it is
 * set aside with the plan that relied on it, so that its batch is archived again and the next publish does without it.
 * @throws FIRN_PUBLISH_CONFLICT when the plan was carried out or replaced, or its parent is not the head any more;
 * FIRN_RECEIPT_DAMAGED.
 */
export async function withPlan<T>(
  parts: PublishParts,
  reference: PlanReference,
  step: (planned: PlannedStep) => Promise<T>,
  options?: CallOptions,
): Promise<T> {
  return await withClaimedPlan(parts, await readPlan(parts, reference, options), step, options);
}

/** The same for who has the plan. */
export async function withClaimedPlan<T>(
  parts: PublishParts,
  claimed: ClaimedPlan,
  step: (planned: PlannedStep) => Promise<T>,
  options?: CallOptions,
): Promise<T> {
  const { state } = parts;
  const { plan, etag } = claimed;
  const reference = referenceTo(plan);
  const checkPlan = async () => void (await readPlan(parts, reference, options));
  const removePlan = () => deletePlan(state, planName(plan), etag, options);
  try {
    const receipts = claimed.receipts ?? (await readReceipts(state, plan, options));
    return await step({ plan, receipts, checkPlan, removePlan });
  } catch (error) {
    if (isFirnError(error, 'FIRN_PUBLISH_CONFLICT')) await removePlan();
    if (isFirnError(error, 'FIRN_RECEIPT_DAMAGED')) {
      // Another publisher that carried out the plan retires its receipts, but only after the plan itself.
      await checkPlan();
      // Or the plan was made by one who had not seen that publish yet: its receipts went with the other plan.
      const head = await parts.snapshots.readHead(plan.source, options);
      const difference = headDifference(plan.parent, head?.snapshot.id);
      await removePlan();
      if (difference) throw publishConflict(plan.source, difference);
      const damaged = plan.batches.find(({ batch }) =>
        String(error.details.blob).startsWith(receiptFolder(plan.source, batch)),
      );
      const isSameRun =
        damaged && (await findUsableReceipt(parts, plan.source, damaged.batch, options))?.run === damaged.run;
      if (isSameRun) await deleteReceipt(state, plan.source, damaged.batch, options);
    }
    throw error;
  }
}

async function readReceipts(state: SealedBlobs, { source, batches }: Plan, options?: CallOptions): Promise<Receipt[]> {
  const read = async ({ batch, run }: PublishedBatch): Promise<Receipt> => {
    const receipt = await findReceipt(state, source, batch, options);
    if (receipt?.run === run) return receipt;
    const problem = receipt === undefined ? 'it is missing' : 'it is of another run';
    throw new FirnError('FIRN_RECEIPT_DAMAGED', { blob: receiptFolder(source, batch), problem });
  };
  return await pMap(batches, read, { concurrency: RECEIPTS_IN_FLIGHT });
}

function receiptFolder(source: string, batch: string): string {
  return `${RECEIPT_PREFIX}${source}/${batch}/`;
}

async function readPlan(parts: PublishParts, reference: PlanReference, options?: CallOptions): Promise<StoredPlan> {
  const found = await findPlan(parts.state, reference.plan, options);
  if (found?.plan.snapshot.id !== reference.snapshot) {
    const [, source = '', parent] = reference.plan.split('/');
    const head = await parts.snapshots.readHead(source, options);
    throw publishConflict(source, headDifference(parent === FIRST ? undefined : parent, head?.snapshot.id));
  }
  return found;
}
