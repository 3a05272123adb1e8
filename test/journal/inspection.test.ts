import { describe, expect, it } from 'vitest';
import { NAMED_MAX } from '../../src/journal/inspection.ts';
import { openJournal } from '../../src/journal/journal.ts';
import { connectStorage } from '../../src/storage/connect.ts';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { createClock, createState, partitionBlobs, settings, upload } from './journal-kit.ts';

const removal = (path: string) => ({ kind: 'removal', path, nonce: path }) as const;

describe('inspecting a journal', () => {
  it('tells of every partition, of the live uploads exactly, and of damage by its place', async () => {
    const clock = createClock();
    const state = createState(clock);
    const journal = openJournal(state, 'photos', settings, { now: clock.now });
    await journal.append([upload('gone/x', 5), upload('b', 7), upload('c', 11)]);
    await openJournal(state, 'photos', settings).append([upload('b', 7), removal('gone'), upload('gone/y', 13)]);
    clock.ms += 5_000;
    const [first] = await journal.sealDue({ force: true });
    await journal.append([upload('d', 100)]);
    const [, active] = await partitionBlobs(state, 'photos');
    const { offset } = await state.append(active!, Buffer.from('not a record'));
    await journal.append([upload('e', 1000)]);
    const bytesOf = async (name: string) => (await state.properties(name)).bytes;
    const [blob] = await partitionBlobs(state, 'photos');

    expect(await journal.inspect()).toEqual({
      source: 'photos',
      partitions: [
        {
          partition: 1,
          blob: first!.batch,
          batch: first!.batch,
          state: 'sealed',
          mark: undefined,
          compacted: false,
          held: false,
          created: new Date('2024-01-01T00:00:00Z'),
          sealedAt: new Date('2024-01-01T00:00:05Z'),
          lastAt: new Date('2024-01-01T00:00:00Z'),
          records: 6,
          uploadBytes: 43,
          blobBytes: await bytesOf(blob!),
          blocks: 3,
          filterBytes: await bytesOf(`${blob}.filter`),
          missing: false,
        },
        {
          partition: 2,
          blob: active!.slice('journal/photos/'.length),
          batch: active!.slice('journal/photos/'.length),
          state: 'active',
          mark: undefined,
          compacted: false,
          held: false,
          created: new Date('2024-01-01T00:00:05Z'),
          sealedAt: undefined,
          lastAt: new Date('2024-01-01T00:00:05Z'),
          records: 2,
          uploadBytes: 1100,
          blobBytes: await bytesOf(active!),
          blocks: 4,
          filterBytes: undefined,
          missing: false,
        },
      ],
      uploads: { count: 5, bytes: 7 + 11 + 13 + 100 + 1000 },
      removals: 1,
      duplicates: 1,
      corrupt: [{ blob: active!.slice('journal/photos/'.length), offset, bytes: 12, reason: 'marker' }],
      unknown: [],
      corruptCount: 1,
      unknownCount: 0,
      setAside: 0,
    });
  });

  it('tells what is left, and what is lost, and counts neither', async () => {
    const state = createState(createClock());
    const journal = openJournal(state, 'photos', settings);
    expect(await journal.inspect()).toMatchObject({ partitions: [], uploads: { count: 0, bytes: 0 } });
    await journal.append([upload('a')]);
    await journal.leave();
    await journal.append([upload('b')]);
    await journal.sealDue({ force: true });
    const blobs = await partitionBlobs(state, 'photos');
    await state.delete(blobs.at(-1)!);
    const { partitions, uploads } = await journal.inspect();
    expect(partitions).toMatchObject([
      { state: 'left', batch: expect.any(String), missing: false },
      { state: 'sealed', mark: 'leave', batch: undefined },
      { state: 'sealed', missing: true, blobBytes: 0, blocks: undefined },
    ]);
    expect(uploads).toEqual({ count: 0, bytes: 0 });
  });

  it('names so many places of damage, and counts all', async () => {
    const state = createState(createClock());
    const journal = openJournal(state, 'photos', { ...settings, recordsMax: 40_000 });
    await journal.append([upload('0')]);
    const [blob] = await partitionBlobs(state, 'photos');
    for (let at = 1; at <= NAMED_MAX + 5; at += 1) {
      await state.append(blob!, Buffer.from('no record'));
      await journal.append([upload(at)]);
    }
    const { corrupt, corruptCount, uploads } = await journal.inspect();
    expect(corrupt).toHaveLength(NAMED_MAX);
    expect(corruptCount).toBe(NAMED_MAX + 5);
    expect(uploads.count).toBe(NAMED_MAX + 6);
  });

  it('counts the blocks as the service does', async () => {
    const state = connectStorage({ connectionString: azuriteConnectionString() }).container(uniqueName('journal'));
    await state.createContainer();
    try {
      const journal = openJournal(state, 'photos', settings);
      for (const name of ['a', 'b', 'c']) await journal.append([upload(name)]);
      expect((await journal.inspect()).partitions).toMatchObject([{ state: 'active', records: 3, blocks: 4 }]);
    } finally {
      await state.deleteContainer();
    }
  });
});
