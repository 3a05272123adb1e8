import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LOCATION_BYTES, LocationTable } from '../../src/chunks/location.ts';
import { anyLocation, hashOf, locationOf } from '../kit/arbitraries.ts';

const anyLocations = fc.array(anyLocation, { maxLength: 60 });

test('a table gives back every location that it was made of, and no other', () => {
  fc.assert(
    fc.property(anyLocations, (locations) => {
      const made = LocationTable.of(locations);
      const table = LocationTable.from('t', Buffer.from(made.bytes));
      const first = new Map(locations.toReversed().map((location) => [location.hash, location]));
      expect(table.count).toBe(first.size);
      for (const [hash, location] of first) expect(table.find(hash)).toEqual(location);
      for (let n = 6_000; n < 6_010; n += 1) expect(table.find(hashOf(String(n)))).toBeUndefined();
    }),
  );
});

test('a table lists its locations in ascending order, as a whole and under a prefix', () => {
  fc.assert(
    fc.property(anyLocations, fc.integer({ min: 0, max: 255 }), (locations, root) => {
      const table = LocationTable.of(locations);
      const all = [...table.locations()].map(({ hash }) => hash);
      expect(all).toEqual([...new Set(locations.map(({ hash }) => hash))].sort());
      const prefix = root.toString(16).padStart(2, '0');
      const under = [...table.locationsUnder(prefix)].map(({ hash }) => hash);
      expect(under).toEqual(all.filter((hash) => hash.startsWith(prefix)));
    }),
  );
});

test('bytes that are no table, or an unsorted, cut or newer one, are refused with a code', () => {
  const { bytes } = LocationTable.of([locationOf(hashOf('a')), locationOf(hashOf('b'))]);
  const code = (change: (table: Buffer) => Buffer) => {
    try {
      LocationTable.from('t', change(Buffer.from(bytes)));
      return 'accepted';
    } catch (error) {
      return (error as { code?: string }).code;
    }
  };
  expect(code((table) => table)).toBe('accepted');
  expect(code((table) => table.subarray(0, 10))).toBe('FIRN_BLOB_DAMAGED');
  expect(code((table) => table.subarray(0, -1))).toBe('FIRN_BLOB_DAMAGED');
  expect(code((table) => table.fill('x', 0, 4))).toBe('FIRN_BLOB_DAMAGED');
  expect(
    code((table) =>
      Buffer.concat([
        table.subarray(0, 16),
        table.subarray(16 + LOCATION_BYTES),
        table.subarray(16, 16 + LOCATION_BYTES),
      ]),
    ),
  ).toBe('FIRN_BLOB_DAMAGED');
  expect(code((table) => table.fill(2, 4, 5))).toBe('FIRN_REPOSITORY_NEWER');
  expect(code((table) => table.fill(9, 16 + 92, 16 + 93))).toBe('FIRN_BLOB_DAMAGED');
});
