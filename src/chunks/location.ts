/**
 * Where the bytes of a chunk are, and the sorted table of such locations: the one binary format that shards, packed thin
 * chunks and the index parts of receipts share. A table is searched as it lies, without parsing.
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
      if (i > 0 && table.#hashBytes(i - 1).compare(table.#hashBytes(i)) >= 0)
        throw damaged('its entries are not sorted');
      if (bytes.readUInt8(table.#at(i) + 92) > 1 || bytes.readUInt8(table.#at(i) + 93) >= tiers.length) {
        throw damaged('an entry makes no sense');
      }
    }
    return table;
  }

  static #writeHeader(bytes: Buffer, count: number): void {
    magic.copy(bytes, 0);
    bytes.writeUInt32LE(TABLE_VERSION, 4);
    bytes.writeUInt32LE(count, 8);
  }

  #at(i: number): number {
    return TABLE_HEADER_BYTES + i * LOCATION_BYTES;
  }

  #hashBytes(i: number): Buffer {
    return this.bytes.subarray(this.#at(i), this.#at(i) + HASH_BYTES);
  }

  /** The first entry whose hash is not below. */
  #lowerBound(hash: Buffer): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#hashBytes(middle).compare(hash) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
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

  find(hash: Hash): ChunkLocation | undefined {
    const wanted = Buffer.from(hash, 'hex');
    const i = this.#lowerBound(wanted);
    return i < this.count && this.#hashBytes(i).equals(wanted) ? this.location(i) : undefined;
  }

  *locations(): Generator<ChunkLocation> {
    for (let i = 0; i < this.count; i += 1) yield this.location(i);
  }

  /** The locations whose hash begins with these hex digits. */
  *locationsUnder(prefix: string): Generator<ChunkLocation> {
    for (let i = this.#lowerBound(Buffer.from(prefix.padEnd(64, '0'), 'hex')); i < this.count; i += 1) {
      const location = this.location(i);
      if (!location.hash.startsWith(prefix)) return;
      yield location;
    }
  }
}
