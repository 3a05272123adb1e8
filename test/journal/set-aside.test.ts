import { beforeEach, describe, expect, it } from 'vitest';
import { type Journal, journalSources, openJournal } from '../../src/journal/journal.ts';
import { encodeRecord, headerBytes } from '../../src/journal/partition.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { createMemoryAccount, type MemoryAccount } from '../kit/memory-blob-store.ts';
import { allPaths, intercepted, partitionBlobs, pathsOf, settings, upload } from './journal-kit.ts';

const PREFIX = 'journal-set-aside/photos/';
let account: MemoryAccount;
let state: BlobStore;
let journal: Journal;
const open = (store = state) => openJournal(store, 'photos', settings);

/** What was set aside, by name without the folder. */
async function setAside(): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const { name } of state.list({ prefix: PREFIX })) {
    found[name.slice(PREFIX.length)] = (await state.read(name)).body.toString('latin1');
  }
  return found;
}

/** A partition with these bytes at its end. */
async function append(bytes: Buffer): Promise<number> {
  const [blob] = await partitionBlobs(state, 'photos');
  return (await state.append(blob!, bytes)).offset;
}

const at = (offset: number) => String(offset).padStart(10, '0');

beforeEach(() => {
  account = createMemoryAccount();
  state = account.container('state');
  journal = open();
});

describe('bytes that cannot be understood', () => {
  it('are set aside when their batch is read, and outlive it', async () => {
    await journal.append([upload('a')]);
    const first = await append(Buffer.from('not a record'));
    await journal.append([upload('b')]);
    const flipped = encodeRecord(upload('c'));
    flipped.writeUInt8(0, 30);
    const second = await append(flipped);
    const [info] = await journal.sealDue({ force: true });
    expect(await setAside()).toEqual({});
    expect(await pathsOf(open(), info!.batch)).toEqual(['a', 'b']);
    const expected = {
      [`${info!.batch}-${at(first)}`]: 'not a record',
      [`${info!.batch}-${at(second)}`]: flipped.toString('latin1'),
    };
    expect(await setAside()).toEqual(expected);
    // Once, however often it is read.
    const reader = open();
    await pathsOf(reader, info!.batch);
    expect(reader.metrics().corruptRecords).toBe(2);
    await journal.retire([info!.batch]);
    expect(await partitionBlobs(state, 'photos')).toEqual([]);
    expect(await setAside()).toEqual(expected);
    expect((await journal.inspect()).setAside).toBe(2);
    expect(await Array.fromAsync(journalSources(state))).toEqual(['photos']);
  });

  it('are kept before a reading ends, or it does not end', async () => {
    await journal.append([upload('a')]);
    await append(Buffer.from('not a record'));
    const [info] = await journal.sealDue({ force: true });
    const full = intercepted(state, {
      before: (call, name) => {
        if (call === 'createFromStream' && name.startsWith(PREFIX)) throw new Error('no room');
      },
    });
    const reading = open(full).read(info!.batch);
    await expect(Array.fromAsync(reading)).rejects.toThrow('no room');
    expect(reading.report().complete).toBe(false);
  });

  it('are kept with the whole partition when there are many of them', async () => {
    await journal.append([upload('0')]);
    for (let each = 1; each <= 70; each += 1) {
      await append(Buffer.from('no record'));
      await journal.append([upload(each)]);
    }
    const [info] = await journal.sealDue({ force: true });
    const [blob] = await partitionBlobs(state, 'photos');
    expect(await pathsOf(journal, info!.batch)).toHaveLength(71);
    expect(await setAside()).toEqual({
      [`${info!.batch}-whole`]: (await state.read(blob!)).body.toString('latin1'),
    });
  });

  it('are asked for once more before they count as damaged', async () => {
    await journal.append(['a', 'b', 'c'].map((path) => upload(path)));
    const [info] = await journal.sealDue({ force: true });
    const [blob] = await partitionBlobs(state, 'photos');
    const { body } = await state.read(blob!);
    for (let bit = 0; bit < body.length * 8; bit += 7) {
      let spoilt = false;
      const bad = intercepted(state, {
        instead: async (call, name, args) => {
          if (call !== 'read' || name !== blob || spoilt) return undefined;
          spoilt = true;
          const answer = await state.read(name, args[1] as object);
          answer.body[bit >> 3] = (answer.body[bit >> 3] ?? 0) ^ (1 << (bit & 7));
          return answer;
        },
      });
      const reading = open(bad).read(info!.batch);
      expect(await Array.fromAsync(reading, ({ path }) => path)).toEqual(['a', 'b', 'c']);
      expect(reading.report()).toMatchObject({ corrupt: [], complete: true });
    }
    expect(await setAside()).toEqual({});
  });
});

describe('a batch whose partition was cut by the storage', () => {
  const paths = ['a', 'b', 'c'];
  let batch: string;
  let blob: string;
  let whole: Buffer;

  beforeEach(async () => {
    await journal.append(paths.map((path) => upload(path)));
    const [info] = await journal.sealDue({ force: true });
    const [only] = await partitionBlobs(state, 'photos');
    batch = info!.batch;
    blob = only!;
    whole = (await state.read(blob)).body;
  });

  it('anywhere, also between two records, has what is whole, and tells what is missing', async () => {
    const ends = [headerBytes('photos')];
    for (const path of paths) ends.push((ends.at(-1) ?? 0) + encodeRecord(upload(path)).length);
    expect(ends.at(-1)).toBe(whole.length);
    for (let end = 0; end < whole.length; end += 1) {
      account.overwrite('state', blob, whole.subarray(0, end));
      const reading = open().read(batch);
      expect(await Array.fromAsync(reading, ({ path }) => path)).toEqual(paths.filter((_, at) => ends[at + 1]! <= end));
      const offset = ends.findLast((each) => each <= end) ?? 0;
      const reason = offset === end || end === 0 ? 'cut' : end < ends[0]! ? 'header' : 'torn';
      const range = { offset, bytes: whole.length - offset, reason };
      expect(reading.report().corrupt).toEqual([range]);
      expect((await open().inspect()).corrupt).toMatchObject([range]);
      const kept = `journal-set-aside/photos/${batch}-${at(offset)}`;
      expect((await state.read(kept)).body).toEqual(whole.subarray(offset, end));
      await state.delete(kept);
    }
  });

  it('at its beginning has all records, and tells that its header is missing', async () => {
    account.overwrite('state', blob, whole.subarray(headerBytes('photos')));
    const reading = open().read(batch);
    expect(await Array.fromAsync(reading, ({ path }) => path)).toEqual(paths);
    expect(reading.report().corrupt).toContainEqual({ offset: 0, bytes: 0, reason: 'header' });
  });
});

describe('a batch whose partition is lost', () => {
  it('is forgotten when a person says so, with a note of it, and the source goes on', async () => {
    await journal.append([upload('a', 5)]);
    const [lost] = await journal.sealDue({ force: true });
    await journal.append([upload('b')]);
    await journal.sealDue({ force: true });
    const [blob] = await partitionBlobs(state, 'photos');
    await expect(journal.forget(lost!.batch)).rejects.toMatchObject({ code: 'FIRN_USAGE' });
    await state.delete(blob!);
    const reading = pathsOf(journal, lost!.batch);
    await expect(reading).rejects.toMatchObject({ code: 'FIRN_JOURNAL_DAMAGED' });
    await expect(reading).rejects.toHaveProperty('advice', expect.stringContaining(`--forget ${lost!.batch}`));
    await journal.forget(lost!.batch);
    expect(await allPaths(open())).toEqual(['b']);
    const { [`${lost!.batch}-forgotten`]: note, ...others } = await setAside();
    expect(JSON.parse(note!)).toMatchObject({
      format: 1,
      source: 'photos',
      partition: { partition: 1, records: 1, uploadBytes: 5, lastAt: expect.any(String) },
    });
    expect(others).toEqual({});
    const all = await Array.fromAsync(state.list({ prefix: 'journal/' }), ({ name }) => name);
    expect(all).not.toContain(`${blob}.filter`);
    await expect(journal.forget(lost!.batch)).rejects.toMatchObject({ code: 'FIRN_BLOB_MISSING' });
    await expect(journal.forget('0000000009-00000000')).rejects.toMatchObject({ code: 'FIRN_BLOB_MISSING' });
  });
});

it('a manifest that was damaged on the way is asked for once more, not made anew', async () => {
  await journal.append([upload('a')]);
  const { etag } = await state.properties('journal/photos/manifest');
  let spoilt = false;
  const bad = intercepted(state, {
    instead: async (call, name) => {
      if (call !== 'read' || !name.endsWith('/manifest') || spoilt) return undefined;
      spoilt = true;
      const answer = await state.read(name);
      return { ...answer, body: answer.body.subarray(0, -5) };
    },
  });
  expect(await open(bad).hasOpenRecords()).toBe(true);
  expect((await state.properties('journal/photos/manifest')).etag).toBe(etag);
});
