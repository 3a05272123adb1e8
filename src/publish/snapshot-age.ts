/**
 * Finds sources that have had no new snapshot for too long: the one sign of trouble that leaves nothing in a log. What is
 * too long is a setting; it cannot tell a source without uploads from one whose uploads do not arrive.
 */
import { FirnError, isFirnError } from '../errors.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import type { PublishParts } from './parts.ts';

const DAY_MS = 86_400_000;

/** FIRN_SNAPSHOT_OLD for each source that is too old, and the error of each whose snapshot cannot be read. */
export async function* findOldSnapshots(
  parts: Pick<PublishParts, 'snapshots' | 'settings' | 'now'>,
  options?: CallOptions,
): AsyncGenerator<FirnError> {
  const { snapshotAgeDaysMax } = parts.settings;
  if (snapshotAgeDaysMax === 0) return;
  for await (const source of parts.snapshots.sources(options)) {
    try {
      const head = await parts.snapshots.readHead(source, options);
      if (head === undefined) continue;
      const days = Math.floor((parts.now().getTime() - Date.parse(head.snapshot.time)) / DAY_MS);
      if (days >= snapshotAgeDaysMax) yield new FirnError('FIRN_SNAPSHOT_OLD', { source, days });
    } catch (error) {
      // What is wrong with one source must not hide the others.
      if (!isFirnError(error)) throw error;
      yield error;
    }
  }
}
