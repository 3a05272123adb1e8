/**
 * Merges the changes of several batches, oldest first, into one list in `compareChanges` order, as if the batches had
 * been applied one after another. Pure; holds one change of each batch and the removals above the current path.
 */
import { type Change, compareChanges } from '../filetree/entry.ts';

interface Lane {
  readonly order: number;
  readonly changes: AsyncIterator<Change>;
  next: Change | undefined;
}

/** A removal counts for its path and all below it, against everything from older batches. */
interface Removal {
  readonly path: string;
  readonly order: number;
}

function covers(removal: Removal, path: string): boolean {
  return path === removal.path || path.startsWith(`${removal.path}/`);
}

export async function* mergeChanges(batches: readonly AsyncIterable<Change>[]): AsyncGenerator<Change> {
  const lanes: Lane[] = await Promise.all(
    batches.map(async (batch, order) => {
      const changes = batch[Symbol.asyncIterator]();
      return { order, changes, next: await following(changes) };
    }),
  );
  let removals: Removal[] = [];
  try {
    for (let least = leastOf(lanes); least !== undefined; least = leastOf(lanes)) {
      const group = await takeEqual(lanes, least);
      removals = removals.filter((removal) => covers(removal, least?.path ?? ''));
      const { change, order } = group;
      if (change.op === 'remove') {
        removals.push({ path: change.path, order });
        yield { path: change.path, op: 'remove' };
      } else if (!removals.some((removal) => removal.order > order)) yield change;
    }
  } finally {
    await Promise.all(lanes.map(({ changes }) => changes.return?.()));
  }
}

async function following(changes: AsyncIterator<Change>): Promise<Change | undefined> {
  const { done, value } = await changes.next();
  return done ? undefined : value;
}

function leastOf(lanes: readonly Lane[]): Change | undefined {
  let least: Change | undefined;
  for (const { next } of lanes) {
    if (next && (least === undefined || compareChanges(next, least) < 0)) least = next;
  }
  return least;
}

/** Takes the changes equal to `least` in order (same path, same kind) from all batches; the newest of them stays. */
async function takeEqual(lanes: readonly Lane[], least: Change): Promise<{ change: Change; order: number }> {
  let newest = { change: least, order: -1 };
  for (const lane of lanes) {
    if (lane.next === undefined || compareChanges(lane.next, least) !== 0) continue;
    newest = { change: lane.next, order: lane.order };
    lane.next = await following(lane.changes);
  }
  return newest;
}
