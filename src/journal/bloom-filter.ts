/**
 * A Bloom filter over record ids: it never denies an id that it was built from, and takes about one of 800 others for its
 * own. Pure: no storage.
 *
 *     offset  bytes  field (little-endian)
 *          0      4  magic «FBLM»
 *          4      2  format version, 1
 *          6      2  probes of an id, k
 *          8      4  ids that it was built from
 *         12      4  bits, m
 *         16  ⌈m/8⌉  the bits; bit i is the bit i mod 8, from the lowest, of byte ⌊i/8⌋
 *         16+⌈m/8⌉ 4 CRC-32 of all before
 *
 * The k bits of an id are (a + i × b + (i³ - i) / 6) mod m for i from 0 to k - 1, where a is the first four bytes of the id
 * and b the next four. Ids are cut from SHA-256, so these are two independent hashes, and that is enough («enhanced double
 * hashing»: Dillinger and Manolios, «Bloom filters in probabilistic verification», 2004). With 14 bits an id, 10 probes are
 * the best; the share of false answers is then (1 - e^(-10/14))^10, 0.12 percent.
 */
import { crc32 } from 'node:zlib';

const FILTER_VERSION = 1;
const BITS_PER_ID = 14;
const PROBES = 10;
const PROBES_MAX = 32;
/** A filter of a few ids is not made so small that they fill it. */
const BITS_MIN = 1024;
const HEAD_BYTES = 16;
const CRC_BYTES = 4;
const magic = Buffer.from('FBLM', 'latin1');

/** @param ids 16 bytes each, as characters. */
export function buildFilter(ids: ReadonlySet<string>): Buffer {
  const bits = Math.max(BITS_MIN, ids.size * BITS_PER_ID);
  const bytes = Buffer.alloc(HEAD_BYTES + Math.ceil(bits / 8) + CRC_BYTES);
  magic.copy(bytes, 0);
  bytes.writeUInt16LE(FILTER_VERSION, 4);
  bytes.writeUInt16LE(PROBES, 6);
  bytes.writeUInt32LE(ids.size, 8);
  bytes.writeUInt32LE(bits, 12);
  const probed = new Uint32Array(PROBES);
  for (const id of ids) {
    for (const bit of bitsInto(probed, id, bits)) {
      const at = HEAD_BYTES + (bit >>> 3);
      bytes[at] = (bytes[at] ?? 0) | (1 << (bit & 7));
    }
  }
  const crcAt = bytes.length - CRC_BYTES;
  bytes.writeUInt32LE(crc32(bytes.subarray(0, crcAt)), crcAt);
  return bytes;
}

export interface BloomFilter {
  /** False only for an id that it was not built from. */
  mayContain(id: string): boolean;
}

/** Undefined when the bytes are damaged, or of a version that this Firn does not know: then anything may be contained. */
export function parseFilter(bytes: Buffer): BloomFilter | undefined {
  if (bytes.length < HEAD_BYTES + CRC_BYTES || !bytes.subarray(0, 4).equals(magic)) return undefined;
  const crcAt = bytes.length - CRC_BYTES;
  if (crc32(bytes.subarray(0, crcAt)) !== bytes.readUInt32LE(crcAt)) return undefined;
  const probes = bytes.readUInt16LE(6);
  const bits = bytes.readUInt32LE(12);
  const known = bytes.readUInt16LE(4) === FILTER_VERSION && probes > 0 && probes <= PROBES_MAX && bits > 0;
  if (!known || crcAt - HEAD_BYTES !== Math.ceil(bits / 8)) return undefined;
  const field = Buffer.from(bytes.subarray(HEAD_BYTES, crcAt));
  const probed = new Uint32Array(probes);
  return {
    mayContain: (id) => bitsInto(probed, id, bits).every((bit) => ((field[bit >>> 3] ?? 0) & (1 << (bit & 7))) !== 0),
  };
}

/** As many bits as there is room for. A seal waits for tens of thousands of these: so nothing is allocated. */
function bitsInto(probed: Uint32Array, id: string, bits: number): Uint32Array {
  let bit = wordOf(id, 0) % bits;
  let step = wordOf(id, 4) % bits;
  for (let i = 0; i < probed.length; i += 1) {
    probed[i] = bit;
    bit = (bit + step) % bits;
    step = (step + i + 1) % bits;
  }
  return probed;
}

function wordOf(id: string, at: number): number {
  const low = id.charCodeAt(at) | (id.charCodeAt(at + 1) << 8) | (id.charCodeAt(at + 2) << 16);
  return (low | (id.charCodeAt(at + 3) << 24)) >>> 0;
}
