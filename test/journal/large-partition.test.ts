import { expect, it } from 'vitest';
import { openJournal } from '../../src/journal/journal.ts';
import { emptyManifest, encodeManifest, type PartitionEntry } from '../../src/journal/manifest.ts';
import { encodeHeader, encodeRecord } from '../../src/journal/partition.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { collectGarbage, intercepted, settings, upload } from './journal-kit.ts';

const MiB = 1024 * 1024;
const BLOCKS = 30;
const RECORDS_IN_BLOCK = 1_300;

it('a partition of more than 100 MB is read in ranges, with memory for a few of them', async () => {
  const blob = '0000000001-00000000';
  const name = `journal/photos/${blob}`;
  const header = encodeHeader({ source: 'photos', partition: 1, created: new Date(), kind: 'log' });
  const block = Buffer.concat(
    Array.from({ length: RECORDS_IN_BLOCK }, (_, at) => encodeRecord(upload(`${at} ${'x'.repeat(2_700)}`))),
  );
  const blobBytes = header.length + BLOCKS * block.length;
  expect(blobBytes).toBeGreaterThan(100 * MiB);
  /** The bytes of the blob, which is nowhere as a whole. */
  const slice = (from: number, to: number): Buffer => {
    const parts: Buffer[] = [];
    for (let at = from; at < to; ) {
      const [piece, offset] = at < header.length ? [header, at] : [block, (at - header.length) % block.length];
      const taken = piece.subarray(offset, offset + to - at);
      parts.push(taken);
      at += taken.length;
    }
    return Buffer.concat(parts);
  };
  const store = createMemoryBlobStore();
  const at = new Date().toISOString();
  const entry: PartitionEntry = {
    ...{ partition: 1, blob, state: 'sealed', created: at, sealedAt: at, lastAt: at },
    ...{ records: BLOCKS * RECORDS_IN_BLOCK, uploadBytes: 1, blobBytes },
  };
  await store.create(
    'journal/photos/manifest',
    encodeManifest({ ...emptyManifest, next: 2, partitions: [entry] }, '0'),
  );
  const lengths: number[] = [];
  const held = () => {
    collectGarbage();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const before = held();
  let peak = 0;
  const state = intercepted(store, {
    instead: async (call, of, args) => {
      if (call !== 'read' || of !== name) return undefined;
      const { offset = 0, length = blobBytes } = args[1] as { offset?: number; length?: number };
      lengths.push(length);
      peak = Math.max(peak, held() - before);
      return { body: slice(offset, Math.min(blobBytes, offset + length)), properties: { bytes: blobBytes } };
    },
  });
  const reading = openJournal(state, 'photos', settings).read(blob);
  for await (const _ of reading);
  // The blocks are alike: a record is given once.
  expect(reading.report()).toEqual({
    ...{ records: RECORDS_IN_BLOCK, duplicates: (BLOCKS - 1) * RECORDS_IN_BLOCK },
    ...{ corrupt: [], unknown: [], complete: true },
  });
  expect(Math.max(...lengths)).toBeLessThanOrEqual(4 * MiB);
  expect(lengths.length).toBeGreaterThan(25);
  expect(peak).toBeGreaterThan(0);
  expect(peak).toBeLessThan(24 * MiB);
});
