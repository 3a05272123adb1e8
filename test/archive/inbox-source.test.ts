import { describe, expect, test } from 'vitest';
import { attributesOf, normalizeTime, resolveRecords } from '../../src/archive/inbox-source.ts';
import { timeOfNanoseconds } from '../../src/filetree/time.ts';
import type { JournalRecord } from '../../src/journal/record.ts';

const upload = (path: string, etag: string, bytes = 1): JournalRecord => ({ kind: 'upload', path, etag, bytes });
const removal = (path: string): JournalRecord => ({ kind: 'removal', path, nonce: 'n' });

describe('resolveRecords', () => {
  test('orders the paths and keeps every announced version of one as a candidate, oldest first', () => {
    expect(resolveRecords([upload('b', '1'), upload('a.txt', '2'), upload('a/x', '3'), upload('b', '4', 9)])).toEqual([
      { path: 'a/x', op: 'put', etags: ['3'], bytes: 1 },
      { path: 'a.txt', op: 'put', etags: ['2'], bytes: 1 },
      { path: 'b', op: 'put', etags: ['1', '4'], bytes: 9 },
    ]);
  });

  test('an upload before a removal of its path or of a folder above it falls away, one after it stays', () => {
    expect(
      resolveRecords([
        upload('a/x', '1'),
        upload('b', '2'),
        removal('a'),
        removal('b'),
        upload('a/y', '3'),
        upload('b', '4'),
      ]),
    ).toEqual([
      { path: 'a', op: 'remove' },
      { path: 'a/y', op: 'put', etags: ['3'], bytes: 1 },
      { path: 'b', op: 'remove' },
      { path: 'b', op: 'put', etags: ['4'], bytes: 1 },
    ]);
  });

  test('a removal of `a` does not touch `a.txt` or `ab`', () => {
    expect(resolveRecords([upload('a.txt', '1'), upload('ab', '2'), removal('a')]).map(({ path }) => path)).toEqual([
      'a',
      'a.txt',
      'ab',
    ]);
  });
});

describe('normalizeTime', () => {
  test.each([
    ['2024-02-29T12:00:00Z', '2024-02-29T12:00:00Z'],
    ['2024-02-29T12:00:00.120000000Z', '2024-02-29T12:00:00.12Z'],
    ['2024-02-29T12:00:00.123456789+02:00', '2024-02-29T10:00:00.123456789Z'],
    ['1969-12-31T23:59:59.5Z', '1969-12-31T23:59:59.5Z'],
    ['yesterday', undefined],
    ['9999-12-31T23:59:59-01:00', undefined],
    ['2024-13-01T00:00:00Z', undefined],
  ])('reads %s as %s', (text, time) => {
    expect(normalizeTime(text)).toBe(time);
  });
});

test.each([
  [0n, '1970-01-01T00:00:00Z'],
  [1_700_000_000_123_456_789n, '2023-11-14T22:13:20.123456789Z'],
  [-500_000_000n, '1969-12-31T23:59:59.5Z'],
  [253_402_300_800_000_000_000n, undefined],
  [-99_999_999_999_000_000_000n, undefined],
])('%i nanoseconds since 1970 are %s', (nanoseconds, time) => {
  expect(timeOfNanoseconds(nanoseconds)).toBe(time);
});

test('attributes come from metadata, and the mtime from the last modification where none is readable', () => {
  const properties = {
    etag: 'e',
    bytes: 0,
    lastModified: new Date('2026-01-02T03:04:05Z'),
    tier: undefined,
    sealed: false,
    leased: false,
  };
  expect(attributesOf({ ...properties, metadata: { mtime: '2020-01-01T00:00:00.5Z', mode: '0644' } })).toEqual({
    mtime: '2020-01-01T00:00:00.5Z',
    mode: 0o644,
  });
  expect(attributesOf({ ...properties, metadata: { mtime: 'nonsense', mode: '999' } })).toEqual({
    mtime: '2026-01-02T03:04:05Z',
    mode: undefined,
  });
  expect(attributesOf({ ...properties, metadata: { mode: '100755' } }).mode).toBe(0o755);
});
