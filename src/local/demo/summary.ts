/** What the demo says at its end: what came in, and what became of it, for each of the two publishes. Pure. */
import { formatBytes, formatCount, formatTable } from '../../cli/format.ts';
import type { Snapshot } from '../../snapshots/snapshot.ts';

/** One drop of files and the snapshots that were published of it: one as a rule, more for a drop that took long. */
export interface Publish {
  readonly bytesIn: number;
  /** Oldest first. */
  readonly snapshots: readonly Pick<Snapshot, 'id' | 'totals' | 'changes' | 'stored'>[];
}

const ID_DIGITS = 8;

/** A row for each publish. Bytes in − deduplicated − compressed away = stored, but for what sealing adds. */
export function summaryOf(publishes: readonly Publish[]): string {
  const right = { align: 'right' } as const;
  return formatTable(
    [
      { title: 'SNAPSHOT' },
      { title: 'FILES', ...right },
      { title: 'SIZE', ...right },
      { title: 'BYTES IN', ...right },
      { title: 'DEDUPLICATED', ...right },
      { title: 'COMPRESSED AWAY', ...right },
      { title: 'STORED', ...right },
    ],
    publishes.map(({ bytesIn, snapshots }) => {
      const last = snapshots.at(-1);
      const newBytes = total(snapshots, ({ stored }) => stored.newBytes);
      const storedBytes = total(snapshots, ({ stored }) => stored.storedBytes);
      return [
        last?.id.slice(0, ID_DIGITS) ?? '-',
        formatCount(last?.totals.files ?? 0),
        formatBytes(last?.totals.bytes ?? 0),
        formatBytes(bytesIn),
        part(bytesIn - newBytes, bytesIn),
        part(newBytes - storedBytes, bytesIn),
        formatBytes(storedBytes),
      ];
    }),
  );
}

/** «3 added, 4 changed, 1 removed», without what did not happen. */
export function changesOf(snapshots: Publish['snapshots']): string {
  const words = (['added', 'changed', 'removed'] as const)
    .map((what) => ({ what, count: total(snapshots, ({ changes }) => changes[what]) }))
    .filter(({ count }) => count > 0)
    .map(({ what, count }) => `${formatCount(count)} ${what}`);
  return words.length === 0 ? 'no files' : words.join(', ');
}

function total<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((sum, item) => sum + of(item), 0);
}

/**
 * Bytes, and which part of the whole that is. What was saved may be less than nothing: a chunk that two batches store at
 * the same moment, or a few bytes that sealing makes longer. Then nothing was saved.
 */
function part(saved: number, whole: number): string {
  const bytes = Math.max(0, saved);
  return whole === 0 ? formatBytes(bytes) : `${formatBytes(bytes)} (${Math.floor((100 * bytes) / whole)} %)`;
}
