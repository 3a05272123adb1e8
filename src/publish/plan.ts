/**
 * Plans: what one publish of one source will do, decided once and then followed by whoever carries it out.
 *
 * A plan is claimed by creating `plans/<source>/<parent>`: for one parent there is one plan, with the name and time of
 * the snapshot to be. So a publish that died is resumed, two publishers at once do the same work twice and write the same
 * snapshot, and a source has no two snapshots with one parent, with or without a lock (docs/reliability.md names the one gap).
 */

import { randomBytes } from 'node:crypto';
import pMap from 'p-map';
import { isScan } from '../archive/last-scan.ts';
import {
  type Attempts,
  deleteReceipt,
  findUsableReceipt,
  listAttempts,
  type Receipt,
  sweepIfAbandoned,
} from '../archive/receipt.ts';
import { allRoots } from '../index/chunk-index.ts';
import type { DamagedSnapshot, Head } from '../snapshots/snapshot-store.ts';
import { allEnded } from '../storage/all-ended.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import type { PublishParts } from './parts.ts';
import { deletePlan, encodePlan, findPlan, type Plan, type PlanReference, planName, referenceTo } from './plan-blob.ts';
import { type ClaimedPlan, RECEIPTS_IN_FLIGHT } from './planned-step.ts';
import { retireBatches } from './retire.ts';

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
  const claimed = await claimPlan(parts, source, options);
  return claimed && referenceTo(claimed.plan);
}

/** The same for who carries it out himself. */
export async function claimPlan(
  parts: PublishParts,
  source: string,
  options?: CallOptions,
): Promise<ClaimedPlan | undefined> {
  const { state, snapshots } = parts;
  const onDamaged = ({ error }: DamagedSnapshot) => parts.onWarning(error);
  const reading = snapshots.readHead(source, options);
  const [head, found] = await allEnded([reading, attemptsBeside(parts, source, reading, options)]);
  const name = planName({ source, parent: head?.snapshot.id });
  const [later, resumed, carriedOut] = await allEnded([
    head && snapshots.laterThan(head, { ...options, onDamaged }),
    findPlan(state, name, options),
    head && findPlan(state, planName(head.snapshot), options),
  ]);
  if (head && later) {
    // It is older than the newest snapshot, as after the state was brought back from a copy.
    await snapshots.moveHead(head, later, options);
    return await claimPlan(parts, source, options);
  }
  // What the publish of the head left behind when it died must not be applied again.
  if (head) await retireBatches(parts, head.snapshot, found.published, options);
  if (carriedOut) await deletePlan(state, planName(carriedOut.plan), carriedOut.etag, options);
  if (resumed) return resumed;

  // Only now: a receipt that cannot be read holds up no plan that stands.
  const candidates = await candidatesOf(parts, found.waiting, options);
  const receipts = await chooseReceipts(parts, source, head, candidates, options);
  if (receipts.length === 0) return undefined;
  const plan: Plan = {
    source,
    parent: head?.snapshot.id,
    snapshot: { id: randomBytes(8).toString('hex'), time: timeAfter(head, parts.now()) },
    batches: receipts.map(({ batch, run }) => ({ batch, run })),
  };
  const created = await state.create('plan', name, encodePlan(plan), options);
  return created === undefined ? await claimPlan(parts, source, options) : { plan, etag: created.etag, receipts };
}

interface FoundAttempts {
  /** With receipts, of batches that the head has. */
  readonly published: readonly Attempts[];
  /** All others. Of a receipt only that it is there is kept, since many may wait. */
  readonly waiting: readonly Attempts[];
}

/** What lies under `receipts/` of the source, listed while the head is read. */
async function attemptsBeside(
  { state }: PublishParts,
  source: string,
  reading: Promise<Head | undefined>,
  options?: CallOptions,
): Promise<FoundAttempts> {
  const published: Attempts[] = [];
  const waiting: Attempts[] = [];
  let batches: ReadonlySet<string> | undefined;
  for await (const attempts of listAttempts(state.store, source, options)) {
    batches ??= new Set((await reading)?.snapshot.batches.map(({ batch }) => batch));
    const hasReceipt = attempts.receiptWritten !== undefined;
    if (!batches.has(attempts.batch)) waiting.push(hasReceipt ? { ...attempts, names: [] } : attempts);
    else if (hasReceipt) published.push(attempts);
  }
  return { published, waiting };
}

/** The receipts that can go into the next snapshot, and do; deletes those that never will. */
async function chooseReceipts(
  parts: PublishParts,
  source: string,
  head: Head | undefined,
  { candidates, scans }: Candidates,
  options?: CallOptions,
): Promise<readonly Receipt[]> {
  // After the receipts: a batch that is archived just now is then in both, or in neither.
  const ofInbox = candidates.some(({ kind }) => kind === 'inbox');
  const sealed = ofInbox ? await parts.journalOf(source).batches(options) : [];
  const known = { head: head?.snapshot.id, batches: sealed.map(({ batch }) => batch), receipts: candidates };
  const selection = selectReceipts(known, parts.settings.publishReceiptsMax);
  for (const batch of selection.stale) await deleteReceipt(parts.state, source, batch, options);
  const read = async (batch: string): Promise<Receipt | undefined> =>
    scans.get(batch) ?? (await findUsableReceipt(parts, source, batch, options));
  const found = await pMap(selection.batches, read, { concurrency: RECEIPTS_IN_FLIGHT });
  const gap = found.indexOf(undefined);
  const receipts = (gap < 0 ? found : found.slice(0, gap)).filter((receipt) => receipt !== undefined);
  return await holdBatches(parts, source, receipts, options);
}

interface Candidates {
  readonly candidates: readonly ReceiptCandidate[];
  /** Those of scans, which were read, by their batches. */
  readonly scans: ReadonlyMap<string, Receipt>;
}

/** The receipts among what waits; those of scans are read, for their base. Sweeps what died attempts left. */
async function candidatesOf(
  parts: PublishParts,
  waiting: readonly Attempts[],
  options?: CallOptions,
): Promise<Candidates> {
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
  receipts: readonly Receipt[],
  options?: CallOptions,
): Promise<readonly Receipt[]> {
  const names = receipts.map(({ batch }) => batch).filter((batch) => !isScan(batch));
  if (names.length === 0) return receipts;
  const held = await parts.journalOf(source).hold(names, options);
  const gap = names.findIndex((batch) => !held.has(batch));
  return gap < 0 ? receipts : receipts.slice(0, gap);
}
