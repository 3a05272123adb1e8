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

/** Few hashes, of which many share their first bytes, so that tables meet. */
const anyCloseLocations = fc.array(
  fc.record({ n: fc.nat(60), close: fc.boolean(), copy: fc.nat(9) }).map(({ n, close, copy }) => {
    const hash = hashOf(String(n));
    return locationOf(close ? `abababab${hash.slice(8)}` : hash, copy);
  }),
  { maxLength: 60 },
);

test('tables are merged as if their locations had been put into one, the earlier table first', () => {
  fc.assert(
    fc.property(fc.array(anyCloseLocations, { maxLength: 7 }), (lists) => {
      const merged = LocationTable.merge(lists.map((locations) => LocationTable.of(locations)));
      expect(merged.bytes.equals(LocationTable.of(lists.flat()).bytes)).toBe(true);
    }),
  );
});

test('a later table takes the place where it is told so, whatever the number of tables', () => {
  fc.assert(
    fc.property(fc.array(anyCloseLocations, { maxLength: 7 }), (lists) => {
      const tables = lists.map((locations) => LocationTable.of(locations));
      const merged = LocationTable.merge(tables, (later, earlier) => later.frameOffset > earlier.frameOffset);
      const best = tables.flatMap((table) => [...table.locations()]).sort((a, b) => b.frameOffset - a.frameOffset);
      expect([...merged.locations()]).toEqual([...LocationTable.of(best).locations()]);
    }),
  );
});

test('of a table without another the chunks of the other are gone, and under a prefix those of other prefixes', () => {
  fc.assert(
    fc.property(anyCloseLocations, anyCloseLocations, fc.integer({ min: 1, max: 64 }), (own, others, digits) => {
      const [table, other] = [LocationTable.of(own), LocationTable.of(others)];
      const left = [...table.locations()].filter(({ hash }) => other.find(hash) === undefined);
      expect([...table.without(other).locations()]).toEqual(left);
      for (const { hash } of [...own, locationOf('f'.repeat(64))]) {
        for (const prefix of [hash.slice(0, digits), hash]) {
          const under = [...table.locations()].filter((location) => location.hash.startsWith(prefix));
          expect([...table.under(prefix).locations()]).toEqual(under);
          expect([...table.locationsUnder(prefix)]).toEqual(under);
        }
      }
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
