import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { buildFilter, parseFilter } from '../../src/journal/bloom-filter.ts';

const anyId = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes).toString('latin1'));
const randomId = () => randomBytes(16).toString('latin1');
const randomIds = (count: number) => new Set(Array.from({ length: count }, randomId));

function withCrc(bytes: Buffer): Buffer {
  bytes.writeUInt32LE(crc32(bytes.subarray(0, -4)), bytes.length - 4);
  return bytes;
}

describe('a Bloom filter', () => {
  it('never denies an id that it was built from', () => {
    fc.assert(
      fc.property(fc.uniqueArray(anyId, { maxLength: 300 }), (ids) => {
        const filter = parseFilter(buildFilter(new Set(ids)));
        for (const id of ids) expect(filter?.mayContain(id)).toBe(true);
      }),
      { numRuns: 200 },
    );
    const ids = randomIds(40_000);
    const filter = parseFilter(buildFilter(ids))!;
    let denied = 0;
    for (const id of ids) if (!filter.mayContain(id)) denied += 1;
    expect(denied).toBe(0);
  });

  it.each([1, 10, 74, 100, 1000, 40_000])('of %i ids takes fewer than 0.5 percent of others for its own', (count) => {
    const filter = parseFilter(buildFilter(randomIds(count)))!;
    let wrong = 0;
    for (let asked = 0; asked < 20_000; asked += 1) if (filter.mayContain(randomId())) wrong += 1;
    expect(wrong).toBeLessThan(0.005 * 20_000);
  });

  it('of no ids contains nothing', () => {
    expect(parseFilter(buildFilter(new Set()))?.mayContain(randomId())).toBe(false);
  });

  it('has exactly the bytes that the format describes', () => {
    const bytes = buildFilter(new Set(['\x05\x00\x00\x00\x02\x00\x00\x00the rest']));
    expect(bytes).toHaveLength(16 + 128 + 4);
    expect(bytes.toString('hex', 0, 16)).toBe('46424c4d01000a000100000000040000');
    const set = Array.from({ length: 1024 }, (_, bit) => bit).filter(
      (bit) => (bytes[16 + (bit >> 3)]! >> (bit & 7)) & 1,
    );
    // 5 + 2i + (i³ - i) / 6
    expect(set).toEqual([5, 7, 10, 15, 23, 35, 52, 75, 105, 143]);
    expect(bytes.readUInt32LE(144)).toBe(crc32(bytes.subarray(0, 144)));
  });

  it('is not used when any bit of it is damaged, when it is cut, or of another version', () => {
    const bytes = buildFilter(randomIds(5));
    expect(parseFilter(bytes)).toBeDefined();
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(parseFilter(flipped)).toBeUndefined();
    }
    for (let end = 0; end < bytes.length; end += 1) expect(parseFilter(bytes.subarray(0, end))).toBeUndefined();
    const newer = Buffer.from(bytes);
    newer.writeUInt16LE(2, 4);
    expect(parseFilter(withCrc(newer))).toBeUndefined();
    for (const [at, value] of [
      [6, 0],
      [6, 33],
      [12, 0],
      [12, 9],
    ] as const) {
      const senseless = Buffer.from(bytes);
      senseless.writeUInt16LE(value, at);
      expect(parseFilter(withCrc(senseless))).toBeUndefined();
    }
  });
});
