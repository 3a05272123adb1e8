import { describe, expect, test } from 'vitest';
import { ChunkIndex } from '../../src/index/chunk-index.ts';
import { isPublishDue } from '../../src/publish/due.ts';
import { groupRoots, prefixesOf, selectReceipts, wholeIndex } from '../../src/publish/plan.ts';
import { numberSettings } from '../../src/settings.ts';

const inbox = (batch: string) => ({ batch, kind: 'inbox' as const, base: undefined });
const scan = (batch: string, base: string | undefined) => ({ batch, kind: 'scan' as const, base });

describe('selectReceipts', () => {
  test('takes the batches of the inbox in their order, whatever the order of the receipts', () => {
    const selection = selectReceipts({ head: 'h', batches: ['1', '2', '3'], receipts: ['3', '1', '2'].map(inbox) }, 64);
    expect(selection).toEqual({ batches: ['1', '2', '3'], stale: [] });
  });

  test('stops before a batch that has no receipt yet: a later one may hold a newer version of the same path', () => {
    const selection = selectReceipts({ head: 'h', batches: ['1', '2', '3'], receipts: [inbox('1'), inbox('3')] }, 64);
    expect(selection.batches).toEqual(['1']);
  });

  test('takes no more than the limit', () => {
    const selection = selectReceipts({ head: 'h', batches: ['1', '2', '3'], receipts: ['1', '2', '3'].map(inbox) }, 2);
    expect(selection.batches).toEqual(['1', '2']);
  });

  test('publishes a scan alone and on its own base, and calls scans of any other base stale', () => {
    const receipts = [inbox('1'), scan('s2', 'old'), scan('s3', 'h'), scan('s4', 'h'), scan('s5', undefined)];
    expect(selectReceipts({ head: 'h', batches: ['1'], receipts }, 64)).toEqual({
      batches: ['s3'],
      stale: ['s2', 's5', 's4'],
    });
  });

  test('takes the first scan of a source that has no snapshot', () => {
    const receipts = [scan('s1', undefined)];
    expect(selectReceipts({ head: undefined, batches: [], receipts }, 64)).toEqual({ batches: ['s1'], stale: [] });
  });

  test('a receipt whose batch is not in the journal any more came too late and is stale', () => {
    const selection = selectReceipts({ head: 'h', batches: ['2'], receipts: [inbox('1'), inbox('2')] }, 64);
    expect(selection).toEqual({ batches: ['2'], stale: ['1'] });
  });
});

describe('groupRoots', () => {
  test.each([1, 2, 7, 15, 16])('covers all 16 roots once in groups of %i', (size) => {
    const groups = groupRoots(size);
    expect(groups.flat()).toEqual([...'0123456789abcdef']);
    expect(Math.max(...groups.map(({ length }) => length))).toBeLessThanOrEqual(size);
  });

  test('are everything where another version of Firn handed over something else', () => {
    expect(prefixesOf(['0', 'a3'])).toEqual(['0', 'a3']);
    for (const other of [undefined, null, { from: 0, to: 32 }, '0', [], [0], [''], ['x']]) {
      expect(prefixesOf(other)).toBe(wholeIndex);
    }
  });

  test('may be asked for all roots in one group, and for no more', () => {
    expect(wholeIndex).toHaveLength(16 ** ChunkIndex.PREFIX_DIGITS_MIN);
    expect(numberSettings.flushRootsPerActivity.max).toBe(wholeIndex.length);
  });
});

describe('isPublishDue', () => {
  const now = new Date('2026-01-01T01:00:00Z');
  const minutesAgo = (minutes: number) => new Date(now.getTime() - minutes * 60_000);

  test('a source without receipts is not due', () => {
    expect(isPublishDue({ receiptsWritten: [], batchesWaiting: 0, openRecords: false }, now, 900)).toBe(false);
  });

  test('a quiet source with a receipt is due at once', () => {
    expect(isPublishDue({ receiptsWritten: [now], batchesWaiting: 0, openRecords: false }, now, 900)).toBe(true);
  });

  test.each([
    { batchesWaiting: 1, openRecords: false },
    { batchesWaiting: 0, openRecords: true },
  ])(
    'a source with $batchesWaiting batches waiting and open records $openRecords waits until its oldest receipt is of age',
    (busy) => {
      const receiptsWritten = [minutesAgo(1), minutesAgo(14)];
      expect(isPublishDue({ receiptsWritten, ...busy }, now, 900)).toBe(false);
      expect(isPublishDue({ receiptsWritten: [...receiptsWritten, minutesAgo(15)], ...busy }, now, 900)).toBe(true);
    },
  );
});
