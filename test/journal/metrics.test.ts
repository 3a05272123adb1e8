import { setTimeout } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { openJournal } from '../../src/journal/journal.ts';
import { encodeRecord } from '../../src/journal/partition.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { intercepted, settings, upload } from './journal-kit.ts';

it('a journal tells what it wrote, how long that took, and what waits', async () => {
  const slow = intercepted(createMemoryBlobStore(), {
    instead: async (call) => {
      if (call === 'append') await setTimeout(20);
      return undefined;
    },
  });
  const journal = openJournal(slow, 'photos', settings);
  expect(journal.metrics()).toEqual({
    records: 0,
    bytes: 0,
    flushes: 0,
    flushMs: { p50: 0, p99: 0, max: 0 },
    compactions: 0,
    compactionSwapMs: { last: 0, max: 0 },
    corruptRecords: 0,
    duplicatesDropped: 0,
    queue: { records: 0, bytes: 0, recordsPeak: 0, bytesPeak: 0 },
  });
  const bytes = encodeRecord(upload('a')).length;
  const began = performance.now();
  await journal.append([upload('0')]);
  const appends = ['a', 'b', 'c', 'd', 'e'].map((name) => journal.append([upload(name)]));
  expect(journal.metrics().queue).toMatchObject({ records: 4, bytes: 4 * bytes });
  await Promise.all(appends);
  const tookMs = performance.now() - began;
  const { flushMs, ...metrics } = journal.metrics();
  expect(metrics).toMatchObject({ records: 6, bytes: 6 * bytes, flushes: 3, queue: { records: 0, recordsPeak: 4 } });
  expect(flushMs.p50).toBeGreaterThan(19);
  expect(flushMs.p99).toBeGreaterThanOrEqual(flushMs.p50);
  expect(flushMs.max).toBeGreaterThanOrEqual(flushMs.p99);
  // Exact to one percent.
  expect(flushMs.max).toBeLessThanOrEqual(tookMs * 1.01);
});
