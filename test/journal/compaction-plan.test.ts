import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BatchStep, resolveRecords } from '../../src/archive/inbox-source.ts';
import {
  type BatchRecord,
  LiveRecords,
  planCompaction,
  RUN_PARTITIONS_MIN,
} from '../../src/journal/compaction-plan.ts';
import { batchName, type PartitionEntry } from '../../src/journal/manifest.ts';
import { recordId } from '../../src/journal/partition.ts';
import type { JournalRecord } from '../../src/journal/record.ts';

const MiB = 1024 * 1024;
const limits = { recordsMax: 100, uploadBytesMax: 1000 };
const all = () => true;

function entry(partition: number, change: Partial<PartitionEntry> = {}): PartitionEntry {
  const blob = `${String(partition).padStart(10, '0')}-00000000`;
  const at = '2024-01-01T00:00:00Z';
  const counts = { records: 2, uploadBytes: 10, blobBytes: 100, filterBytes: 10 };
  return { partition, blob, state: 'sealed', created: at, sealedAt: at, lastAt: at, ...counts, ...change };
}
const entries = (count: number, change?: Partial<PartitionEntry>) =>
  Array.from({ length: count }, (_, at) => entry(at + 1, change));
const numbersOf = (run: readonly PartitionEntry[] | undefined) => run?.map(({ partition }) => partition);

describe('what is compacted', () => {
  it('is a run of neighbours that is long enough to be worth it, and the oldest one', () => {
    expect(planCompaction(entries(RUN_PARTITIONS_MIN - 1), all, limits)).toBeUndefined();
    expect(numbersOf(planCompaction(entries(RUN_PARTITIONS_MIN), all, limits))).toHaveLength(RUN_PARTITIONS_MIN);
    const batches = entries(40);
    const isFree = (batch: string) => batch !== batchName(entry(5));
    expect(numbersOf(planCompaction(batches, isFree, limits))?.[0]).toBe(6);
  });

  it.each([
    ['records', { records: 11 }, 9],
    ['bytes of uploads', { uploadBytes: 120 }, 8],
    ['bytes of partitions', { blobBytes: 4 * MiB }, 8],
    ['partitions', { records: 0, uploadBytes: 0, blobBytes: 50 }, 500],
  ])('fits into one batch, by its %s', (_, change, expected) => {
    expect(numbersOf(planCompaction(entries(600, change), all, limits))).toHaveLength(expected);
  });

  it('is never a batch that is held for a publish, or whose partition was lost', () => {
    for (const change of [{ held: true }, { blobBytes: 0 }] as const) {
      const batches = entries(17);
      batches[8] = entry(9, change);
      expect(numbersOf(planCompaction(batches, all, limits))).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
      batches[4] = entry(5, change);
      expect(numbersOf(planCompaction(batches, all, limits))).toEqual([10, 11, 12, 13, 14, 15, 16, 17]);
      batches[10] = entry(11, change);
      expect(planCompaction(batches, all, limits)).toBeUndefined();
    }
  });

  it('is nothing where each batch is large enough by itself', () => {
    expect(planCompaction(entries(100, { records: 60 }), all, limits)).toBeUndefined();
    expect(planCompaction(entries(100, { uploadBytes: 900 }), all, limits)).toBeUndefined();
  });
});

const upload = (path: string, etag = '1'): JournalRecord => ({ kind: 'upload', path, etag, bytes: 1 });
let nonces = 0;
const removal = (path: string): JournalRecord => {
  nonces += 1;
  return { kind: 'removal', path, nonce: `n${nonces}` };
};

/** As a reader gives a batch: an id once. */
function read(records: readonly JournalRecord[]): BatchRecord[] {
  const byId = new Map<string, JournalRecord>();
  for (const record of records) if (!byId.has(recordId(record))) byId.set(recordId(record), record);
  return [...byId].map(([id, record]) => ({ id, record }));
}

function compacted(batches: readonly (readonly JournalRecord[])[]): JournalRecord[] {
  const live = new LiveRecords();
  for (const batch of batches) for (const each of read(batch)) live.add(each);
  return [...live.records()];
}

describe('what is left of the records', () => {
  it('is each upload once, the removals that count, and nothing that a later removal takes', () => {
    const last = removal('d');
    expect(
      compacted([
        [upload('a'), upload('d/x'), removal('d/x/y'), removal('d')],
        [upload('a'), upload('d/x', '2'), upload('d')],
        [last, upload('d/z'), upload('dd')],
      ]),
    ).toEqual([upload('a'), last, upload('d/z'), upload('dd')]);
  });

  it('keeps two versions of a path, because events come out of order', () => {
    expect(compacted([[upload('a', '2')], [upload('a', '1')]])).toEqual([upload('a', '2'), upload('a', '1')]);
  });

  it('keeps an upload where it was recorded again after its removal', () => {
    const gone = removal('a');
    expect(compacted([[upload('a')], [gone], [upload('b'), upload('a')]])).toEqual([gone, upload('b'), upload('a')]);
  });

  it('comes to the same as the batches one after another', () => {
    const path = fc.constantFrom('a', 'b', 'a/x', 'a/y', 'a/x/z', 'b/x');
    const record = fc.oneof(
      { weight: 3, arbitrary: fc.tuple(path, fc.constantFrom('1', '2')).map(([at, etag]) => upload(at, etag)) },
      { weight: 1, arbitrary: path.map(removal) },
    );
    fc.assert(
      fc.property(fc.array(fc.array(record, { maxLength: 6 }), { maxLength: 6 }), (batches) => {
        const apart = apply(batches.map((batch) => resolveRecords(read(batch).map((each) => each.record))));
        const left = compacted(batches);
        const together = apply([resolveRecords(left)]);
        expect([...together.removed].sort()).toEqual([...apart.removed].sort());
        expect([...together.put.keys()].sort()).toEqual([...apart.put.keys()].sort());
        for (const [at, etags] of apart.put) expect(together.put.get(at)).toEqual(expect.arrayContaining([...etags]));
        // Compacting again changes nothing.
        expect(compacted([left])).toEqual(left);
        expect(compacted([left, []])).toEqual(left);
      }),
      { numRuns: 500 },
    );
  });
});

/** What a tree comes to: paths that were put, and paths of what was there before that are gone. */
function apply(batches: readonly (readonly BatchStep[])[]): {
  put: Map<string, readonly string[]>;
  removed: Set<string>;
} {
  const put = new Map<string, readonly string[]>();
  const removals = new Set<string>();
  const isUnder = (path: string, folder: string) => path === folder || path.startsWith(`${folder}/`);
  for (const steps of batches) {
    for (const step of steps) {
      if (step.op === 'put') put.set(step.path, step.etags);
      else {
        removals.add(step.path);
        for (const path of [...put.keys()]) if (isUnder(path, step.path)) put.delete(path);
      }
    }
  }
  // A removal below another says nothing more.
  const removed = [...removals].filter(
    (path) => ![...removals].some((other) => other !== path && isUnder(path, other)),
  );
  return { put, removed: new Set(removed) };
}
