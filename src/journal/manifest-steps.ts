/**
 * The steps from one manifest to the next, all pure. Each gives undefined when there is nothing (left) to do: another process
 * did it, or did something that makes it void.
 */
import {
  activePartition,
  batchName,
  batchPartitions,
  leavePartition,
  leftPartitions,
  type Manifest,
  type PartitionEntry,
  type PartitionMark,
  partitionOfBlob,
  type SealedPartition,
} from './manifest.ts';

function isNamed(manifest: Manifest, blob: string): boolean {
  return manifest.partitions.some((each) => each.blob === blob);
}

function replaced(
  manifest: Manifest,
  isIt: (entry: PartitionEntry) => boolean,
  change: Partial<PartitionEntry>,
): Manifest | undefined {
  if (!manifest.partitions.some(isIt)) return undefined;
  return { ...manifest, partitions: manifest.partitions.map((each) => (isIt(each) ? { ...each, ...change } : each)) };
}

/** A new active partition, with the number `next`. */
export function withActive(manifest: Manifest, blob: string, created: string): Manifest | undefined {
  if (activePartition(manifest) !== undefined || isNamed(manifest, blob)) return undefined;
  const entry: PartitionEntry = { partition: manifest.next, blob, state: 'active', created };
  return { next: manifest.next + 1, partitions: [...manifest.partitions, entry] };
}

/** The active partition becomes a batch; with `sealed` undefined (it holds nothing) it leaves the manifest. */
export function withSealed(
  manifest: Manifest,
  blob: string,
  sealed: SealedPartition | undefined,
): Manifest | undefined {
  const entry = manifest.partitions.find((each) => each.blob === blob);
  if (entry?.state !== 'active') return undefined;
  const others = manifest.partitions.filter((each) => each !== entry);
  const partitions = sealed === undefined ? others : [...others, { ...entry, ...sealed, state: 'sealed' as const }];
  return { ...manifest, partitions };
}

/** A sealed partition that the manifest does not know becomes a batch: under its own number, unless that may be used. */
export function withFound(
  manifest: Manifest,
  blob: string,
  created: string,
  sealed: SealedPartition & Pick<PartitionEntry, 'mark' | 'compacted'>,
): Manifest | undefined {
  if (isNamed(manifest, blob)) return undefined;
  const partition = Math.max(manifest.next, partitionOfBlob(blob) ?? 0);
  const entry: PartitionEntry = { partition, blob, state: 'sealed', created, ...sealed };
  return { next: partition + 1, partitions: [...manifest.partitions, entry] };
}

/**
 * A partition that the manifest does not know is to be deleted. From then on nobody can name it any more: who was about to
 * finds it retired.
 */
export function withDiscarded(manifest: Manifest, blob: string, at: string): Manifest | undefined {
  if (isNamed(manifest, blob)) return undefined;
  const partition = partitionOfBlob(blob) ?? 0;
  const nothing = { sealedAt: at, lastAt: at, records: 0, uploadBytes: 0, blobBytes: 0 };
  const entry: PartitionEntry = { partition, blob, state: 'retired', created: at, ...nothing };
  return { next: Math.max(manifest.next, partition + 1), partitions: [...manifest.partitions, entry] };
}

/** Also of batches that are left: a publish that had begun ends. */
export function withRetired(manifest: Manifest, batches: ReadonlySet<string>): Manifest | undefined {
  const isRetiring = (each: PartitionEntry) =>
    each.state === 'sealed' && each.mark === undefined && batches.has(batchName(each));
  return replaced(manifest, isRetiring, { state: 'retired' });
}

/** Forgets retired partitions whose blobs are gone. */
export function withoutRetired(manifest: Manifest, blobs: ReadonlySet<string>): Manifest | undefined {
  const partitions = manifest.partitions.filter(({ state, blob }) => state !== 'retired' || !blobs.has(blob));
  return partitions.length === manifest.partitions.length ? undefined : { ...manifest, partitions };
}

/**
 * The partition of a leave or a rejoin, with the number `next`. A leave wants no partition to be active, so that everything
 * before it is in a partition of a smaller number; it takes the place of an earlier one. A rejoin takes away all leaves.
 */
export function withMark(
  manifest: Manifest,
  mark: PartitionMark,
  blob: string,
  sealed: SealedPartition,
): Manifest | undefined {
  if (isNamed(manifest, blob) || (mark === 'leave' && activePartition(manifest) !== undefined)) return undefined;
  const { sealedAt: created } = sealed;
  const entry: PartitionEntry = { partition: manifest.next, blob, state: 'sealed', created, ...sealed, mark };
  const isEarlierLeave = (each: PartitionEntry) => each.state === 'sealed' && each.mark === 'leave';
  const { partitions } = replaced(manifest, isEarlierLeave, { state: 'retired' }) ?? manifest;
  return { next: manifest.next + 1, partitions: [...partitions, entry] };
}

/** Takes away the leaves before the last rejoin. */
export function withRejoined(manifest: Manifest): Manifest | undefined {
  const rejoins = manifest.partitions.filter(({ state, mark }) => state === 'sealed' && mark === 'rejoin');
  const last = Math.max(0, ...rejoins.map(({ partition }) => partition));
  return replaced(
    manifest,
    ({ state, mark, partition }) => state === 'sealed' && mark === 'leave' && partition < last,
    { state: 'retired' },
  );
}

/**
 * Retires marks that say nothing any more: a leave when all that it left is gone, a rejoin when the leaves before it are.
 * What a mark tells is told by nothing else should the manifest be lost, so it goes after what it is about.
 */
export function withoutSpentMarks(manifest: Manifest): Manifest | undefined {
  const before = (mark: PartitionEntry, isIt: (each: PartitionEntry) => boolean) =>
    manifest.partitions.some((each) => each.partition < mark.partition && isIt(each));
  return replaced(
    manifest,
    (each) =>
      each.state === 'sealed' &&
      ((each.mark === 'leave' && !before(each, ({ mark }) => mark === undefined)) ||
        (each.mark === 'rejoin' && !before(each, ({ mark }) => mark === 'leave'))),
    { state: 'retired' },
  );
}

/** Gives up what was left before `leftBefore` (RFC 3339), by the time of the service. */
export function withoutLeft(manifest: Manifest, leftBefore: string): Manifest | undefined {
  const leave = leavePartition(manifest);
  if (leave === undefined || Date.parse(leave.lastAt ?? leave.created) > Date.parse(leftBefore)) return undefined;
  const left = new Set(leftPartitions(manifest));
  return replaced(manifest, (each) => left.has(each), { state: 'retired' });
}

/** Keeps compaction away from batches, for good. */
export function withHeld(manifest: Manifest, batches: ReadonlySet<string>): Manifest | undefined {
  const holdable = new Set(batchPartitions(manifest).filter((each) => !each.held && batches.has(batchName(each))));
  return replaced(manifest, (each) => holdable.has(each), { held: true });
}

/** Compaction may take it. */
function isFree({ state, mark, held }: PartitionEntry): boolean {
  return state === 'sealed' && mark === undefined && !held;
}

/**
 * A compacted partition takes the place of others. Void when one of them is no sealed partition any more or is held, or when
 * the compacted one is named already: as it should be, or as one to be deleted.
 */
export function withSwapped(
  manifest: Manifest,
  replaces: ReadonlySet<string>,
  entry: PartitionEntry,
): Manifest | undefined {
  const isReplaced = ({ blob }: PartitionEntry) => replaces.has(blob);
  const those = manifest.partitions.filter(isReplaced);
  if (isNamed(manifest, entry.blob) || those.length !== replaces.size || !those.every(isFree)) return undefined;
  const retired = replaced(manifest, isReplaced, { state: 'retired' });
  return retired && { ...retired, partitions: [...retired.partitions, entry] };
}

/** A compacted partition as it was found. */
export interface FoundCompacted {
  readonly blob: string;
  readonly created: string;
  readonly sealed: SealedPartition;
  /** Undefined where it is damaged. */
  readonly replaces: ReadonlySet<string> | undefined;
  /** The manifest never gave its number. */
  readonly isUnknown: boolean;
}

/**
 * A compacted partition that the manifest does not name counts where the manifest was brought back from an older copy: then
 * it may be all that is left. Two things tell of that. What is deleted was retired before, so nothing else is named and gone;
 * and each number was given by the manifest. In all other cases what it stands for is there, or was published, and
 * it is to be discarded: what it removes would be removed once more.
 *
 * It stands for those that its end names, also where the older manifest takes one for active or does not know the later
 * ones; where it is damaged, for all that a compaction may have taken and that is gone, and for nothing that is there.
 */
export function withTakenUp(
  manifest: Manifest,
  { blob, created, sealed, replaces, isUnknown }: FoundCompacted,
  isGone: (blob: string) => boolean,
): Manifest | undefined {
  const active = activePartition(manifest);
  const closed = (active && replaces?.has(active.blob) && withSealed(manifest, active.blob, sealed)) || manifest;
  const last = partitionOfBlob(blob) ?? 0;
  const isReplaced = (each: PartitionEntry) =>
    isFree(each) && (replaces?.has(each.blob) ?? (each.partition <= last && isGone(each.blob)));
  const those = closed.partitions.filter(isReplaced);
  const isNeeded = those.some((each) => isGone(each.blob)) || (isUnknown && (replaces?.values().some(isGone) ?? true));
  if (!isNeeded) return withDiscarded(manifest, blob, created);
  const partition = Math.max(...those.map((each) => each.partition));
  const entry: PartitionEntry = { ...sealed, partition, blob, state: 'sealed', created, compacted: true };
  return (
    withSwapped(closed, new Set(those.map((each) => each.blob)), entry) ??
    withFound(closed, blob, created, { ...sealed, compacted: true })
  );
}
