import { expect, test } from 'vitest';
import { encodeManifest, type Manifest, type PartitionEntry, parseManifest } from '../../src/journal/manifest.ts';
import { encodeCheckedJson } from '../../src/storage/json-blob.ts';

function sealed(partition: number, digits: string, over: Partial<PartitionEntry> = {}): PartitionEntry {
  const at = '2026-01-02T03:04:05.678Z';
  const counts = { records: 3, uploadBytes: 10, blobBytes: 300, filterBytes: 148 };
  const blob = `${String(partition).padStart(10, '0')}-${digits}`;
  return { partition, blob, state: 'sealed', created: at, sealedAt: at, lastAt: at, ...counts, ...over };
}

const manifest: Manifest = {
  next: 29,
  partitions: [
    sealed(12, 'a1b2c3d4', { held: true }),
    sealed(13, '00112233', { state: 'retired' }),
    sealed(14, 'deadbeef', { mark: 'leave' }),
    sealed(16, '11223344', { compacted: true }),
    { partition: 28, blob: '0000000028-99aabbcc', state: 'active', created: '2026-01-02T03:04:05.678Z' },
  ],
};
const body = encodeManifest(manifest, '0123456789abcdef');

test('a manifest with any flipped bit is damaged or says the same, and is never of a newer Firn', () => {
  const whole = parseManifest(body, 'm');
  expect(whole).toMatchObject({ manifest, write: '0123456789abcdef' });
  let damaged = 0;
  for (let bit = 0; bit < body.length * 8; bit += 1) {
    const flipped = Buffer.from(body);
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    const parsed = parseManifest(flipped, 'm');
    if (parsed === undefined) damaged += 1;
    else expect(parsed).toEqual(whole);
  }
  expect(damaged).toBeGreaterThan(body.length * 7);
});

test('a manifest of an older Firn has no checksum, and one of a newer Firn has', () => {
  const older = Buffer.from(JSON.stringify({ format: 1, write: '0123456789abcdef', ...manifest }));
  expect(parseManifest(older, 'm')).toEqual(parseManifest(body, 'm'));
  expect(parseManifest(Buffer.from('{"format":2}'), 'm')).toBeUndefined();
  expect(() => parseManifest(encodeCheckedJson({ format: 2 }), 'm')).toThrow(/version 2/);
});
