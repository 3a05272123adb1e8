import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeHeader, encodeRecord, headerBytes, recordId } from '../../src/journal/partition.ts';
import { decodePartition, type PartitionEvent } from '../../src/journal/partition-decoding.ts';
import type { ControlRecord, JournalRecord, PartitionRecord } from '../../src/journal/record.ts';

const header = { source: 'photos', partition: 7, created: new Date('2024-05-06T07:08:09.010Z'), kind: 'log' } as const;
const upload = (path: string, bytes = 5): JournalRecord => ({ kind: 'upload', path, etag: '"0x8DC"', bytes });
const removal = (path: string): JournalRecord => ({ kind: 'removal', path, nonce: 'n1' });
const sample: readonly JournalRecord[] = [
  upload('a'),
  removal('ä/b'),
  upload('c/\u{1f600}', 123456789),
  upload('d', 0),
];

function partitionOf(records: readonly JournalRecord[]): Buffer {
  return Buffer.concat([encodeHeader(header), ...records.map((record) => encodeRecord(record))]);
}

async function decode(bytes: Buffer, pieceBytes = bytes.length || 1): Promise<PartitionEvent[]> {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += pieceBytes) pieces.push(bytes.subarray(at, at + pieceBytes));
  return await Array.fromAsync(decodePartition(pieces, { blob: 'p' }));
}

function recordsOf(events: readonly PartitionEvent[]): JournalRecord[] {
  return events.flatMap((event) => (event.kind === 'record' ? [event.record] : []));
}

function rangesOf(events: readonly PartitionEvent[]) {
  return events.flatMap((event) => (event.kind === 'corrupt' ? [event.range] : []));
}

function withCrc(record: Buffer): Buffer {
  record.writeUInt32LE(crc32(record.subarray(4, -4)), record.length - 4);
  return record;
}

describe('a journal partition', () => {
  it('has exactly the bytes that the format describes', () => {
    expect(encodeHeader({ ...header, source: 's' }).toString('hex')).toBe(
      '464a524e01001e00b237bb4c8f010000070000000000000000736199204f',
    );
    expect(encodeHeader({ ...header, kind: 'compacted' })[24]).toBe(1);
    expect(encodeRecord({ kind: 'removal', path: 'p', nonce: 'n' }).toString('hex')).toBe(
      'ff4652fe1800000002d2d393f64dd4296614f0cb9d9ff5d0ef7b2270617468223a2270222c226e6f6e6365223a226e227d8bb4f4af',
    );
    const bodies = (
      [
        { kind: 'upload', path: 'p', etag: '"1"', bytes: 2 },
        { kind: 'leave', nonce: 'n' },
        { kind: 'rejoin', nonce: 'n' },
        { kind: 'end', replaces: ['0000000001-00000000'], records: 3, nonce: 'n' },
      ] satisfies PartitionRecord[]
    )
      .map((record) => encodeRecord(record))
      .map((bytes) => [bytes[8], bytes.subarray(25, -4).toString()]);
    expect(bodies).toEqual([
      [1, '{"path":"p","etag":"\\"1\\"","bytes":2}'],
      [3, '{"nonce":"n"}'],
      [4, '{"nonce":"n"}'],
      [5, '{"replaces":["0000000001-00000000"],"records":3,"nonce":"n"}'],
    ]);
  });

  it('is read back as it was written, in pieces of any size', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.oneof(
            fc.record({
              kind: fc.constant('upload' as const),
              path: fc.string({ unit: 'grapheme', maxLength: 200 }),
              etag: fc.string(),
              bytes: fc.maxSafeNat(),
            }),
            fc.record({ kind: fc.constant('removal' as const), path: fc.string(), nonce: fc.string() }),
          ),
          { maxLength: 20 },
        ),
        fc.integer({ min: 1, max: 300 }),
        async (records, pieceBytes) => {
          const events = await decode(partitionOf(records), pieceBytes);
          expect(events[0]).toEqual({ kind: 'header', header });
          expect(events.slice(1)).toEqual(records.map((record) => ({ kind: 'record', id: recordId(record), record })));
        },
      ),
      { numRuns: 100 },
    );
  });

  it('gives back what the journal records about itself apart from the records of a batch', async () => {
    const controls: ControlRecord[] = [
      { kind: 'leave', nonce: 'n1' },
      { kind: 'rejoin', nonce: 'n2' },
      { kind: 'end', replaces: ['0000000001-00000000', '0000000002-ffffffff'], records: 2, nonce: 'n3' },
    ];
    const bytes = Buffer.concat([
      encodeHeader({ ...header, kind: 'compacted' }),
      encodeRecord(upload('a')),
      ...controls.map((record) => encodeRecord(record)),
      encodeRecord(removal('b')),
    ]);
    const events = await decode(bytes, 10);
    expect(events[0]).toEqual({ kind: 'header', header: { ...header, kind: 'compacted' } });
    expect(recordsOf(events)).toEqual([upload('a'), removal('b')]);
    expect(events.flatMap((event) => (event.kind === 'control' ? [event.record] : []))).toEqual(controls);
    expect(rangesOf(events)).toEqual([]);
    expect(new Set(controls.map(recordId)).size).toBe(3);
  });

  it('reports records of no bytes, and those that claim more bytes than a record has', async () => {
    const empty = withCrc(Buffer.concat([encodeRecord(upload('b')).subarray(0, 25), Buffer.alloc(4)]));
    empty.writeUInt32LE(0, 4);
    withCrc(empty);
    const oversized = encodeRecord(upload('c'));
    oversized.writeUInt32LE(64 * 1024 + 1, 4);
    withCrc(oversized);
    const events = await decode(
      Buffer.concat([partitionOf([upload('a')]), empty, oversized, encodeRecord(upload('d'))]),
    );
    expect(recordsOf(events)).toEqual([upload('a'), upload('d')]);
    expect(rangesOf(events).map(({ bytes, reason }) => ({ bytes, reason }))).toEqual([
      { bytes: empty.length, reason: 'payload' },
      { bytes: oversized.length, reason: 'length' },
    ]);
  });

  it('with a header that makes no sense has a damaged one, whose records are read', async () => {
    const bytes = partitionOf(sample);
    bytes.writeUInt8(9, 24);
    const crcAt = headerBytes('photos') - 4;
    bytes.writeUInt32LE(crc32(bytes.subarray(0, crcAt)), crcAt);
    const events = await decode(bytes);
    expect(recordsOf(events)).toEqual(sample);
    expect(rangesOf(events)).toEqual([{ offset: 0, bytes: headerBytes('photos'), reason: 'header' }]);
  });

  it('gives an event the same id each time, and another to another version or a removal', () => {
    expect(recordId(upload('a', 1))).toBe(recordId(upload('a', 2)));
    const ids = [upload('a'), upload('b'), { ...upload('a'), etag: '"2"' } as JournalRecord, removal('a')].map(
      recordId,
    );
    expect(new Set(ids).size).toBe(4);
  });

  it('never gives a changed record for any flipped bit, reports the flip, and gives all other records', async () => {
    const bytes = partitionOf(sample);
    const ends = [headerBytes('photos')];
    for (const record of sample) ends.push((ends.at(-1) ?? 0) + encodeRecord(record).length);
    for (let bit = 0; bit < bytes.length * 8; bit += 1) {
      const flipped = Buffer.from(bytes);
      const at = bit >> 3;
      flipped[at] = (flipped[at] ?? 0) ^ (1 << (bit & 7));
      const hit = ends.findIndex((end) => at < end);
      const events = await decode(flipped, 64);
      expect(recordsOf(events)).toEqual(sample.filter((_, index) => index !== hit - 1));
      const ranges = rangesOf(events);
      expect(ranges).toHaveLength(1);
      expect(ranges[0]?.offset).toBe(hit === 0 ? 0 : ends[hit - 1]);
      expect((ranges[0]?.offset ?? 0) + (ranges[0]?.bytes ?? 0)).toBe(ends[hit]);
    }
  });

  it('never gives a record that was not written, however it is damaged', async () => {
    const written = new Set(sample.map((record) => JSON.stringify(record)));
    const bytes = partitionOf(sample);
    const at = fc.nat({ max: bytes.length });
    await fc.assert(
      fc.asyncProperty(at, at, fc.uint8Array({ maxLength: 80 }), async (from, to, junk) => {
        const damaged = Buffer.concat([bytes.subarray(0, from), junk, bytes.subarray(to)]);
        const events = await decode(damaged, 50);
        for (const record of recordsOf(events)) expect(written).toContain(JSON.stringify(record));
      }),
      { numRuns: 500 },
    );
  });

  it('recognises a torn tail at any length, and gives the records before it', async () => {
    const bytes = partitionOf(sample);
    const lastAt = bytes.length - encodeRecord(sample[3]!).length;
    for (let end = lastAt + 1; end < bytes.length; end += 1) {
      const events = await decode(bytes.subarray(0, end));
      expect(recordsOf(events)).toEqual(sample.slice(0, 3));
      expect(rangesOf(events)).toEqual([{ offset: lastAt, bytes: end - lastAt, reason: 'torn' }]);
    }
  });

  it('does not lose the record after a torn one', async () => {
    const torn = Buffer.concat([partitionOf([upload('a')]), encodeRecord(upload('b')).subarray(0, 40)]);
    const events = await decode(Buffer.concat([torn, encodeRecord(upload('c'))]));
    expect(recordsOf(events)).toEqual([upload('a'), upload('c')]);
    expect(rangesOf(events)).toHaveLength(1);
  });

  it('reports a whole record of an unknown type, and one whose payload makes no sense', async () => {
    const unknown = encodeRecord(upload('b'));
    unknown[8] = 9;
    const senseless = Buffer.concat([encodeRecord(upload('c'))]);
    senseless.write('[', 25);
    const bytes = Buffer.concat([
      partitionOf([upload('a')]),
      withCrc(unknown),
      withCrc(senseless),
      encodeRecord(removal('d')),
    ]);
    const events = await decode(bytes);
    expect(recordsOf(events)).toEqual([upload('a'), removal('d')]);
    expect(events.filter(({ kind }) => kind === 'unknown')).toEqual([
      { kind: 'unknown', unknown: expect.objectContaining({ type: 9, bytes: unknown.length }) },
    ]);
    expect(rangesOf(events)).toEqual([expect.objectContaining({ reason: 'payload', bytes: senseless.length })]);
  });

  it('of a newer version is refused, and a damaged version number is damage', async () => {
    const bytes = partitionOf(sample);
    bytes.writeUInt16LE(2, 4);
    expect(rangesOf(await decode(bytes))).toHaveLength(1);
    const crcAt = headerBytes('photos') - 4;
    bytes.writeUInt32LE(crc32(bytes.subarray(0, crcAt)), crcAt);
    await expect(decode(bytes)).rejects.toMatchObject({ code: 'FIRN_REPOSITORY_NEWER' });
  });

  it('takes the longest path that blob storage allows, and refuses what does not fit into a record', async () => {
    const longest = upload('\u0001'.repeat(1024));
    expect(recordsOf(await decode(partitionOf([longest])))).toEqual([longest]);
    expect(() => encodeRecord(upload('x'.repeat(70_000)))).toThrow(
      expect.objectContaining({ code: 'FIRN_PATH_UNUSABLE' }),
    );
  });
});
