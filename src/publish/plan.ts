/**
 * Plans: what one publish of one source will do, decided once and then followed by whoever carries it out.
 *
 * A plan is claimed by creating `plans/<source>/<parent>`: for one parent there is one plan, with the name and time of
 * the snapshot to be. So a publish that died is resumed, two publishers at once do the same work twice and write the same
 * snapshot, and a source never has two snapshots with one parent, with or without a lock.
 */
import { randomBytes } from 'node:crypto';
import {
  deleteReceipt,
  findReceipt,
  findUsableReceipt,
  listReceipts,
  RECEIPT_PREFIX,
  type Receipt,
} from '../archive/receipt.ts';
import { FirnError, isFirnError } from '../errors.ts';
import { parseJsonBlob } from '../sealing/json-blob.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import type { Head } from '../snapshots/snapshot-store.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import type { PublishParts } from './parts.ts';
import { retireBatches } from './retire.ts';

const PLAN_FORMAT = 1;

export interface Plan {
  readonly source: string;
  /** Id of the snapshot to follow; undefined for the first of its source. */
  readonly parent: string | undefined;
  /** The snapshot to be. */
  readonly snapshot: { readonly id: string; readonly time: string };
  /** Batches whose receipts go into it, oldest first. */
  readonly batches: readonly string[];
}

/** A range of roots of the chunk index, `to` excluded. */
export interface RootRange {
  readonly from: number;
  readonly to: number;
}

/** What is known of a source when a publish is planned. */
export interface PublishCandidates {
  /** Id of the latest snapshot. */
  readonly head: string | undefined;
  /** Sealed batches that are not retired, oldest first. */
  readonly batches: readonly string[];
  /** Receipts that wait, in any order. */
  readonly receipts: readonly Pick<Receipt, 'batch' | 'kind' | 'base'>[];
}

export interface PublishSelection {
  readonly batches: readonly string[];
  /**
   * Never to be published: scans of a state that is not the head any more, which are done again by whoever scans next;
   * and receipts of batches that were retired, written by an attempt that came too late.
   */
  readonly stale: readonly string[];
}

/**
 * Chooses the receipts of the next snapshot. Batches of the inbox are published in their order and without gaps: a later
 * batch may hold a newer version of the same path. A scan is the difference from its base, so it is published alone and
 * on that base only. Pure.
 */
export function selectReceipts(candidates: PublishCandidates, receiptsMax: number): PublishSelection {
  const { head, batches, receipts } = candidates;
  const scans = receipts.filter(({ kind }) => kind === 'scan');
  const current = scans.filter(({ base }) => base === head).map(({ batch }) => batch);
  const waiting = new Set(batches);
  const stale = receipts
    .filter(({ kind, base, batch }) => (kind === 'scan' ? base !== head : !waiting.has(batch)))
    .map(({ batch }) => batch);
  const [scan, ...others] = current.sort();
  if (scan !== undefined) return { batches: [scan], stale: [...stale, ...others] };
  const ready = new Set(receipts.filter(({ kind }) => kind === 'inbox').map(({ batch }) => batch));
  const gap = batches.findIndex((batch) => !ready.has(batch));
  const contiguous = gap < 0 ? batches : batches.slice(0, gap);
  return { batches: contiguous.slice(0, receiptsMax), stale };
}

/** Roots in groups, one group an activity. */
export function groupRoots(rootsPerGroup: number): RootRange[] {
  const groups: RootRange[] = [];
  for (let from = 0; from < 256; from += rootsPerGroup) groups.push({ from, to: Math.min(256, from + rootsPerGroup) });
  return groups;
}

export function planName(plan: Pick<Plan, 'source' | 'parent'>): string {
  return `plans/${plan.source}/${plan.parent ?? 'first'}`;
}

function encodePlan({ source, parent, snapshot, batches }: Plan): Buffer {
  return Buffer.from(JSON.stringify({ format: PLAN_FORMAT, source, parent: parent ?? null, snapshot, batches }));
}

function parsePlan(name: string, body: Buffer): Plan {
  const { source, parent, snapshot, batches } = parseJsonBlob(name, body, PLAN_FORMAT) as Partial<Plan> & {
    parent?: string | null;
  };
  if (
    typeof source !== 'string' ||
    planName({ source, parent: parent ?? undefined }) !== name ||
    typeof snapshot?.id !== 'string' ||
    typeof snapshot.time !== 'string' ||
    !Array.isArray(batches)
  ) {
    throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem: 'it is not the plan of this publish' });
  }
  return { source, parent: parent ?? undefined, snapshot, batches };
}

/** @throws FIRN_PUBLISH_CONFLICT when the plan was carried out and removed meanwhile. */
async function readPlan(state: SealedBlobs, name: string, options?: CallOptions): Promise<Plan> {
  const plan = await findPlan(state, name, options);
  if (plan === undefined) {
    const [, source = ''] = name.split('/');
    throw new FirnError('FIRN_PUBLISH_CONFLICT', { source });
  }
  return plan;
}

/** The plan on this head; undefined when there is none. A plan that cannot be read is removed: it is only a decision. */
async function findPlan(state: SealedBlobs, name: string, options?: CallOptions): Promise<Plan | undefined> {
  try {
    const found = await state.find('plan', name, options);
    return found && parsePlan(name, found.body);
  } catch (error) {
    if (!isFirnError(error, 'FIRN_SEAL_BROKEN', 'FIRN_BLOB_DAMAGED')) throw error;
    await state.store.delete(name, options);
    return undefined;
  }
}

export async function deletePlan(state: SealedBlobs, name: string, options?: CallOptions): Promise<void> {
  await state.store.delete(name, options);
}

/** Now, but after the parent: names of snapshots are in the order of publishing whatever the clocks say. */
function timeAfter(head: Head | undefined, now: Date): string {
  const earliest = head === undefined ? 0 : Date.parse(head.snapshot.time) + 1;
  return new Date(Math.max(now.getTime(), earliest)).toISOString();
}

/**
 * Plans the next publish of a source, or finds the plan that a publish died with.
 * @returns undefined when there is nothing to publish.
 */
export async function planPublish(
  parts: PublishParts,
  source: string,
  options?: CallOptions,
): Promise<{ name: string; plan: Plan } | undefined> {
  const { state, snapshots, settings } = parts;
  const head = await snapshots.readHead(source, options);
  // What the last publish left behind: its receipts must not be applied again.
  if (head) {
    await retireBatches(parts, source, head.snapshot.batches, options);
    await deletePlan(state, planName({ source, parent: head.snapshot.parent }), options);
  }
  const name = planName({ source, parent: head?.snapshot.id });
  const resumed = await findPlan(state, name, options);
  if (resumed) return { name, plan: resumed };

  const receipts: Receipt[] = [];
  for await (const { batch } of listReceipts(state.store, source, options)) {
    const receipt = await findUsableReceipt(parts, source, batch, options);
    if (receipt) receipts.push(receipt);
  }
  // After the receipts: a batch that is archived just now is then in both, or in neither.
  const batches = (await parts.journalOf(source).batches(options)).map(({ batch }) => batch);
  const selection = selectReceipts({ head: head?.snapshot.id, batches, receipts }, settings.publishReceiptsMax);
  for (const batch of selection.stale) await deleteReceipt(state, source, batch, options);
  if (selection.batches.length === 0) return undefined;
  const plan: Plan = {
    source,
    parent: head?.snapshot.id,
    snapshot: { id: randomBytes(8).toString('hex'), time: timeAfter(head, parts.now()) },
    batches: selection.batches,
  };
  const created = await state.create('plan', name, encodePlan(plan), options);
  return created === undefined ? await planPublish(parts, source, options) : { name, plan };
}

/**
 * Runs a step with the receipts of a plan, oldest first. When one turns out to be damaged, it is discarded with the
 * plan that relied on it, so that its batch is archived again and the next publish does without it.
 * @throws FIRN_PUBLISH_CONFLICT when the plan was carried out and removed meanwhile; FIRN_RECEIPT_DAMAGED.
 */
export async function withPlan<T>(
  parts: PublishParts,
  name: string,
  step: (plan: Plan, receipts: readonly Receipt[]) => Promise<T>,
  options?: CallOptions,
): Promise<T> {
  const plan = await readPlan(parts.state, name, options);
  try {
    const receipts: Receipt[] = [];
    for (const batch of plan.batches) {
      const receipt = await findReceipt(parts.state, plan.source, batch, options);
      if (receipt === undefined) {
        const blob = `${RECEIPT_PREFIX}${plan.source}/${batch}/receipt`;
        throw new FirnError('FIRN_RECEIPT_DAMAGED', { blob, problem: 'it is missing' });
      }
      receipts.push(receipt);
    }
    return await step(plan, receipts);
  } catch (error) {
    if (isFirnError(error, 'FIRN_RECEIPT_DAMAGED')) {
      // Another publisher that carried out the plan retires its receipts, but only after the plan itself.
      await readPlan(parts.state, name, options);
      const damaged = plan.batches.find((each) =>
        String(error.details.blob).startsWith(`${RECEIPT_PREFIX}${plan.source}/${each}/`),
      );
      await deletePlan(parts.state, name, options);
      if (damaged !== undefined) await deleteReceipt(parts.state, plan.source, damaged, options);
    }
    throw error;
  }
}
