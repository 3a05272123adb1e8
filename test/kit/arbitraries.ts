/** Generators of test data that several suites share. */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import type { ChunkLocation } from '../../src/chunks/location.ts';
import type { Hash } from '../../src/sealing/keys.ts';
import { tiers } from '../../src/storage/blob-store.ts';

/** A hash that depends on the text alone. */
export function hashOf(text: string): Hash {
  return createHash('sha256').update(text).digest('hex');
}

export const anyHash: fc.Arbitrary<Hash> = fc.integer({ min: 0, max: 5_000 }).map((n) => hashOf(String(n)));

export const anyLocation: fc.Arbitrary<ChunkLocation> = fc.record({
  hash: anyHash,
  blob: anyHash,
  kind: fc.constantFrom('large', 'tar'),
  frameOffset: fc.maxSafeNat(),
  frameBytes: fc.maxSafeNat(),
  offsetInFrame: fc.nat(),
  rawBytes: fc.maxSafeNat(),
  tier: fc.constantFrom(...tiers),
});

/** A location of the chunk with this hash; `copy` tells copies apart. */
export function locationOf(hash: Hash, copy = 0): ChunkLocation {
  return {
    hash,
    blob: hashOf(`${hash}${copy}`),
    kind: 'tar',
    frameOffset: copy,
    frameBytes: 100,
    offsetInFrame: 512,
    rawBytes: 10,
    tier: 'Hot',
  };
}
