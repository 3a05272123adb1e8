import { beforeEach, describe, expect, it } from 'vitest';
import { type Journal, openJournal } from '../../src/journal/journal.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import {
  allPaths,
  type Clock,
  createClock,
  createState,
  intercepted,
  partitionBlobs,
  settings,
  upload,
} from './journal-kit.ts';

let clock: Clock;
let state: BlobStore;
let reads: string[];
let journal: Journal;

/** A journal whose reads of partitions are counted. */
function openCounted(options: Partial<typeof settings> = {}): Journal {
  const counted = intercepted(state, {
    before: (call, name) => {
      if (call === 'read' && /\/\d{10}-[0-9a-f]{8}$/.test(name)) reads.push(name);
    },
  });
  return openJournal(counted, 'photos', { ...settings, ...options }, { now: clock.now });
}
const open = (options: Partial<typeof settings> = {}) =>
  openJournal(state, 'photos', { ...settings, ...options }, { now: clock.now });
const names = (count: number, prefix = '') => Array.from({ length: count }, (_, at) => `${prefix}${at}`);

beforeEach(() => {
  clock = createClock();
  state = createState(clock);
  reads = [];
  journal = openCounted({ recordsMax: 10 });
});

describe('what is known of the open partition', () => {
  it('is kept between calls: what this process appended, and what it read once, is not read again', async () => {
    const writer = openCounted();
    await writer.append(names(3).map((name) => upload(name)));
    expect(await writer.sealDue()).toEqual([]);
    await writer.append([upload('x')]);
    expect(await writer.sealDue()).toEqual([]);
    expect(reads).toEqual([]);
    await open().append([upload('of another')]);
    for (let round = 0; round < 3; round += 1) expect(await writer.sealDue()).toEqual([]);
    expect(reads).toHaveLength(1);
    await writer.append([upload('y')]);
    for (let round = 0; round < 3; round += 1) expect(await writer.sealDue()).toEqual([]);
    expect(reads).toHaveLength(2);
    const [info] = await writer.sealDue({ force: true });
    expect(info).toMatchObject({ records: 6, uploadBytes: 6 });
    expect(reads).toHaveLength(2);
  });

  it('is read on where another process appended', async () => {
    await journal.append(names(4).map((name) => upload(name)));
    expect(await journal.sealDue()).toEqual([]);
    await open().append(names(5, 'b').map((name) => upload(name)));
    expect(await journal.sealDue()).toEqual([]);
    await open().append([upload('c')]);
    expect(await journal.sealDue()).toMatchObject([{ records: 10, uploadBytes: 10 }]);
  });

  it('is forgotten at a rotation: the next partition begins at zero', async () => {
    for (let round = 0; round < 3; round += 1) {
      const records = names(9, `${round} `).map((name) => upload(name));
      await journal.append(records);
      expect(await journal.sealDue()).toEqual([]);
      const { sealed } = await journal.append([upload(`${round} last`)]);
      expect(sealed).toHaveLength(1);
      expect((await journal.batches()).at(-1)).toMatchObject({ batch: sealed[0], records: 10 });
    }
    expect(reads).toEqual([]);
  });

  it('is forgotten when others sealed and retired the partition, and when it was deleted', async () => {
    await journal.append(names(9).map((name) => upload(name)));
    const other = open();
    await other.sealDue({ force: true });
    await other.retire((await other.batches()).map(({ batch }) => batch));
    expect((await journal.append([upload('a')])).sealed).toEqual([]);
    expect(await journal.sealDue()).toEqual([]);
    const [blob] = await partitionBlobs(state, 'photos');
    await state.delete(blob!);
    // A batch that says so comes to be, and the records go on behind it.
    expect(await journal.sealDue()).toMatchObject([{ records: 0 }]);
    await journal.append(names(9, 'b').map((name) => upload(name)));
    expect(await journal.sealDue()).toEqual([]);
    expect((await journal.append([upload('c')])).sealed).toHaveLength(1);
  });

  it('is counted anew when the blob is another: shorter, or as long with another ETag', async () => {
    await journal.append(names(9).map((name) => upload(name)));
    await journal.sealDue();
    const [blob] = await partitionBlobs(state, 'photos');
    const { body } = await state.read(blob!);
    const other = open();
    const replaceBy = async (bytes: Buffer) => {
      await state.delete(blob!);
      await state.createAppend(blob!, bytes);
    };
    // As long, but its first record is damaged.
    const damaged = Buffer.from(body);
    damaged.write('x', 60);
    await replaceBy(damaged);
    expect(await journal.sealDue()).toEqual([]);
    await other.append([upload('a'), upload('b')]);
    expect(await journal.sealDue()).toMatchObject([{ records: 10 }]);

    await journal.append(names(9, 'c').map((name) => upload(name)));
    const [, next] = await partitionBlobs(state, 'photos');
    const { body: longer } = await state.read(next!);
    await state.delete(next!);
    await state.createAppend(next!, longer.subarray(0, 40));
    expect(await journal.sealDue()).toEqual([]);
    expect(await journal.sealDue({ force: true })).toMatchObject([{ records: 0 }]);
  });

  it('is right to the record in the manifest, whoever appended and sealed', async () => {
    const writers = [open(), open(), journal];
    await writers[0]!.append([upload('a', 5), { kind: 'removal', path: 'x', nonce: '1' }]);
    clock.ms += 3_000;
    await writers[1]!.append([upload('A', 5), upload('b', 7)]);
    clock.ms += 4_000;
    await writers[2]!.append([upload('c', 11)]);
    clock.ms += 2_000;
    await writers[1]!.sealDue({ force: true });
    const { partitions } = JSON.parse((await state.read('journal/photos/manifest')).body.toString());
    const [blob] = await partitionBlobs(state, 'photos');
    const { bytes } = await state.properties(blob!);
    expect(partitions).toEqual([
      {
        partition: 1,
        blob: blob!.slice('journal/photos/'.length),
        state: 'sealed',
        created: '2024-01-01T00:00:00.000Z',
        lastAt: '2024-01-01T00:00:07.000Z',
        sealedAt: '2024-01-01T00:00:09.000Z',
        records: 5,
        uploadBytes: 28,
        blobBytes: bytes,
        filterBytes: expect.any(Number),
      },
    ]);
    expect(await allPaths(journal)).toEqual(['a', 'x', 'A', 'b', 'c']);
  });
});
