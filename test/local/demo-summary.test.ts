import { expect, it } from 'vitest';
import { spread } from '../../src/local/demo/change-some.ts';
import { changesOf, type Publish, summaryOf } from '../../src/local/demo/summary.ts';

type Numbers = { files?: number; bytes?: number; newBytes?: number; storedBytes?: number; added?: number };

function snapshot({ files = 0, bytes = 0, newBytes = 0, storedBytes = 0, added = 0 }: Numbers) {
  return {
    id: '0123456789abcdef',
    totals: { files, folders: 0, bytes },
    changes: { added, changed: 0, removed: 0 },
    stored: { newChunks: 0, newBytes, storedBytes },
  };
}

/** The cells of the one row. */
function cells(publish: Publish): string[] {
  return summaryOf([publish]).split('\n')[1]!.split(/ {2,}/);
}

it('shows what came in, and that less what was saved is what is stored', () => {
  const one = snapshot({ files: 2_000, bytes: 4096, newBytes: 3072, storedBytes: 1024 });
  expect(cells({ bytesIn: 4096, snapshots: [one] })).toEqual([
    '01234567',
    '2,000',
    '4.00 KiB',
    '4.00 KiB',
    '1.00 KiB (25 %)',
    '2.00 KiB (50 %)',
    '1.00 KiB',
  ]);
});

it('adds up what several snapshots of one drop stored', () => {
  const parts = [
    snapshot({ newBytes: 1024, storedBytes: 512 }),
    snapshot({ files: 9, newBytes: 1024, storedBytes: 512 }),
  ];
  expect(cells({ bytesIn: 2048, snapshots: parts }).slice(1)).toEqual([
    '9',
    '0 B',
    '2.00 KiB',
    '0 B (0 %)',
    '1.00 KiB (50 %)',
    '1.00 KiB',
  ]);
});

it('shows no part of nothing', () => {
  const cellsOfNothing = cells({ bytesIn: 0, snapshots: [snapshot({ files: 3 })] });
  expect(cellsOfNothing).toEqual(['01234567', '3', '0 B', '0 B', '0 B', '0 B', '0 B']);
});

it('never says that less than nothing was saved', () => {
  const grown = snapshot({ files: 1, bytes: 10, newBytes: 20, storedBytes: 31 });
  expect(cells({ bytesIn: 10, snapshots: [grown] })).toEqual([
    '01234567',
    '1',
    '10 B',
    '10 B',
    '0 B (0 %)',
    '0 B (0 %)',
    '31 B',
  ]);
});

it('leaves out changes that did not happen', () => {
  expect(changesOf([snapshot({ added: 1_500 }), snapshot({ added: 500 })])).toBe('2,000 added');
  expect(changesOf([snapshot({})])).toBe('no files');
});

it.each([
  [0, 5, []],
  [1, 5, [0]],
  [5, 5, [0, 1, 2, 3, 4]],
  [7, 5, [0, 2, 3, 5, 6]],
  [100, 5, [0, 20, 40, 60, 80]],
])('of %i files takes up to %i, spread evenly', (length, count, taken) => {
  expect(
    spread(
      Array.from({ length }, (_, at) => at),
      count,
    ),
  ).toEqual(taken);
});
