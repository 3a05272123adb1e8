/**
 * The locks of a repository. A lease is exclusive only, so the two that keep repair and publish apart are different
 * locks, and each side looks for the other after it has shown itself: a publish takes the lock of its source and then
 * looks for the marker of a repair; a repair sets its marker and then waits for the publish locks that are held. So one
 * of the two always sees the other.
 */

/** Held by the repair that runs: one at a time. */
export const REPAIR_LOCK = 'repair';

/** What the names of the locks of publishes begin with. */
export const PUBLISH_LOCKS = 'publish-';

/** Held by the publish of a source that runs: one of each source at a time. */
export function publishLock(source: string): string {
  return PUBLISH_LOCKS + source;
}
