/**
 * Which shards of one root there are, as one listing told and own writes continued it. Pure.
 *
 * The layout of a root is the set of its shard blobs. A hash may have several shards on its path (an interrupted split,
 * or a parent that a writer with an old view created again); then the shallowest comes first, and the others follow.
 */
import { HASH_BYTES, type Hash } from '../sealing/keys.ts';

/** Hex digits of the shortest shard prefix: 16 roots. */
export const PREFIX_DIGITS_MIN = 1;
const PREFIX_DIGITS_MAX = 2 * HASH_BYTES;

const prefixPattern = new RegExp(`^[0-9a-f]{${PREFIX_DIGITS_MIN},${PREFIX_DIGITS_MAX}}$`);
export const hexDigits = [...'0123456789abcdef'];

/** All roots, ascending. */
export const allRoots: readonly string[] = Array.from({ length: 16 ** PREFIX_DIGITS_MIN }, (_, number) =>
  number.toString(16).padStart(PREFIX_DIGITS_MIN, '0'),
);

/** Blobs under `chunk-index/` with other names are not Firn's. */
export function isShardPrefix(text: string): boolean {
  return prefixPattern.test(text);
}

export function rootOf(hashOrPrefix: string): string {
  return hashOrPrefix.slice(0, PREFIX_DIGITS_MIN);
}

/** The place of that root among all roots. */
export function rootNumberOf(hashOrPrefix: string): number {
  return Number.parseInt(rootOf(hashOrPrefix), 16);
}

export interface ListedShard {
  readonly etag: string;
  readonly storedBytes: number;
}

export class RootView {
  readonly #shards = new Map<string, ListedShard>();
  /** Prefixes that have shards below them, and how many. */
  readonly #below = new Map<string, number>();

  get size(): number {
    return this.#shards.size;
  }

  get(prefix: string): ListedShard | undefined {
    return this.#shards.get(prefix);
  }

  set(prefix: string, shard: ListedShard): void {
    if (!this.#shards.has(prefix)) this.#count(prefix, 1);
    this.#shards.set(prefix, shard);
  }

  delete(prefix: string): void {
    if (this.#shards.delete(prefix)) this.#count(prefix, -1);
  }

  shards(): IterableIterator<[prefix: string, shard: ListedShard]> {
    return this.#shards.entries();
  }

  hasBelow(prefix: string): boolean {
    return this.#below.has(prefix);
  }

  /**
   * The shard that a new location belongs in: the shallowest there is on the path of its hash. Where there is none, the
   * shard to create: the shallowest that has no other below it, which is the depth that its siblings have.
   * @param digits the shortest prefix that counts; longer than a root's when a parent is pushed down into what is below.
   */
  placeOf(hash: Hash, digits: number = PREFIX_DIGITS_MIN): string {
    let prefix = hash.slice(0, digits);
    while (!this.#shards.has(prefix) && this.#below.has(prefix)) prefix = hash.slice(0, prefix.length + 1);
    return prefix;
  }

  /** Shards that have others below them, the shallowest first. */
  overlapping(): string[] {
    return [...this.#below.keys()].filter((prefix) => this.#shards.has(prefix)).sort((a, b) => a.length - b.length);
  }

  #count(prefix: string, change: number): void {
    for (let digits = PREFIX_DIGITS_MIN; digits < prefix.length; digits += 1) {
      const above = prefix.slice(0, digits);
      const count = (this.#below.get(above) ?? 0) + change;
      if (count === 0) this.#below.delete(above);
      else this.#below.set(above, count);
    }
  }
}
