/** The journal: partitions, manifests and filters that were changed, and what a journal makes of them. */
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { buildFilter, parseFilter } from '../../src/journal/bloom-filter.ts';
import { type Journal, openJournal } from '../../src/journal/journal.ts';
import {
  batchName,
  batchPartitions,
  encodeManifest,
  leavePartition,
  parseManifest,
} from '../../src/journal/manifest.ts';
import { encodeHeader, encodeRecord, marker, recordId } from '../../src/journal/partition.ts';
import { decodePartition, type PartitionEvent } from '../../src/journal/partition-decoding.ts';
import type { JournalRecord, PartitionRecord } from '../../src/journal/record.ts';
import { createMemoryAccount, type MemoryAccount } from '../kit/memory-blob-store.ts';
import { anyEdits, anyHostileJson, edited, hostileJson, outcomeOf, patient, runs, watchMemory } from './hostile.ts';

afterAll(watchMemory());

const upload = (path: string): JournalRecord => ({ kind: 'upload', path, etag: `"${path}"`, bytes: 5 });
const removal = (path: string): JournalRecord => ({ kind: 'removal', path, nonce: `n ${path}` });

function partitionOf(source: string, partition: number, records: readonly PartitionRecord[]): Buffer {
  const header = encodeHeader({ source, partition, created: new Date(1_700_000_000_000), kind: 'log' });
  return Buffer.concat([header, ...records.map((record) => encodeRecord(record))]);
}

const sample: PartitionRecord[] = [
  upload('a'),
  removal('ä/b'),
  upload('c/\u{1f600}'),
  { kind: 'leave', nonce: '1' },
  upload('d'),
];
const otherSample: PartitionRecord[] = [
  upload('e'),
  { kind: 'end', replaces: ['0000000001-00000000'], records: 1, nonce: '2' },
];
const valid = partitionOf('photos', 7, sample);
const others = [partitionOf('docs', 7, otherSample), partitionOf('photos', 8, [...otherSample].reverse())];

async function decode(bytes: Buffer, pieceBytes: number): Promise<PartitionEvent[]> {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += pieceBytes) pieces.push(bytes.subarray(at, at + pieceBytes));
  return await Array.fromAsync(decodePartition(pieces, { blob: 'p' }));
}

/** Gives the header and every record the checksum that their bytes have, as far as they can be told. */
function withChecksums(bytes: Buffer): Buffer {
  const headerBytes = bytes.length > 8 ? bytes.readUInt16LE(6) : 0;
  if (headerBytes > 4 && headerBytes <= bytes.length) {
    bytes.writeUInt32LE(crc32(bytes.subarray(0, headerBytes - 4)), headerBytes - 4);
  }
  for (let at = bytes.indexOf(marker); at >= 0; at = bytes.indexOf(marker, at + 1)) {
    const end = at + 8 <= bytes.length ? at + 25 + bytes.readUInt32LE(at + 4) : bytes.length;
    if (end + 4 <= bytes.length) bytes.writeUInt32LE(crc32(bytes.subarray(at + 4, end)), end);
  }
  return bytes;
}

describe('a partition', () => {
  const known = new Set([...sample, ...otherSample].map((record) => JSON.stringify(record)));

  it('that was changed gives no record that was not written, and tells of every byte', patient, async () => {
    await fc.assert(
      fc.asyncProperty(anyEdits, fc.integer({ min: 1, max: 400 }), async (edits, pieceBytes) => {
        const bytes = edited(valid, edits, others);
        const outcome = await outcomeOf(() => decode(bytes, pieceBytes));
        if (!('value' in outcome)) return;
        let understood = 0;
        for (const event of outcome.value) {
          if (event.kind === 'record' || event.kind === 'control') {
            expect(known.has(JSON.stringify(event.record))).toBe(true);
            if (event.kind === 'record') expect(event.id).toBe(recordId(event.record));
            understood += encodeRecord(event.record).length;
          } else if (event.kind === 'header') {
            expect(['photos', 'docs']).toContain(event.header.source);
            understood += encodeHeader(event.header).length;
          } else {
            understood += event.kind === 'corrupt' ? event.range.bytes : event.unknown.bytes;
          }
        }
        expect(understood).toBe(bytes.length);
      }),
      runs(300),
    );
  });

  it('with checksums that were made anew gives whole records, or tells of them', patient, async () => {
    await fc.assert(
      fc.asyncProperty(anyEdits, async (edits) => {
        const bytes = withChecksums(edited(valid, edits, others));
        const outcome = await outcomeOf(() => decode(bytes, bytes.length || 1));
        if (!('value' in outcome)) return;
        let end = 0;
        for (const event of outcome.value) {
          if (event.kind === 'record' || event.kind === 'control')
            expect(() => encodeRecord(event.record)).not.toThrow();
          if (event.kind === 'header') expect(Number.isNaN(event.header.created.getTime())).toBe(false);
          const range = event.kind === 'corrupt' ? event.range : event.kind === 'unknown' ? event.unknown : undefined;
          if (range === undefined) continue;
          expect(range.offset).toBeGreaterThanOrEqual(end);
          end = range.offset + range.bytes;
        }
        expect(end).toBeLessThanOrEqual(bytes.length);
      }),
      runs(300),
    );
  });

  it('full of markers is read in a time that its length bounds', patient, async () => {
    const claim = Buffer.concat([marker, Buffer.from([0xff, 0xff, 0, 0])]);
    const flood = Buffer.alloc(256 * 1024, claim);
    const outcome = await outcomeOf(() => decode(flood, flood.length));
    expect(outcome).toMatchObject({ value: [{ kind: 'corrupt', range: { offset: 0, bytes: flood.length } }] });
  });
});

const sealedEntry = (partition: number, blob: string) => ({
  partition,
  blob,
  state: 'sealed',
  created: '2026-01-01T00:00:00.000Z',
  sealedAt: '2026-01-01T00:01:00.000Z',
  lastAt: '2026-01-01T00:00:30.000Z',
  records: 3,
  uploadBytes: 10,
  blobBytes: 500,
  filterBytes: 148,
});
const validManifest = {
  format: 1,
  write: '0123456789abcdef',
  next: 4,
  partitions: [
    sealedEntry(1, '0000000001-00000001'),
    { ...sealedEntry(2, '0000000002-00000002'), mark: 'leave', compacted: true, held: true },
    { partition: 3, blob: '0000000003-00000003', state: 'active', created: '2026-01-01T00:02:00.000Z' },
  ],
};
const tempting = [
  ...['"active"', '"sealed"', '"retired"', '"leave"', '"rejoin"', '2', '3', '4', '9999999998', '9999999999'],
  ...['"0000000001-00000001"', '"0000000003-00000003"', '"9999999999-ffffffff"', '"0000000001-00000001.filter"'],
];

describe('a manifest', () => {
  it('that makes no sense is damaged, or has numbers and times that can be worked with', patient, async () => {
    await fc.assert(
      fc.asyncProperty(anyHostileJson(tempting), async (hostile) => {
        const outcome = await outcomeOf(() => parseManifest(hostileJson(validManifest, hostile), 'a manifest'));
        if (!('value' in outcome) || outcome.value === undefined) return;
        const { manifest, write } = outcome.value;
        const written = encodeManifest(manifest, write);
        const again = parseManifest(written, 'a manifest');
        expect(again && encodeManifest(again.manifest, again.write).equals(written)).toBe(true);
        // Numbers have ten digits in the names of partitions; this one is to be given next.
        expect(manifest.next).toBeLessThan(10_000_000_000);
        for (const entry of manifest.partitions) {
          expect(entry.partition).toBeLessThan(manifest.next);
          expect(Number.isNaN(Date.parse(entry.created))).toBe(false);
          expect(batchName(entry)).toMatch(/^\d{10}-[0-9a-f]{8}$/);
        }
        batchPartitions(manifest);
        leavePartition(manifest);
      }),
      runs(400),
    );
  });
});

describe('a filter', () => {
  const ids = new Set(sample.map(recordId));
  const filter = buildFilter(ids);
  const otherFilters = [buildFilter(new Set(otherSample.map(recordId))), buildFilter(new Set())];

  it('that was changed says nothing, and with a checksum made anew it says something in no time', patient, async () => {
    await fc.assert(
      fc.asyncProperty(anyEdits, fc.boolean(), async (edits, anew) => {
        const bytes = edited(filter, edits, otherFilters);
        const whole = [filter, ...otherFilters].some((each) => each.equals(bytes));
        if (anew && bytes.length >= 4) bytes.writeUInt32LE(crc32(bytes.subarray(0, -4)), bytes.length - 4);
        const outcome = await outcomeOf(() => parseFilter(bytes));
        expect(outcome).toHaveProperty('value');
        if (!('value' in outcome)) return;
        if (!anew) expect(outcome.value !== undefined).toBe(whole);
        for (const id of ids) outcome.value?.mayContain(id);
      }),
      runs(300),
    );
  });
});

/** A journal with sealed partitions, an active one, and something of another source. */
async function createJournal() {
  const account = createMemoryAccount();
  const journal = open(account, 'photos');
  const written: JournalRecord[][] = [[upload('a'), removal('b')], [upload('c'), upload('a')], [upload('d')]];
  for (const [at, records] of written.entries()) {
    for (const record of records) await journal.append([record]);
    if (at < written.length - 1) await journal.sealDue({ force: true });
  }
  const docs = open(account, 'docs');
  await docs.append([upload('x')]);
  await docs.sealDue({ force: true });
  await docs.append([upload('y')]);
  const blobs = await Array.fromAsync(account.container('state').list(), ({ name }) => name);
  return { account, blobs };
}

function open(account: MemoryAccount, source: string): Journal {
  const settings = { recordsMax: 100, uploadBytesMax: 1_000_000, ageSecondsMax: 60 };
  return openJournal(account.container('state'), source, settings);
}

/** Paths of all records that are in batches; what cannot be read is told by typed errors. */
async function readAll(journal: Journal): Promise<{ paths: string[]; refused: boolean }> {
  const paths: string[] = [];
  const batches = await outcomeOf(() => journal.batches());
  let refused = 'error' in batches;
  for (const { batch } of 'value' in batches ? batches.value : []) {
    const read = await outcomeOf(async () => {
      for await (const record of journal.read(batch)) paths.push(record.path);
    });
    refused ||= 'error' in read;
  }
  return { paths, refused };
}

describe('a journal of which one blob was changed', async () => {
  const { account, blobs } = await createJournal();
  const bodies = await Promise.all(blobs.map(async (name) => (await account.container('state').read(name)).body));
  const mine = blobs.filter((name) => name.startsWith('journal/photos/'));
  const manifestAt = blobs.indexOf('journal/photos/manifest');
  // Without the checksum, or nothing else of it would be tried.
  const { crc32: _, ...manifestJson } = JSON.parse(bodies[manifestAt]?.toString() ?? '');

  async function useAll(copy: MemoryAccount, isManifest: boolean): Promise<void> {
    const journal = open(copy, 'photos');
    await outcomeOf(() => journal.inspect());
    const appended = await outcomeOf(() => journal.append([upload('new')]));
    const sealed = await outcomeOf(() => open(copy, 'photos').sealDue({ force: true }));
    const { paths, refused } = await readAll(open(copy, 'photos'));
    // Acknowledged is durable, whatever there was before.
    if ('value' in appended && 'value' in sealed && !refused) expect(paths).toContain('new');
    // A manifest that can be understood is believed; of partitions only the one that was changed may have lost something.
    if (!isManifest) expect(new Set(['a', 'b', 'c', 'd'].filter((path) => !paths.includes(path))).size).toBeLessThan(3);
    await outcomeOf(() => journal.leave());
    await outcomeOf(() => open(copy, 'photos').rejoin());
    await outcomeOf(() => open(copy, 'photos').compact({ isIdle: () => true }));
    await outcomeOf(() => journal.inspect());
    const batches = await outcomeOf(() => journal.batches());
    await outcomeOf(() => journal.retire(('value' in batches ? batches.value : []).map(({ batch }) => batch)));
  }

  it('takes records, seals, reads, compacts, leaves and retires, or says why not', patient, async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: mine.length - 1 }), anyEdits, fc.boolean(), async (at, edits, anew) => {
        const copy = account.clone();
        const name = mine[at] ?? '';
        const bytes = edited(bodies[blobs.indexOf(name)] ?? Buffer.alloc(0), edits, bodies);
        copy.overwrite('state', name, anew ? withChecksums(bytes) : bytes);
        await useAll(copy, name.endsWith('manifest'));
      }),
      runs(100),
    );
  });

  it('does so over a manifest that makes no sense', patient, async () => {
    await fc.assert(
      fc.asyncProperty(anyHostileJson(tempting), async (hostile) => {
        const copy = account.clone();
        copy.overwrite('state', 'journal/photos/manifest', hostileJson(manifestJson, hostile));
        await useAll(copy, true);
      }),
      runs(100),
    );
  });

  it.each([9_999_999_999, 10_000_000_000, 2 ** 40, Number.MAX_SAFE_INTEGER])(
    'does so when its next number is %d: no record lies in a partition that nobody finds',
    async (next) => {
      const copy = account.clone();
      const { state } = { state: copy.container('state') };
      copy.overwrite(
        'state',
        'journal/photos/manifest',
        hostileJson({ ...Object(manifestJson), next }, { json: [], bytes: [] }),
      );
      await open(copy, 'photos').sealDue({ force: true });
      await open(copy, 'photos').append([upload('new')]);
      await open(copy, 'photos').sealDue({ force: true });
      expect((await readAll(open(copy, 'photos'))).paths).toContain('new');
      await state.delete('journal/photos/manifest');
      expect((await readAll(open(copy, 'photos'))).paths).toContain('new');
    },
  );
});
