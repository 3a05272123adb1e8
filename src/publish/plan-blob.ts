/**
 * The blob of a plan: `plans/<source>/<parent>`, so there is one plan for one parent. It is only a decision: one that is
 * damaged is removed, and another takes its place.
 */
import { FirnError, isFirnError } from '../errors.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import { isParent, isPublishedBatches, isSnapshotIdentity, type PublishedBatch } from '../snapshots/snapshot.ts';
import { type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import { parseJsonBlob } from '../storage/json-blob.ts';

const PLAN_FORMAT = 1;
/** In the place of the parent, in the name of the plan of a first snapshot. */
export const FIRST = 'first';

export interface Plan {
  readonly source: string;
  /** Id of the snapshot to follow; undefined for the first of its source. */
  readonly parent: string | undefined;
  /** The snapshot to be. */
  readonly snapshot: { readonly id: string; readonly time: string };
  /** Batches that go into it, oldest first, each with the run whose receipt does. */
  readonly batches: readonly PublishedBatch[];
}

/**
 * Names one plan. The blob is named after the parent, and another plan may take its place when a publish comes to
 * nothing; the id of the snapshot to be tells them apart, so no step ever works for a plan that it was not meant for.
 */
export interface PlanReference {
  readonly plan: string;
  readonly snapshot: string;
}

export function planName(plan: Pick<Plan, 'source' | 'parent'>): string {
  return `plans/${plan.source}/${plan.parent ?? FIRST}`;
}

export function encodePlan({ source, parent, snapshot, batches }: Plan): Buffer {
  return Buffer.from(JSON.stringify({ format: PLAN_FORMAT, source, parent: parent ?? null, snapshot, batches }));
}

function parsePlan(name: string, body: Buffer): Plan {
  const { source, parent, snapshot, batches } = parseJsonBlob(name, body, PLAN_FORMAT);
  if (
    typeof source !== 'string' ||
    !isParent(parent) ||
    planName({ source, parent: parent ?? undefined }) !== name ||
    !isSnapshotIdentity(snapshot) ||
    !isPublishedBatches(batches)
  ) {
    throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem: 'it is not the plan of this publish' });
  }
  const { id, time } = snapshot;
  return { source, parent: parent ?? undefined, snapshot: { id, time }, batches };
}

export interface StoredPlan {
  readonly plan: Plan;
  readonly etag: string;
}

/** The plan of this name; undefined when there is none. One that is damaged is removed. */
export async function findPlan(
  state: SealedBlobs,
  name: string,
  options?: CallOptions,
): Promise<StoredPlan | undefined> {
  const found = await state.inspect('plan', name, options);
  if (found === undefined) return undefined;
  const { etag } = found;
  try {
    if ('error' in found) throw found.error;
    return { plan: parsePlan(name, found.body), etag };
  } catch (error) {
    if (!isFirnError(error, 'FIRN_SEAL_BROKEN', 'FIRN_BLOB_DAMAGED')) throw error;
    await deletePlan(state, name, etag, options);
    return undefined;
  }
}

/** Removes the plan that was read, and no other of its name. @returns whether this call removed it. */
export async function deletePlan(
  state: SealedBlobs,
  name: string,
  etag: string,
  options?: CallOptions,
): Promise<boolean> {
  try {
    return await state.store.delete(name, { ...options, ifMatch: etag });
  } catch (error) {
    if (isBlobFailure(error, 'changed')) return false;
    throw error;
  }
}

export function referenceTo(plan: Plan): PlanReference {
  return { plan: planName(plan), snapshot: plan.snapshot.id };
}
