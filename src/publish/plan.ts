/**
 * Plans: what one publish of one source will do, decided once and then followed by whoever carries it out.
 *
 * A plan is claimed by creating `plans/<source>/<parent>`: for one parent there is one plan, with the name and time of
 * the snapshot to be. So a publish that died is resumed, two publishers at once do the same work twice and write the same
 * snapshot, and a source never has two snapshots with one parent, with or without a lock.
 */

import { randomBytes } from 'node:crypto';
import pMap from 'p-map';
import { isScan } from '../archive/archive-folder.ts';
import {
  type Attempts,
  deleteReceipt,
  findReceipt,
  findUsableReceipt,
  listAttempts,
  RECEIPT_PREFIX,
  type Receipt,
  sweepIfAbandoned,
} from '../archive/receipt.ts';
import { FirnError, isFirnError } from '../errors.ts';
import { allRoots } from '../index/chunk-index.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import { headDifference, publishConflict } from '../snapshots/head-difference.ts';
import { isParent, isPublishedBatches, isSnapshotIdentity, type PublishedBatch } from '../snapshots/snapshot.ts';
import type { Head } from '../snapshots/snapshot-store.ts';
import { type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import { parseJsonBlob } from '../storage/json-blob.ts';
import type { PublishParts } from './parts.ts';
import { retireBatches } from './retire.ts';

const PLAN_FORMAT = 1;
const RECEIPTS_IN_FLIGHT = 16;
/** In the place of the parent, in the name of the plan of a first snapshot. */
const FIRST = 'first';

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

/** What is flushed at once: all chunks whose hashes begin with one of these texts. */
export type HashPrefixes = readonly string[];

export const wholeIndex: HashPrefixes = allRoots;

/** The prefixes that a plan hands over; everything where another version of Firn handed over something else. */
export function prefixesOf(value: unknown): HashPrefixes {
  const isPrefix = (each: unknown): each is string => typeof each === 'string' && /^[0-9a-f]+$/.test(each);
  return Array.isArray(value) && value.length > 0 && value.every(isPrefix) ? value : wholeIndex;
}

/** What is known of a source when a publish is planned. */
export interface PublishCandidates {
  /** Id of the latest snapshot. */
  readonly head: string | undefined;
  /** Sealed batches that are not retired, oldest first. */
  readonly batches: readonly string[];
  /** Receipts that wait, in any order. */
  readonly receipts: readonly ReceiptCandidate[];
}

export type ReceiptCandidate = Pick<Receipt, 'batch' | 'kind' | 'base'>;

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

/**
 * Roots in groups, one group an activity. They travel by their names: an activity may be carried out by another version of
 * Firn than the one that planned it, which may have other roots.
 */
export function groupRoots(rootsPerGroup: number): HashPrefixes[] {
  const groups: HashPrefixes[] = [];
  for (let from = 0; from < wholeIndex.length; from += rootsPerGroup) {
    groups.push(wholeIndex.slice(from, from + rootsPerGroup));
  }
  return groups;
}

export function planName(plan: Pick<Plan, 'source' | 'parent'>): string {
  return `plans/${plan.source}/${plan.parent ?? FIRST}`;
}

function encodePlan({ source, parent, snapshot, batches }: Plan): Buffer {
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

interface StoredPlan {
  readonly plan: Plan;
  readonly etag: string;
}

/** The plan on this head; undefined when there is none. One that is damaged is removed: it is only a decision. */
async function findPlan(state: SealedBlobs, name: string, options?: CallOptions): Promise<StoredPlan | undefined> {
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
async function deletePlan(state: SealedBlobs, name: string, etag: string, options?: CallOptions): Promise<boolean> {
  try {
    return await state.store.delete(name, { ...options, ifMatch: etag });
  } catch (error) {
    if (isBlobFailure(error, 'changed')) return false;
    throw error;
  }
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
): Promise<PlanReference | undefined> {
  const { state, settings } = parts;
  const head = await trueHead(parts, source, options);
  const name = planName({ source, parent: head?.snapshot.id });
  const [found, resumed, carriedOut] = await Promise.all([
    Array.fromAsync(listAttempts(state.store, source, options)),
    findPlan(state, name, options),
    head && findPlan(state, planName(head.snapshot), options),
  ]);
  // What the publish of the head left behind when it died must not be applied again.
  if (head) await retireBatches(parts, head.snapshot, { ...options, found });
  if (carriedOut) await deletePlan(state, planName(carriedOut.plan), carriedOut.etag, options);
  if (resumed) return { plan: name, snapshot: resumed.plan.snapshot.id };

  const retired = new Set(head?.snapshot.batches.map(({ batch }) => batch));
  const waiting = found.filter(({ batch }) => !retired.has(batch));
  const { candidates, scans } = await candidatesOf(parts, waiting, options);
  // After the receipts: a batch that is archived just now is then in both, or in neither.
  const ofInbox = candidates.some(({ kind }) => kind === 'inbox');
  const sealed = ofInbox ? await parts.journalOf(source).batches(options) : [];
  const known = { head: head?.snapshot.id, batches: sealed.map(({ batch }) => batch), receipts: candidates };
  const selection = selectReceipts(known, settings.publishReceiptsMax);
  for (const batch of selection.stale) await deleteReceipt(state, source, batch, options);
  const receipts = await pMap(
    selection.batches,
    async (batch) => scans.get(batch) ?? (await findUsableReceipt(parts, source, batch, options)),
    { concurrency: RECEIPTS_IN_FLIGHT },
  );
  const gap = receipts.indexOf(undefined);
  const chosen = (gap < 0 ? receipts : receipts.slice(0, gap)).filter((receipt) => receipt !== undefined);
  const held = await holdBatches(
    parts,
    source,
    chosen.map(({ batch, run }) => ({ batch, run })),
    options,
  );
  if (held.length === 0) return undefined;
  const plan: Plan = {
    source,
    parent: head?.snapshot.id,
    snapshot: { id: randomBytes(8).toString('hex'), time: timeAfter(head, parts.now()) },
    batches: held,
  };
  const created = await state.create('plan', name, encodePlan(plan), options);
  return created === undefined ? await planPublish(parts, source, options) : { plan: name, snapshot: plan.snapshot.id };
}

/** The receipts among what waits; those of scans are read, for their base. Sweeps what died attempts left. */
async function candidatesOf(
  parts: PublishParts,
  waiting: readonly Attempts[],
  options?: CallOptions,
): Promise<{ candidates: readonly ReceiptCandidate[]; scans: ReadonlyMap<string, Receipt> }> {
  const candidates: ReceiptCandidate[] = [];
  const scans = new Map<string, Receipt>();
  for (const attempts of waiting) {
    const { source, batch, receiptWritten } = attempts;
    if (receiptWritten === undefined) await sweepIfAbandoned(parts.state, attempts, parts.now(), options);
    else if (!isScan(batch)) candidates.push({ batch, kind: 'inbox', base: undefined });
    else {
      const receipt = await findUsableReceipt(parts, source, batch, options);
      if (receipt === undefined) continue;
      scans.set(batch, receipt);
      candidates.push(receipt);
    }
  }
  return { candidates, scans };
}

/**
 * Keeps compaction away from the batches of the plan to be: what is published must not come back in a compacted batch, whose
 * removals would then be applied after what was published since.
 * @returns those before the first that was compacted already: the compacted batch stands in its place.
 */
async function holdBatches(
  parts: PublishParts,
  source: string,
  batches: readonly PublishedBatch[],
  options?: CallOptions,
): Promise<readonly PublishedBatch[]> {
  const names = batches.map(({ batch }) => batch).filter((batch) => !isScan(batch));
  if (names.length === 0) return batches;
  const held = await parts.journalOf(source).hold(names, options);
  const gap = names.findIndex((batch) => !held.has(batch));
  return gap < 0 ? batches : batches.slice(0, gap);
}

/** The head; moved on first where it is older than the newest snapshot, as after the state was brought back from a copy. */
async function trueHead(parts: PublishParts, source: string, options?: CallOptions): Promise<Head | undefined> {
  const { snapshots, onWarning } = parts;
  const head = await snapshots.readHead(source, options);
  const later = head && (await snapshots.laterThan(head, { ...options, onDamaged: ({ error }) => onWarning(error) }));
  if (later === undefined) return head;
  await snapshots.moveHead(head, later, options);
  return await snapshots.readHead(source, options);
}

/** What a step of a publish works for. */
export interface PlannedStep {
  readonly plan: Plan;
  /** The receipts of the plan, oldest first. */
  readonly receipts: readonly Receipt[];
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
  const { state } = parts;
  const name = reference.plan;
  const { plan, etag } = await readPlan(parts, reference, options);
  const removePlan = () => deletePlan(state, name, etag, options);
  try {
    const read = async ({ batch, run }: PublishedBatch): Promise<Receipt> => {
      const receipt = await findReceipt(state, plan.source, batch, options);
      if (receipt?.run === run) return receipt;
      const problem = receipt === undefined ? 'it is missing' : 'it is of another run';
      throw new FirnError('FIRN_RECEIPT_DAMAGED', { blob: receiptFolder(plan.source, batch), problem });
    };
    const receipts = await pMap(plan.batches, read, { concurrency: RECEIPTS_IN_FLIGHT });
    return await step({ plan, receipts, removePlan });
  } catch (error) {
    if (isFirnError(error, 'FIRN_PUBLISH_CONFLICT')) await removePlan();
    if (isFirnError(error, 'FIRN_RECEIPT_DAMAGED')) {
      // Another publisher that carried out the plan retires its receipts, but only after the plan itself.
      await readPlan(parts, reference, options);
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
