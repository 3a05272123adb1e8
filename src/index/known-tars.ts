/**
 * The tar chunks that a listing told of, packed: a large repository has millions, and repair knows them all. As a listing
 * comes in ascending order they are kept as they come, and searched; what comes late goes into a small table beside.
 */
import { HASH_BYTES, type Hash } from '../sealing/keys.ts';
import { type Tier, tiers } from '../storage/blob-store.ts';

/** What is known of a tar chunk that exists. */
export interface KnownTar {
  readonly bytes: number;
  readonly tier: Tier;
}

/** 32 bytes of hash, 6 of length, 1 of tier. */
export const KNOWN_TAR_BYTES = 39;
const TARS_PER_PAGE = 4_096;

export class KnownTars {
  readonly #pages: Buffer[] = [];
  #count = 0;
  readonly #late = new Map<Hash, KnownTar>();

  get count(): number {
    return this.#count + this.#late.size;
  }

  /** One that is known already stays as it is. */
  add(hash: Hash, tar: KnownTar): void {
    const name = Buffer.from(hash, 'hex');
    if (this.#count > 0 && this.#compare(this.#count - 1, name) >= 0) {
      if (this.get(hash) === undefined) this.#late.set(hash, tar);
      return;
    }
    const at = (this.#count % TARS_PER_PAGE) * KNOWN_TAR_BYTES;
    if (at === 0) this.#pages.push(Buffer.alloc(TARS_PER_PAGE * KNOWN_TAR_BYTES));
    const page = this.#pages.at(-1);
    if (page === undefined) return;
    name.copy(page, at);
    page.writeUIntLE(tar.bytes, at + HASH_BYTES, 6);
    page.writeUInt8(tiers.indexOf(tar.tier), at + HASH_BYTES + 6);
    this.#count += 1;
  }

  get(hash: Hash): KnownTar | undefined {
    const name = Buffer.from(hash, 'hex');
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#compare(middle, name) < 0) low = middle + 1;
      else high = middle;
    }
    if (low === this.#count || this.#compare(low, name) !== 0) return this.#late.get(hash);
    const [page, at] = this.#place(low);
    return {
      bytes: page.readUIntLE(at + HASH_BYTES, 6),
      tier: tiers[page.readUInt8(at + HASH_BYTES + 6)] ?? 'Hot',
    };
  }

  #place(i: number): [page: Buffer, at: number] {
    const page = this.#pages[Math.floor(i / TARS_PER_PAGE)] ?? Buffer.alloc(0);
    return [page, (i % TARS_PER_PAGE) * KNOWN_TAR_BYTES];
  }

  #compare(i: number, name: Buffer): number {
    const [page, at] = this.#place(i);
    return page.compare(name, 0, HASH_BYTES, at, at + HASH_BYTES);
  }
}
