/**
 * Where the bytes of a chunk are, and the sorted table of such locations: the one binary format that shards, packed thin
 * chunks and the index parts of receipts share. A table is searched, cut and merged as it lies, without parsing.
 *
 *     table:  offset  bytes  field (little-endian)
 *                  0      4  magic «FTAB»
 *                  4      4  format version, 1
 *                  8      4  number of entries
 *                 12      4  0
 *                 16   96×n  entries, ascending by chunk hash, each hash once
 *
 *     entry:  offset  bytes  field
 *                  0     32  chunk hash
 *                 32     32  name of the chunk blob
 *                 64      8  frame offset: where in the blob the frame begins
 *                 72      8  frame bytes: sealed bytes to read from there (the whole blob for a large chunk)
 *                 80      8  raw bytes of the chunk
 *                 88      4  offset of the chunk in the raw bytes of the frame
 *                 92      1  kind: 0 large, 1 tar
 *                 93      1  tier it was written to: 0 Hot, 1 Cool, 2 Cold, 3 Archive
 *                 94      2  0
 */
import { FirnError } from '../errors.ts';
import { HASH_BYTES, type Hash } from '../sealing/keys.ts';
import { type Tier, tiers } from '../storage/blob-store.ts';

export type ChunkBlobKind = 'large' | 'tar';

export interface ChunkLocation {
  readonly hash: Hash;
  /** The chunk blob is `chunks/<blob>`; the chunk's own hash for a large chunk, the tar hash for a bundled one. */
  readonly blob: Hash;
  readonly kind: ChunkBlobKind;
  readonly frameOffset: number;
  readonly frameBytes: number;
  readonly offsetInFrame: number;
  readonly rawBytes: number;
  readonly tier: Tier;
}

export const LOCATION_BYTES = 96;
const TABLE_HEADER_BYTES = 16;
const TABLE_VERSION = 1;
/** Of a number of 8 bytes that JavaScript holds exactly: below 2^53. */
const HIGH_WORD_MAX = 2 ** 21 - 1;
const magic = Buffer.from('FTAB', 'latin1');

function writeLocation(table: Buffer, at: number, location: ChunkLocation): void {
  table.write(location.hash, at, HASH_BYTES, 'hex');
  table.write(location.blob, at + 32, HASH_BYTES, 'hex');
  table.writeBigUInt64LE(BigInt(location.frameOffset), at + 64);
  table.writeBigUInt64LE(BigInt(location.frameBytes), at + 72);
  table.writeBigUInt64LE(BigInt(location.rawBytes), at + 80);
  table.writeUInt32LE(location.offsetInFrame, at + 88);
  table.writeUInt8(location.kind === 'tar' ? 1 : 0, at + 92);
  table.writeUInt8(tiers.indexOf(location.tier), at + 93);
  table.writeUInt16LE(0, at + 94);
}

export class LocationTable {
  readonly bytes: Buffer;
  readonly count: number;

  private constructor(bytes: Buffer, count: number) {
    this.bytes = bytes;
    this.count = count;
  }

  /** Sorts the locations; of two with the same hash the first stays. */
  static of(locations: Iterable<ChunkLocation>): LocationTable {
    const byHash = new Map<Hash, ChunkLocation>();
    for (const location of locations) if (!byHash.has(location.hash)) byHash.set(location.hash, location);
    const sorted = [...byHash.values()].sort((a, b) => (a.hash < b.hash ? -1 : 1));
    const bytes = Buffer.alloc(TABLE_HEADER_BYTES + sorted.length * LOCATION_BYTES);
    LocationTable.#writeHeader(bytes, sorted.length);
    sorted.forEach((location, i) => {
      writeLocation(bytes, TABLE_HEADER_BYTES + i * LOCATION_BYTES, location);
    });
    return new LocationTable(bytes, sorted.length);
  }

  /**
   * All locations of some tables. Of two of a chunk, the one of the earlier table stays, unless `replaces` says that the
   * later one takes its place. Works on the bytes: what the tables do not share is copied in runs.
   */
  static merge(
    tables: readonly LocationTable[],
    replaces: (later: ChunkLocation, earlier: ChunkLocation) => boolean = () => false,
  ): LocationTable {
    const [first, second] = tables;
    if (first === undefined) return LocationTable.of([]);
    if (second === undefined) return first;
    if (tables.length === 2) return first.#mergeWith(second, replaces);
    const half = tables.length >>> 1;
    const [low, high] = [tables.slice(0, half), tables.slice(half)];
    return LocationTable.merge([LocationTable.merge(low, replaces), LocationTable.merge(high, replaces)], replaces);
  }

  /**
   * Takes bytes as read from a blob.
   * @throws FIRN_BLOB_DAMAGED when they are no table or its hashes do not ascend; FIRN_REPOSITORY_NEWER.
   */
  static from(blob: string, bytes: Buffer): LocationTable {
    const damaged = (problem: string) => new FirnError('FIRN_BLOB_DAMAGED', { blob, problem });
    if (bytes.length < TABLE_HEADER_BYTES || !bytes.subarray(0, 4).equals(magic)) {
      throw damaged('it does not begin as a table of chunk locations');
    }
    const version = bytes.readUInt32LE(4);
    if (version > TABLE_VERSION) {
      throw new FirnError('FIRN_REPOSITORY_NEWER', { what: `blob ${blob}`, version, supported: TABLE_VERSION });
    }
    const count = bytes.readUInt32LE(8);
    if (version < 1 || bytes.length !== TABLE_HEADER_BYTES + count * LOCATION_BYTES) {
      throw damaged('its length does not fit the number of its entries');
    }
    const table = new LocationTable(bytes, count);
    for (let i = 0; i < count; i += 1) {
      if (i > 0 && table.#compare(i - 1, table, i) >= 0) throw damaged('its entries are not sorted');
      if (!table.#makesSense(i)) throw damaged('an entry makes no sense');
    }
    return table;
  }

  /** Its kind and tier are known, and its numbers are none that only damage can make so large. */
  #makesSense(i: number): boolean {
    const at = this.#at(i);
    const { bytes } = this;
    return (
      bytes.readUInt8(at + 92) <= 1 &&
      bytes.readUInt8(at + 93) < tiers.length &&
      bytes.readUInt32LE(at + 68) <= HIGH_WORD_MAX &&
      bytes.readUInt32LE(at + 76) <= HIGH_WORD_MAX &&
      bytes.readUInt32LE(at + 84) <= HIGH_WORD_MAX
    );
  }

  static #writeHeader(bytes: Buffer, count: number): void {
    magic.copy(bytes, 0);
    bytes.writeUInt32LE(TABLE_VERSION, 4);
    bytes.writeUInt32LE(count, 8);
  }

  #at(i: number): number {
    return TABLE_HEADER_BYTES + i * LOCATION_BYTES;
  }

  /** Compares the hash of an entry with that of an entry of another table. */
  #compare(i: number, other: LocationTable, j: number): number {
    const at = this.#at(i);
    const otherAt = other.#at(j);
    // Hashes seldom share their first bytes, and a call into the runtime costs more than reading them here.
    const difference = this.bytes.readUInt32BE(at) - other.bytes.readUInt32BE(otherAt);
    if (difference !== 0) return difference;
    return this.bytes.compare(other.bytes, otherAt, otherAt + HASH_BYTES, at, at + HASH_BYTES);
  }

  /** The first entry whose hash is not below. */
  #lowerBound(hash: Buffer): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const at = this.#at(middle);
      if (this.bytes.compare(hash, 0, HASH_BYTES, at, at + HASH_BYTES) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The first entry from `from` on whose hash is not below that of an entry of another table; quick where it is near. */
  #skipBelow(from: number, other: LocationTable, j: number): number {
    let low = from;
    let step = 1;
    while (low + step <= this.count && this.#compare(low + step - 1, other, j) < 0) {
      low += step;
      step *= 2;
    }
    let high = Math.min(low + step - 1, this.count);
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#compare(middle, other, j) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** A table of copied entries; `fill` is given a function that appends some of a table. */
  static #ofRuns(countMax: number, fill: (append: (table: LocationTable, from: number, to: number) => void) => void) {
    const bytes = Buffer.alloc(TABLE_HEADER_BYTES + countMax * LOCATION_BYTES);
    let end = TABLE_HEADER_BYTES;
    fill((table, from, to) => {
      end += table.bytes.copy(bytes, end, table.#at(from), table.#at(to));
    });
    return LocationTable.#cut(bytes, end);
  }

  /** The table whose entries end there; what is behind is not kept. */
  static #cut(bytes: Buffer, end: number): LocationTable {
    const count = (end - TABLE_HEADER_BYTES) / LOCATION_BYTES;
    LocationTable.#writeHeader(bytes, count);
    return new LocationTable(end === bytes.length ? bytes : Buffer.from(bytes.subarray(0, end)), count);
  }

  #mergeWith(later: LocationTable, replaces: (later: ChunkLocation, earlier: ChunkLocation) => boolean): LocationTable {
    if (later.count === 0) return this;
    if (this.count === 0) return later;
    return LocationTable.#ofRuns(this.count + later.count, (append) => {
      let i = 0;
      let j = 0;
      while (i < this.count && j < later.count) {
        const own = this.#skipBelow(i, later, j);
        append(this, i, own);
        i = own;
        if (i < this.count && this.#compare(i, later, j) === 0) {
          if (replaces(later.location(j), this.location(i))) append(later, j, j + 1);
          else append(this, i, i + 1);
          i += 1;
          j += 1;
        } else if (i < this.count) {
          const others = later.#skipBelow(j, this, i);
          append(later, j, others);
          j = others;
        }
      }
      append(this, i, this.count);
      append(later, j, later.count);
    });
  }

  /** The locations of the chunks that the other table has none of. */
  without(other: LocationTable): LocationTable {
    return LocationTable.#ofRuns(this.count, (append) => {
      let i = 0;
      let j = 0;
      while (i < this.count && j < other.count) {
        const own = this.#skipBelow(i, other, j);
        append(this, i, own);
        i = own;
        if (i < this.count) j = other.#skipBelow(j, this, i);
        if (i < this.count && j < other.count && this.#compare(i, other, j) === 0) i += 1;
      }
      append(this, i, this.count);
    });
  }

  /** What becomes of each location, which keeps its hash; those that become undefined are left out. Few are objects at once. */
  map(change: (location: ChunkLocation) => ChunkLocation | undefined): LocationTable {
    const bytes = Buffer.alloc(this.bytes.length);
    let end = TABLE_HEADER_BYTES;
    for (const location of this.locations()) {
      const changed = change(location);
      if (changed === undefined) continue;
      writeLocation(bytes, end, changed);
      end += LOCATION_BYTES;
    }
    return LocationTable.#cut(bytes, end);
  }

  location(i: number): ChunkLocation {
    const at = this.#at(i);
    const { bytes } = this;
    return {
      hash: bytes.toString('hex', at, at + 32),
      blob: bytes.toString('hex', at + 32, at + 64),
      kind: bytes.readUInt8(at + 92) === 1 ? 'tar' : 'large',
      frameOffset: Number(bytes.readBigUInt64LE(at + 64)),
      frameBytes: Number(bytes.readBigUInt64LE(at + 72)),
      offsetInFrame: bytes.readUInt32LE(at + 88),
      rawBytes: Number(bytes.readBigUInt64LE(at + 80)),
      tier: tiers[bytes.readUInt8(at + 93)] ?? 'Hot',
    };
  }

  /** All chunks are bundled, and into this tar chunk. */
  isAllInTar(tarHash: Hash): boolean {
    const blob = Buffer.from(tarHash, 'hex');
    for (let i = 0; i < this.count; i += 1) {
      const at = this.#at(i);
      if (this.bytes.readUInt8(at + 92) !== 1) return false;
      if (this.bytes.compare(blob, 0, HASH_BYTES, at + HASH_BYTES, at + 2 * HASH_BYTES) !== 0) return false;
    }
    return true;
  }

  find(hash: Hash): ChunkLocation | undefined {
    const wanted = Buffer.from(hash, 'hex');
    const i = this.#lowerBound(wanted);
    const at = this.#at(i);
    const found = i < this.count && this.bytes.compare(wanted, 0, HASH_BYTES, at, at + HASH_BYTES) === 0;
    return found ? this.location(i) : undefined;
  }

  *locations(): Generator<ChunkLocation> {
    for (let i = 0; i < this.count; i += 1) yield this.location(i);
  }

  /** The locations whose hash begins with these hex digits. */
  *locationsUnder(prefix: string): Generator<ChunkLocation> {
    const [from, to] = this.#rangeUnder(prefix);
    for (let i = from; i < to; i += 1) yield this.location(i);
  }

  /** The same as a table. */
  under(prefix: string): LocationTable {
    const [from, to] = this.#rangeUnder(prefix);
    if (from === 0 && to === this.count) return this;
    return LocationTable.#ofRuns(to - from, (append) => append(this, from, to));
  }

  countUnder(prefix: string): number {
    const [from, to] = this.#rangeUnder(prefix);
    return to - from;
  }

  #rangeUnder(prefix: string): [from: number, to: number] {
    const digits = 2 * HASH_BYTES;
    const from = this.#lowerBound(Buffer.from(prefix.padEnd(digits, '0'), 'hex'));
    let to = this.#lowerBound(Buffer.from(prefix.padEnd(digits, 'f'), 'hex'));
    if (to < this.count && this.location(to).hash.startsWith(prefix)) to += 1;
    return [from, to];
  }
}
