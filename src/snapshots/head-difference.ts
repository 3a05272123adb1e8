/**
 * The head that work on a source went on from, against the one that there is. A scan is the difference from the tree of
 * one snapshot, and a plan follows one; when the source has moved on since, both are about the past and are done again
 * from the head that there is. Pure.
 *
 * What was seen of the chunk index goes with them: every scan and every step of a publish is a session of its own
 * (`ChunkIndex`), which lists the shards after its head was read. So what the other publish brought is found, and as
 * shards are cached by their ETags, only those that it changed are read again.
 */
import { FirnError } from '../errors.ts';

export interface HeadDifference {
  /** Id of the snapshot that was the head when the work began; undefined where there was none. */
  readonly known: string | undefined;
  /** Id of the snapshot that is the head. */
  readonly actual: string | undefined;
}

/** What differs between the ids of two heads; undefined when the head is the one that the work went on from. */
export function headDifference(known: string | undefined, actual: string | undefined): HeadDifference | undefined {
  return known === actual ? undefined : { known, actual };
}

const NONE = 'none';

/** The error of work that another publish overtook; it names both heads where they are known to differ. */
export function publishConflict(source: string, difference?: HeadDifference): FirnError {
  if (difference === undefined) return new FirnError('FIRN_PUBLISH_CONFLICT', { source });
  const { known = NONE, actual = NONE } = difference;
  const advice = `This one went on from snapshot ${known}, and the latest is ${actual} now. Nothing is lost; what is left is in the next publish.`;
  return new FirnError('FIRN_PUBLISH_CONFLICT', { source, known, actual }, { advice });
}
