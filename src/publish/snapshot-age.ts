/**
 * Looks at the age of the latest snapshot of each source, and finds sources that have had no new one for too long: the one
 * sign of trouble that leaves nothing in a log. What is too long is a setting; it cannot tell a source without uploads from
 * one whose uploads do not arrive.
 */
import { FirnError, isFirnError } from '../errors.ts';
import type { Snapshot } from '../snapshots/snapshot.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import type { PublishParts } from './parts.ts';

const DAY_MS = 86_400_000;

export interface FindOldOptions extends CallOptions {
  /** Told the latest snapshot of every source, however young. */
  readonly onLatest?: ((snapshot: Snapshot) => void) | undefined;
}

/**
 * FIRN_SNAPSHOT_OLD for each source that is too old (none where the setting is 0), and the error of each whose snapshot
 * cannot be read. Where the setting is 0 and nobody is told, nothing is looked at.
 */
export async function* findOldSnapshots(
  parts: Pick<PublishParts, 'snapshots' | 'settings' | 'now'>,
  { onLatest, ...options }: FindOldOptions = {},
): AsyncGenerator<FirnError> {
  const { snapshotAgeDaysMax } = parts.settings;
  if (snapshotAgeDaysMax === 0 && onLatest === undefined) return;
  for await (const source of parts.snapshots.sources(options)) {
    try {
      const head = await parts.snapshots.readHead(source, options);
      if (head === undefined) continue;
      onLatest?.(head.snapshot);
      const days = Math.floor((parts.now().getTime() - Date.parse(head.snapshot.time)) / DAY_MS);
      if (snapshotAgeDaysMax > 0 && days >= snapshotAgeDaysMax) {
        yield new FirnError('FIRN_SNAPSHOT_OLD', { source, days });
      }
    } catch (error) {
      // What is wrong with one source must not hide the others.
      if (!isFirnError(error)) throw error;
      yield error;
    }
  }
}
