import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LocationTable } from '../../src/chunks/location.ts';
import { mergeFromParent, mergeShard, planShards } from '../../src/index/shard.ts';
import { anyLocation, locationOf } from '../kit/arbitraries.ts';
import { locationsIn } from './index-kit.ts';

describe('mergeShard', () => {
  test('keeps the place of a chunk that is there, adds the others and says how many', () => {
    fc.assert(
      fc.property(fc.array(anyLocation), fc.array(anyLocation), (known, incoming) => {
        const shard = LocationTable.of(known);
        const merged = mergeShard(shard, incoming);
        for (const location of shard.locations()) expect(merged.table.find(location.hash)).toEqual(location);
        const fresh = new Set(incoming.map(({ hash }) => hash).filter((hash) => shard.find(hash) === undefined));
        expect(merged.added).toBe(fresh.size);
        expect(merged.changed).toBe(fresh.size > 0);
        expect(merged.table.count).toBe(shard.count + fresh.size);
      }),
    );
  });
});

test('what comes from a parent wins over what a child has, and says when nothing is to be written', () => {
  const [a, b] = locationsIn('a', 2);
  const child = LocationTable.of([locationOf(a!.hash, 7)]);
  const { table, changed } = mergeFromParent(child, [a!, b!]);
  expect([...table.locations()].map(({ frameOffset }) => frameOffset)).toEqual([0, 0]);
  expect(changed).toBe(true);
  expect(mergeFromParent(table, [a!]).changed).toBe(false);
});

describe('planShards', () => {
  test('gives every location of the root one shard, none over the limit, none empty, none below another', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom('a', 'a3', 'a3c', 'a3c5', 'c'), fc.nat({ max: 500 })), {
          maxLength: 120,
        }),
        fc.integer({ min: 1, max: 20 }),
        (seeds, limit) => {
          const all = LocationTable.of(seeds.flatMap(([prefix, n]) => locationsIn(prefix, 1, String(n))));
          const planned = planShards('a', all, limit);
          const prefixes = [...planned.keys()];
          const listed = [...planned.values()].flatMap((table) => [...table.locations()]);
          expect(listed).toEqual([...all.locationsUnder('a')]);
          for (const [prefix, table] of planned) {
            expect(table.count).toBeGreaterThan(0);
            expect(table.count).toBeLessThanOrEqual(limit);
            expect([...table.locationsUnder(prefix)]).toHaveLength(table.count);
            expect(prefixes.filter((other) => other !== prefix && other.startsWith(prefix))).toEqual([]);
          }
        },
      ),
    );
  });

  test('splits no further than it must', () => {
    const all = LocationTable.of([...locationsIn('a3', 9), ...locationsIn('a4', 2)]);
    expect([...planShards('a', all, 11).keys()]).toEqual(['a']);
    expect([...planShards('a', all, 9).keys()]).toEqual(['a3', 'a4']);
  });
});
