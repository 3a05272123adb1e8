import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type KnownTar, KnownTars } from '../../src/index/known-tars.ts';
import { tiers } from '../../src/storage/blob-store.ts';
import { hashOf } from '../kit/arbitraries.ts';

const anyTar: fc.Arbitrary<KnownTar> = fc.record({
  bytes: fc.integer({ min: 0, max: 2 ** 48 - 1 }),
  tier: fc.constantFrom(...tiers),
});

test('tar chunks are known as they were first told of, in whatever order they came', () => {
  const anyTold = fc.array(fc.tuple(fc.nat(40), anyTar), { maxLength: 60 });
  fc.assert(
    fc.property(anyTold, fc.boolean(), (told, sorted) => {
      const known = new KnownTars();
      const model = new Map<string, KnownTar>();
      const named = told.map(([n, tar]) => [hashOf(String(n)), tar] as const);
      if (sorted) named.sort(([a], [b]) => (a < b ? -1 : 1));
      for (const [hash, tar] of named) {
        known.add(hash, tar);
        if (!model.has(hash)) model.set(hash, tar);
      }
      expect(known.count).toBe(model.size);
      for (let n = 0; n <= 40; n += 1) expect(known.get(hashOf(String(n)))).toEqual(model.get(hashOf(String(n))));
    }),
  );
});

test('more tar chunks than fit into one page are found, and none beside them', () => {
  const hashes = Array.from({ length: 10_000 }, (_, n) => hashOf(String(n))).sort();
  const known = new KnownTars();
  for (const [n, hash] of hashes.entries()) known.add(hash, { bytes: n, tier: 'Hot' });
  expect(hashes.every((hash, n) => known.get(hash)?.bytes === n)).toBe(true);
  expect(known.get(hashOf('another'))).toBeUndefined();
});
