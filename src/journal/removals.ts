/**
 * What a removal takes with it: every upload of its path, or below it, that was recorded before. One rule for who archives a
 * batch, who compacts, and who counts what is live. Pure.
 */

/**
 * When the path, or a folder above it, was last removed; 0 for never.
 * @param removals when each path was last removed: a number that grows with each record, from 1 on.
 */
export function removedAt(removals: ReadonlyMap<string, number>, path: string): number {
  let latest = removals.get(path) ?? 0;
  for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
    latest = Math.max(latest, removals.get(path.slice(0, slash)) ?? 0);
  }
  return latest;
}
