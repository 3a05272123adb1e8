/**
 * The steps of a publish after its plan: flush the chunk locations, build the filetrees, commit. Each is a plain function
 * that may run twice, at once, or die anywhere, and comes to the same result when it is run again. The durable
 * orchestration runs each by the reference of its plan, in an activity of its own; `publishPlanned` runs them together, and
 * reads the receipts once. The order is in both: commit only after every flush and the build.
 */
import { type Receipt, readChanges, readLocations } from '../archive/receipt.ts';
import { isFirnError } from '../errors.ts';
import { applyChanges } from '../filetree/apply-changes.ts';
import type { Change, FolderTotals } from '../filetree/entry.ts';
import type { FlushReport } from '../index/chunk-index.ts';
import type { Hash } from '../sealing/keys.ts';
import { headDifference, publishConflict } from '../snapshots/head-difference.ts';
import type { Snapshot } from '../snapshots/snapshot.ts';
import type { Head } from '../snapshots/snapshot-store.ts';
import { allEnded } from '../storage/all-ended.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { mergeChanges } from './merge-changes.ts';
import type { PublishParts } from './parts.ts';
import { type HashPrefixes, wholeIndex } from './plan.ts';
import type { Plan, PlanReference } from './plan-blob.ts';
import { type ClaimedPlan, type PlannedStep, withClaimedPlan, withPlan } from './planned-step.ts';
import { receiptsOf, retireBatches } from './retire.ts';

/** What `buildFiletrees` answers; small enough to travel through an orchestration. */
export interface BuiltTree {
  readonly root: Hash;
  readonly totals: FolderTotals;
  readonly added: number;
  readonly changed: number;
  readonly removed: number;
}

export type PublishOutcome =
  | { readonly outcome: 'published'; readonly snapshot: Snapshot }
  /** The tree is the one of the parent (or still nothing), and no upload was passed over: no new snapshot. */
  | { readonly outcome: 'unchanged'; readonly snapshot: Snapshot | undefined; readonly batches: Plan['batches'] };

/** So many locations are merged at a time; 96 bytes each in a receipt, some 500 in memory. */
const LOCATIONS_AT_ONCE = 50_000;

export interface FlushOptions extends CallOptions {
  readonly locationsAtOnce?: number | undefined;
}

/** Merges those chunk locations of the plan's receipts that begin so into the shards, whatever roots these have. */
export async function flushShards(
  parts: PublishParts,
  reference: PlanReference,
  prefixes: HashPrefixes,
  options: FlushOptions = {},
): Promise<FlushReport> {
  return await withPlan(parts, reference, (planned) => flush(parts, planned, prefixes, options), options);
}

async function flush(
  parts: PublishParts,
  { receipts }: PlannedStep,
  prefixes: HashPrefixes,
  { locationsAtOnce = LOCATIONS_AT_ONCE, ...options }: FlushOptions,
): Promise<FlushReport> {
  const index = parts.createIndex();
  const reports: FlushReport[] = [];
  for (const receipt of receipts) {
    const table = await readLocations(parts.state, receipt, options);
    for (const prefix of prefixes) {
      for (const location of table?.locationsUnder(prefix) ?? []) {
        index.record([location]);
        if (index.recordedCount >= locationsAtOnce) reports.push(await index.flush(options));
      }
    }
  }
  reports.push(await index.flush(options));
  const sum = (of: (report: FlushReport) => number) => reports.reduce((total, report) => total + of(report), 0);
  return {
    added: sum(({ added }) => added),
    shardsWritten: sum(({ shardsWritten }) => shardsWritten),
    conflicts: sum(({ conflicts }) => conflicts),
  };
}

/**
 * Writes the filetrees of the snapshot to be; all of them are durable when it resolves.
 * @throws FIRN_REPAIR_UNFINISHED soon after a repair has begun.
 */
export async function buildFiletrees(
  parts: PublishParts,
  reference: PlanReference,
  options: CallOptions = {},
): Promise<BuiltTree> {
  return await withPlan(parts, reference, (planned) => build(parts, planned, options), options);
}

async function build(parts: PublishParts, { plan, receipts }: PlannedStep, options: CallOptions): Promise<BuiltTree> {
  const parent = await parentOf(parts, plan, options);
  const changes = mergeChanges(receipts.map((receipt) => readChanges(parts.state, receipt, options)));
  const { root, totals, added, changed, removed } = await applyChanges(
    parts.filetrees,
    parent?.root,
    untilRepair(parts, changes, options),
    options,
  );
  return { root, totals, added, changed, removed };
}

/** A build may take long, and a repair waits for it. */
async function* untilRepair(
  { checkRepair }: PublishParts,
  changes: AsyncIterable<Change>,
  options?: CallOptions,
): AsyncGenerator<Change> {
  for await (const change of changes) {
    await checkRepair(options);
    yield change;
  }
}

/**
 * Writes the snapshot and moves the head, then retires the batches. To be called only when every flush of this plan and
 * its filetrees are durable, with the tree that was built for it.
 * @throws FIRN_PUBLISH_CONFLICT when the plan is not there any more, or the source has moved on from its parent.
 */
export async function commitSnapshot(
  parts: PublishParts,
  reference: PlanReference,
  tree: BuiltTree,
  options: CallOptions = {},
): Promise<PublishOutcome> {
  return await withPlan(parts, reference, (planned) => commit(parts, planned, tree, options), options);
}

async function commit(
  parts: PublishParts,
  { plan, receipts, checkPlan, removePlan }: PlannedStep,
  tree: BuiltTree,
  options: CallOptions,
): Promise<PublishOutcome> {
  const { source, batches } = plan;
  // Another plan may have taken the place of this one: only one of them is to write its snapshot. The head decides in any case.
  const [head] = await allEnded([parts.snapshots.readHead(source, options), checkPlan()]);
  if (head?.snapshot.id === plan.snapshot.id) return await finish(parts, head.snapshot, removePlan, options);
  refuseOvertaken(plan, head);
  const scanned = receipts.some(({ kind }) => kind === 'scan');
  // Whoever scans is told at once; of an upload that was passed over nothing else tells.
  const passedOver = receipts.some(({ kind, skipped }) => kind === 'inbox' && skipped.count > 0);
  const empty = tree.totals.files === 0 && tree.totals.folders === 0;
  if (!passedOver && (head ? head.snapshot.root === tree.root : empty && !scanned)) {
    // The plan goes first: should this die here, the receipts are planned again and come to the same. Who does not
    // remove it retires nothing: another plan may hold these batches by now.
    if (!(await removePlan())) throw publishConflict(source);
    const retiring = { source, batches, root: tree.root };
    await retireBatches(parts, retiring, await receiptsOf(parts, retiring, options), options);
    return { outcome: 'unchanged', snapshot: head?.snapshot, batches };
  }
  const snapshot = await parts.snapshots.create(manifestOf(plan, tree, receipts), options);
  if (!(await parts.snapshots.moveHead(head, snapshot, options))) {
    const now = await parts.snapshots.readHead(source, options);
    if (now?.snapshot.id !== snapshot.id) {
      throw publishConflict(source, headDifference(plan.parent, now?.snapshot.id));
    }
  }
  return await finish(parts, snapshot, removePlan, options);
}

/**
 * All steps of a plan, one after the other, in this process. Where the orchestration has an activity for each group of roots,
 * here one flush is for all of them.
 * @throws what the steps throw.
 */
export async function publishPlanned(
  parts: PublishParts,
  claimed: ClaimedPlan,
  options: CallOptions = {},
): Promise<PublishOutcome> {
  const carryOut = async (planned: PlannedStep): Promise<PublishOutcome> => {
    const [flushed, built] = await Promise.allSettled([
      flush(parts, planned, wholeIndex, options),
      build(parts, planned, options),
    ]);
    if (flushed.status === 'fulfilled' && built.status === 'fulfilled') {
      return await commit(parts, planned, built.value, options);
    }
    throw causeOf([flushed, built].flatMap((each) => (each.status === 'rejected' ? [each.reason] : [])));
  };
  return await withClaimedPlan(parts, claimed, carryOut, options);
}

/** A receipt that is damaged or gone is what the plan has to be given up for; that the source has moved on explains nothing. */
function causeOf(failures: readonly unknown[]): unknown {
  const damaged = failures.find((failure) => isFirnError(failure, 'FIRN_RECEIPT_DAMAGED'));
  return damaged ?? failures.find((failure) => !isFirnError(failure, 'FIRN_PUBLISH_CONFLICT')) ?? failures[0];
}

async function finish(
  parts: PublishParts,
  snapshot: Snapshot,
  removePlan: () => Promise<boolean>,
  options?: CallOptions,
): Promise<PublishOutcome> {
  const [found] = await allEnded([receiptsOf(parts, snapshot, options), removePlan()]);
  try {
    await retireBatches(parts, snapshot, found, options);
  } catch (error) {
    // Uploads are not deleted while the index is under repair; the next plan begins with what is left to retire.
    if (!isFirnError(error, 'FIRN_REPAIR_UNFINISHED')) throw error;
  }
  return { outcome: 'published', snapshot };
}

async function parentOf(parts: PublishParts, plan: Plan, options?: CallOptions): Promise<Snapshot | undefined> {
  const head = await parts.snapshots.readHead(plan.source, options);
  refuseOvertaken(plan, head);
  return head?.snapshot;
}

/** @throws FIRN_PUBLISH_CONFLICT, with both heads, unless the head is still the parent of the plan. */
function refuseOvertaken({ source, parent }: Plan, head: Head | undefined): void {
  const difference = headDifference(parent, head?.snapshot.id);
  if (difference) throw publishConflict(source, difference);
}

function manifestOf(plan: Plan, tree: BuiltTree, receipts: readonly Receipt[]): Snapshot {
  const sum = (of: (receipt: Receipt) => number) => receipts.reduce((total, receipt) => total + of(receipt), 0);
  return {
    ...plan.snapshot,
    source: plan.source,
    parent: plan.parent,
    root: tree.root,
    totals: tree.totals,
    changes: { added: tree.added, changed: tree.changed, removed: tree.removed },
    stored: {
      newChunks: sum(({ totals }) => totals.newChunks),
      newBytes: sum(({ totals }) => totals.newBytes),
      storedBytes: sum(({ totals }) => totals.storedBytes),
    },
    batches: plan.batches,
    skipped: {
      count: sum(({ skipped }) => skipped.count),
      paths: receipts.flatMap(({ skipped }) => skipped.paths),
    },
  };
}
