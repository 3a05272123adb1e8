/**
 * Where a folder is cut into pages. The rule looks at names and sizes only, so the same entries always give the same
 * pages and the same root hash, whatever changes led to them, and a change touches few pages (a «prolly tree»).
 *
 * Items (at level 0 all entries of one name, above that the page references) are put into a page in order. The bytes of
 * an item are those of its canonical JSON, without the commas between. After an item a page ends when
 *
 *     the page holds at least `max` bytes, or
 *     it holds at least `min` bytes, and u × mean < 2³² × the bytes of the item,
 *
 * except that a branch never ends after its first item, however large that is: levels must shrink. Here
 * u is the first 32 bits (big-endian) of the keyed hash of `page\0<level in decimal>\0<name>`; the name of a page
 * reference is its `last`. Above `min`, pages therefore grow by `mean` bytes on average, however large their items are.
 * The pages of a level are the items of the next; the first level that has a single page has the root.
 *
 * A folder whose root is a leaf of less than `min` bytes, which no rule could have ended, is small: it gets no node, and
 * lies in its entry (see `node.ts`). The bytes of that entry, as an item of the folder above, are those of all of it.
 */
import type { Keys } from '../sealing/keys.ts';

export interface PageLimits {
  readonly min: number;
  readonly mean: number;
  readonly max: number;
}

/** Part of the format. A folder under 128 KiB of JSON (some 400 files) is always small. */
export const pageLimits: PageLimits = { min: 128 * 1024, mean: 192 * 1024, max: 768 * 1024 };

/** Says whether a folder that is one leaf of so many bytes lies in its entry. */
export function isSmall(leafBytes: number, limits: PageLimits): boolean {
  return leafBytes < limits.min;
}

export interface PageState {
  readonly level: number;
  /** In the page so far, the last item included. */
  readonly items: number;
  readonly bytes: number;
}

/** Says whether a page ends after its last item, which has this name and size. */
export type PageRule = (page: PageState, name: string, itemBytes: number) => boolean;

export function pageRule(keys: Keys, limits: PageLimits): PageRule {
  return ({ level, items, bytes }, name, itemBytes) => {
    if (level > 0 && items < 2) return false;
    if (bytes >= limits.max) return true;
    if (bytes < limits.min) return false;
    const u = Number.parseInt(keys.hash(Buffer.from(`page\0${level}\0${name}`)).slice(0, 8), 16);
    return u * limits.mean < itemBytes * 2 ** 32;
  };
}
