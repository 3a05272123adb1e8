/**
 * Repair as people and timers run it: one at a time, under the lock `repair`, and apart from publishes: once its marker is
 * set it waits for those that hold their lock. That spares work, and is not what makes repair correct. And the scheduled
 * run, which looks before it repairs.
 */
import type { FirnError } from '../errors.ts';
import { PUBLISH_LOCKS, REPAIR_LOCK } from '../storage/lock-names.ts';
import { thisProcess } from '../storage/lock-record.ts';
import type { Locks } from '../storage/locks.ts';
import { findRepairMarker } from './marker.ts';
import { type RepairOptions, type RepairReport, repairIndex } from './repair.ts';
import { type CheckOptions, type Drift, findDrift } from './repair-check.ts';
import type { RepairParts } from './repair-root.ts';
import { allRoots } from './root-view.ts';

/** How long a repair that died keeps the next one waiting. */
const LOCK_SECONDS = 30;
/** Roots that a scheduled run looks at first: a 16th of all chunks. When one of them drifted, it looks at all. */
const ROOTS_SAMPLED = 1;

export function isRoot(text: string): boolean {
  return allRoots.includes(text);
}

/**
 * How long a repair waits for publishes. One that lives stops within seconds when it sees the marker, or is at its
 * commit; the lease of one that died ends within a minute.
 */
const PUBLISHES_MS_MAX = 120_000;

export interface RunRepairOptions extends Omit<RepairOptions, 'owner' | 'onMarked'> {
  readonly publishesMsMax?: number;
  /** Called once when there are publishes to wait for, with one of them as FIRN_LOCK_BUSY. */
  readonly onWait?: ((busy: FirnError) => void) | undefined;
}

/**
 * @throws FIRN_LOCK_BUSY while another repair runs, or when a publish did not stop in time (nothing is changed then),
 * FIRN_LOCK_LOST, and what `repairIndex` throws.
 */
export async function runRepair(
  parts: RepairParts & { readonly locks: Locks },
  { publishesMsMax = PUBLISHES_MS_MAX, onWait, ...options }: RunRepairOptions,
): Promise<RepairReport> {
  const { locks } = parts;
  await using lock = await locks.acquire(REPAIR_LOCK, {
    reason: options.roots === undefined ? 'repair of the chunk index' : `repair of ${options.roots.join()}`,
    waitMsMax: 0,
    ttlSeconds: LOCK_SECONDS,
    signal: options.signal,
  });
  const signal = options.signal === undefined ? lock.signal : AbortSignal.any([options.signal, lock.signal]);
  const onMarked = () => locks.waitForHolders(PUBLISH_LOCKS, { waitMsMax: publishesMsMax, onWait, signal });
  return await repairIndex(parts, { ...options, owner: thisProcess(), onMarked, signal });
}

export interface RepairNeed {
  /** A repair is to be finished: of these roots, or of all where null. */
  readonly unfinished?: { readonly roots: readonly string[] | null };
  /** Roots that were looked at. */
  readonly checked: number;
  readonly drifted: readonly Drift[];
}

/** What a scheduled run has to do. An unfinished repair is finished whatever a sample says. */
export async function findRepairNeed(parts: RepairParts, options: CheckOptions = {}): Promise<RepairNeed> {
  const marker = await findRepairMarker(parts.state.store, options);
  if (marker !== undefined) return { unfinished: { roots: marker.roots ?? null }, checked: 0, drifted: [] };
  const sample = allRoots
    .map((root) => ({ root, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .slice(0, ROOTS_SAMPLED)
    .map(({ root }) => root);
  const drifted = await findDrift(parts, sample, options);
  if (drifted.length === 0) return { checked: sample.length, drifted };
  return { checked: allRoots.length, drifted: await findDrift(parts, allRoots, options) };
}
