/**
 * What the layout of the chunk index comes to for a number of chunks: shards, requests, bytes, money. Pure; the benchmark
 * and the test of its small version hold what they measure against it, and docs/scale.md carries it further.
 *
 * Hashes are uniform, so the entries under a prefix of d digits are Poisson distributed with the mean N / 16^d, and a
 * shard is where the entries under a prefix are no more than the threshold and those of the prefix above it are more.
 */
import { LOCATION_BYTES } from '../../src/chunks/location.ts';
import { KNOWN_TAR_BYTES } from '../../src/index/known-tars.ts';
import { LOCATIONS_MAX } from '../../src/index/repair.ts';
import { allRoots, PREFIX_DIGITS_MIN } from '../../src/index/root-view.ts';
import { LISTED_AT_ONCE_MAX } from '../../src/index/session-views.ts';
import { SHARD_ENTRIES_MAX } from '../../src/index/shard.ts';
import { LIST_PAGE_ITEMS, type Traffic } from '../kit/counted-store.ts';

const ROOTS = allRoots.length;

/** A table has a header of 16 bytes, its one frame a header of 52 and a tag of 16. */
export const SHARD_OVERHEAD_BYTES = 84;

/** P(X ≤ k) for a Poisson variable. */
export function poissonAtMost(k: number, mean: number): number {
  let logTerm = -mean;
  let total = Math.exp(logTerm);
  for (let i = 1; i <= k; i += 1) {
    logTerm += Math.log(mean / i);
    total += Math.exp(logTerm);
  }
  return Math.min(1, total);
}

export interface ShardLevel {
  /** Hex digits of the prefix. */
  readonly digits: number;
  readonly shards: number;
}

/** The shards to expect, by the length of their prefixes. */
export function shardLevels(chunks: number, entriesMax = SHARD_ENTRIES_MAX): ShardLevel[] {
  const levels: ShardLevel[] = [];
  let aboveIsShard = 0;
  for (let digits = PREFIX_DIGITS_MIN; aboveIsShard < 1 - 1e-9; digits += 1) {
    const isShard = poissonAtMost(entriesMax, chunks / 16 ** digits);
    const notEmpty = 1 - Math.exp(-chunks / 16 ** digits);
    const shards = 16 ** digits * (isShard - aboveIsShard) * notEmpty;
    if (shards >= 0.5) levels.push({ digits, shards });
    aboveIsShard = isShard;
  }
  return levels;
}

export function shardsOf(levels: readonly ShardLevel[]): number {
  return levels.reduce((total, { shards }) => total + shards, 0);
}

/** Different shards that some random hashes fall into. */
export function shardsTouched(levels: readonly ShardLevel[], hashes: number): number {
  return levels.reduce((total, { digits, shards }) => total + shards * (1 - (1 - 16 ** -digits) ** hashes), 0);
}

/** Most bytes that shards with so many entries in all can take on storage. */
export function storedBytesMax(shards: number, entries: number): number {
  return shards * SHARD_OVERHEAD_BYTES + entries * LOCATION_BYTES;
}

export function pagesOf(items: number): number {
  return Math.max(1, Math.ceil(items / LIST_PAGE_ITEMS));
}

/** Listed at once by a session while there are no more; else root by root, after a listing that was given up. */
export function sessionListPages(shards: number, roots = ROOTS): number {
  if (shards <= LISTED_AT_ONCE_MAX) return 1;
  return pagesOf(LISTED_AT_ONCE_MAX + 1) + roots * pagesOf(shards / ROOTS);
}

/** What a repair reads of a repository: chunk blobs under `chunks/`, tar chunks among them, each with packed pointers. */
export interface ChunkBlobs {
  readonly blobs: number;
  readonly tars: number;
}

export interface RepairCost {
  readonly passes: number;
  readonly lists: number;
  /** Packed pointers, in each pass. */
  readonly reads: number;
  readonly writes: number;
  /** Locations and tar chunks; other things in memory do not grow with the repository. */
  readonly heldBytes: number;
}

/** A repair from nothing. */
export function repairCost(chunks: number, { blobs, tars }: ChunkBlobs, entriesMax = SHARD_ENTRIES_MAX): RepairCost {
  const shards = shardsOf(shardLevels(chunks, entriesMax));
  const rootsAtOnce = Math.max(1, Math.min(ROOTS, Math.floor((ROOTS * LOCATIONS_MAX) / chunks)));
  const passes = Math.ceil(ROOTS / rootsAtOnce);
  // The first pass lists all of `chunks/` at once, the others the roots that are left, one by one.
  let lists = pagesOf(blobs) + passes * pagesOf(tars);
  for (let pass = 1; pass < passes; pass += 1) lists += (ROOTS - pass * rootsAtOnce) * pagesOf(blobs / ROOTS);
  // Each root before it is written and after it, and once all of them.
  lists += 2 * ROOTS * pagesOf(shards / ROOTS) + pagesOf(shards);
  const held = Math.max(Math.min(chunks, LOCATIONS_MAX), chunks / ROOTS);
  return {
    passes,
    lists,
    reads: passes * tars,
    writes: shards,
    heldBytes: held * LOCATION_BYTES + tars * KNOWN_TAR_BYTES,
  };
}

/**
 * US dollars for 10,000 requests, as docs/deploy.md assumes them; a page of a listing costs as much as a write, deleting
 * nothing. Pointers lie in the Cool tier, where a read costs more, and each GiB that is read too.
 */
export const prices = { write: 0.0813, list: 0.0813, read: 0.005, coolRead: 0.013, coolGiB: 0.01 } as const;

export function dollarsOf({ lists, reads, writes, others }: Traffic): number {
  return (lists * prices.list + writes * prices.write + (reads + others) * prices.read) / 10_000;
}
