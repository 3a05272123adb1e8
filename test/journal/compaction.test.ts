import { beforeEach, describe, expect, it } from 'vitest';
import { parseFilter } from '../../src/journal/bloom-filter.ts';
import { type Journal, openJournal } from '../../src/journal/journal.ts';
import { emptyManifest, encodeManifest } from '../../src/journal/manifest.ts';
import { encodeHeader, encodeRecord, headerBytes, recordId } from '../../src/journal/partition.ts';
import { decodePartition } from '../../src/journal/partition-decoding.ts';
import type { JournalRecord } from '../../src/journal/record.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { createMemoryAccount, type MemoryAccount } from '../kit/memory-blob-store.ts';
import { dyingStore, ProcessDied } from '../kit/mortal.ts';
import {
  allPaths,
  type Clock,
  createClock,
  intercepted,
  numberOf,
  partitionBlobs,
  pathsOf,
  settings,
  upload,
} from './journal-kit.ts';

let clock: Clock;
let account: MemoryAccount;
let state: BlobStore;
let journal: Journal;
const open = (store = state, options: Partial<typeof settings> = {}) =>
  openJournal(store, 'photos', { ...settings, ...options }, { now: clock.now });
const removal = (path: string): JournalRecord => ({ kind: 'removal', path, nonce: `n ${path}` });
const everything = { isIdle: () => true };
const MANIFEST = 'journal/photos/manifest';
const names = (count: number) => Array.from({ length: count }, (_, at) => `file ${at}`);

async function appendBatches(batches: readonly (readonly JournalRecord[])[], of = journal): Promise<string[]> {
  const sealed: string[] = [];
  for (const records of batches) {
    await of.append(records);
    sealed.push(...(await of.sealDue({ force: true })).map(({ batch }) => batch));
    clock.ms += 1_000;
  }
  return sealed;
}
const small = (count: number) => names(count).map((name) => [upload(name)]);

beforeEach(() => {
  clock = createClock();
  account = createMemoryAccount({ now: () => clock.ms });
  state = account.container('state');
  journal = open();
});

describe('compacting batches that nobody works on', () => {
  it('makes one batch of them, in their place, and deletes theirs', async () => {
    const before = await appendBatches(small(10));
    await journal.append([upload('open')]);
    const compaction = await journal.compact(everything);
    expect(compaction).toMatchObject({ replaced: before, created: { records: 10, uploadBytes: 10 } });
    const { batch } = compaction!.created;
    expect(numberOf(batch)).toBe(10);
    expect(before).not.toContain(batch);
    expect(await open().batches()).toEqual([compaction!.created]);
    expect(await pathsOf(open(), batch)).toEqual(names(10));
    for (const old of before) await expect(pathsOf(journal, old)).rejects.toMatchObject({ code: 'FIRN_BLOB_MISSING' });
    expect(await partitionBlobs(state, 'photos')).toHaveLength(2);
    expect(await allPaths(open())).toEqual([...names(10), 'open']);
    expect(journal.metrics()).toMatchObject({ compactions: 1, compactionSwapMs: { last: expect.any(Number) } });
    expect(journal.metrics().compactionSwapMs.max).toBeGreaterThan(0);
  });

  it('keeps what is live and drops what is dead', async () => {
    const other: JournalRecord = { kind: 'upload', path: 'a', etag: '"2"', bytes: 1 };
    await appendBatches([
      [upload('a'), upload('d/x')],
      [upload('a')],
      [other],
      [removal('d')],
      ...small(5),
      [upload('d/y')],
    ]);
    const { created } = (await journal.compact(everything))!;
    expect(await Array.fromAsync(journal.read(created.batch))).toEqual([
      upload('a'),
      other,
      removal('d'),
      ...names(5).map((name) => upload(name)),
      upload('d/y'),
    ]);
    expect(created.records).toBe(9);
  });

  it('keeps the time of the first record in its header, names what it replaces at its end, and has a filter', async () => {
    const before = await appendBatches(small(8));
    const lastAt = new Date(clock.ms - 1_000);
    clock.ms += 50_000;
    const { created } = (await journal.compact(everything))!;
    const [blob] = await partitionBlobs(state, 'photos');
    const events = await Array.fromAsync(decodePartition([(await state.read(blob!)).body], { blob: blob! }));
    expect(events[0]).toEqual({
      kind: 'header',
      header: { source: 'photos', partition: 8, created: new Date('2024-01-01T00:00:00Z'), kind: 'compacted' },
    });
    expect(events.at(-1)).toMatchObject({ kind: 'control', record: { kind: 'end', replaces: before, records: 8 } });
    const filter = parseFilter((await state.read(`${blob}.filter`)).body);
    for (const name of names(8)) expect(filter?.mayContain(recordId(upload(name)))).toBe(true);
    const { partitions } = await journal.inspect();
    expect(partitions).toMatchObject([
      { partition: 8, compacted: true, created: new Date('2024-01-01T00:00:00Z'), lastAt, sealedAt: clock.now() },
    ]);
    expect(created.sealedAt).toEqual(clock.now());
  });

  it('lets others append and seal meanwhile, and loses nothing of it', async () => {
    await appendBatches(small(9));
    const other = open();
    let appended = 0;
    const busy = intercepted(state, {
      instead: async (call) => {
        if (call === 'list') return undefined;
        appended += 1;
        await other.append([upload(`meanwhile ${appended}`)]);
        if (appended % 7 === 0) await other.sealDue({ force: true });
        return undefined;
      },
    });
    expect(await open(busy).compact(everything)).toMatchObject({ created: { records: 9 } });
    expect(appended).toBeGreaterThan(20);
    const paths = await allPaths(open());
    expect(paths).toEqual([...names(9), ...Array.from({ length: appended }, (_, at) => `meanwhile ${at + 1}`)]);
  });

  it('again and again keeps a journal that nobody reads small', async () => {
    for (let round = 0; round < 100; round += 1) {
      await appendBatches([[upload(round)]]);
      await journal.compact(everything);
    }
    expect((await journal.batches()).length).toBeLessThan(8);
    expect(await allPaths(journal)).toEqual(Array.from({ length: 100 }, (_, at) => String(at)));
    await state.delete(MANIFEST);
    expect(await allPaths(open())).toEqual(Array.from({ length: 100 }, (_, at) => String(at)));
  });

  it('takes the same record for known afterwards', async () => {
    await appendBatches(small(8));
    await journal.compact(everything);
    const other = open();
    await other.append([upload('file 3'), upload('new')]);
    expect(other.metrics().duplicatesDropped).toBe(1);
    expect(await allPaths(journal)).toEqual([...names(8), 'new']);
  });
});

describe('what is not compacted', () => {
  it('is a batch that is not idle, held, damaged, lost, or written by a newer Firn', async () => {
    const batches = await appendBatches(small(9));
    const [, , third] = batches;
    expect(await journal.compact({ isIdle: ({ batch }) => batch !== third })).toBeUndefined();
    expect(await journal.hold([third!])).toEqual(new Set([third]));
    expect(await journal.compact(everything)).toBeUndefined();
    expect(await journal.batches()).toHaveLength(9);

    for (const spoil of [
      async (blob: string) => void (await state.delete(blob)),
      async (blob: string) => {
        const { body } = await state.read(blob);
        await state.delete(blob);
        await state.createAppend(blob, Buffer.concat([body, Buffer.from('no record')]));
      },
      async (blob: string) => {
        const { body } = await state.read(blob);
        await state.delete(blob);
        await state.createAppend(blob, body.subarray(0, headerBytes('photos')));
      },
      async (blob: string) => {
        const { body } = await state.read(blob);
        const newer = encodeRecord(upload('x'));
        newer.writeUInt8(9, 8);
        const { crc32 } = await import('node:zlib');
        newer.writeUInt32LE(crc32(newer.subarray(4, -4)), newer.length - 4);
        await state.delete(blob);
        await state.createAppend(blob, Buffer.concat([body, newer]));
      },
    ]) {
      account = createMemoryAccount({ now: () => clock.ms });
      state = account.container('state');
      journal = open();
      await appendBatches(small(10));
      const blobs = await partitionBlobs(state, 'photos');
      await spoil(blobs[5]!);
      expect(await journal.compact(everything)).toBeUndefined();
      expect(await journal.batches()).toHaveLength(10);
      await appendBatches(['v', 'w', 'x', 'y', 'z'].map((name) => [upload(name)]));
      expect(await journal.compact(everything)).toMatchObject({ created: { records: 9 } });
      expect(await journal.batches()).toHaveLength(7);
    }
  });

  it('is held for good, and what was compacted can be held no more', async () => {
    const batches = await appendBatches(small(17));
    expect(await open().hold([batches[8]!, '0000000099-00000000'])).toEqual(new Set([batches[8]]));
    const { replaced } = (await journal.compact(everything))!;
    expect(replaced).toEqual(batches.slice(0, 8));
    expect(await journal.hold(batches.slice(0, 9))).toEqual(new Set([batches[8]]));
    await journal.retire([batches[8]!]);
    expect(await journal.hold([batches[8]!])).toEqual(new Set());
  });

  it('is a compacted batch, as long as one that it stands for could not be deleted', async () => {
    await appendBatches(small(8));
    const [blob] = await partitionBlobs(state, 'photos');
    const lease = 'a0a0a0a0-0000-4000-8000-000000000000';
    await state.acquireLease(blob!, lease, 60);
    expect(await journal.compact(everything)).toMatchObject({ created: { records: 8 } });
    await appendBatches(Array.from({ length: 8 }, (_, at) => [upload(`more ${at}`)]));
    expect(await journal.compact(everything)).toBeUndefined();
    // Lost now, the manifest still comes back without what was compacted.
    const expected = [...names(8), ...Array.from({ length: 8 }, (_, at) => `more ${at}`)];
    const manifest = await state.read(MANIFEST);
    await state.delete(MANIFEST);
    expect(await allPaths(open())).toEqual(expected);
    await state.delete(MANIFEST);
    await state.create(MANIFEST, manifest.body);
    await state.releaseLease(blob!, lease);
    expect(await journal.compact(everything)).toMatchObject({ created: { records: 16 } });
    expect(await allPaths(open())).toEqual(expected);
  });

  it('is compacted by one of two, and the other leaves nothing behind', async () => {
    await appendBatches(small(9));
    const results = await Promise.all([open().compact(everything), open().compact(everything)]);
    expect(results.filter((result) => result !== undefined)).toHaveLength(1);
    expect(await partitionBlobs(state, 'photos')).toHaveLength(1);
    expect(await allPaths(open())).toEqual(names(9));
  });

  it.each([
    ['held', (of: Journal, batch: string) => of.hold([batch])],
    ['retired', (of: Journal, batch: string) => of.retire([batch])],
  ])('is a batch that is %s while it is compacted', async (_, meanwhile) => {
    const [first] = await appendBatches(small(9));
    let done = false;
    const late = intercepted(state, {
      instead: async (call) => {
        if (call === 'replace' && !done) {
          done = true;
          await meanwhile(open(), first!);
        }
        return undefined;
      },
    });
    expect(await open(late).compact(everything)).toBeUndefined();
    const paths = await allPaths(open());
    expect(paths.slice(-8)).toEqual(names(9).slice(1));
    expect(await partitionBlobs(state, 'photos')).toHaveLength(paths.length);
  });

  it('may be left meanwhile, and comes back compacted', async () => {
    await appendBatches(small(9));
    let done = false;
    const late = intercepted(state, {
      instead: async (call) => {
        if (call === 'replace' && !done) {
          done = true;
          await open().leave();
        }
        return undefined;
      },
    });
    expect(await open(late).compact(everything)).toMatchObject({ created: { records: 9 } });
    expect(await open().batches()).toEqual([]);
    expect(await open().rejoin()).toHaveLength(1);
    expect(await allPaths(open())).toEqual(names(9));
  });
});

describe('a compaction that dies', () => {
  /** Records in nine batches, one of them dead. */
  const batches = [[upload('x')], ...small(6), [upload('a')], [removal('a')]];
  const live = ['x', ...names(6), 'a'];

  for (const when of ['before', 'after'] as const) {
    for (const lost of [false, true]) {
      it(`${when} the effect of any call leaves the old or the new, whole${lost ? ', also when the manifest is lost then' : ''}`, async () => {
        let ended = false;
        let at = 1;
        for (; !ended; at += 1) {
          clock = createClock();
          account = createMemoryAccount({ now: () => clock.ms });
          state = account.container('state');
          await appendBatches(batches, open());
          const dying = open(dyingStore(state, at, when));
          await dying.compact(everything).then(
            () => {
              ended = true;
            },
            (error) => expect(error).toBeInstanceOf(ProcessDied),
          );
          const all = await state.list({ prefix: 'journal/' });
          const isSwapped = (await Array.fromAsync(all)).length < 2 * batches.length + 1;
          if (lost) await state.delete(MANIFEST);
          const next = open();
          clock.ms += 11 * 60_000;
          const paths = await allPaths(next);
          expect([...live.slice(0, 7), 'a', 'a'].slice(0, paths.length)).toEqual(paths);
          expect(paths.length).toBeGreaterThanOrEqual(live.length);
          const found = await next.batches();
          expect([1, batches.length]).toContain(found.length);
          if (isSwapped) expect(found).toHaveLength(1);
          await next.sealDue();
          expect(await partitionBlobs(state, 'photos')).toHaveLength(found.length);
          // And it can be done again.
          await next.compact(everything);
          expect(await allPaths(open())).toEqual([...live.slice(0, 7), 'a']);
        }
        expect(at).toBeGreaterThan(40);
      });
    }
  }

  it('leaves a partition that is no batch, however long it lies there, and goes when it is old', async () => {
    await appendBatches(small(8));
    const dying = intercepted(state, {
      before: (call) => {
        if (call === 'replace') throw new Error('the process is dead');
      },
    });
    await expect(open(dying).compact(everything)).rejects.toThrow('the process is dead');
    expect(await partitionBlobs(state, 'photos')).toHaveLength(9);
    // What it stands for is published meanwhile, and newer files with it.
    await journal.retire((await journal.batches()).map(({ batch }) => batch));
    await journal.append([upload('newer')]);
    expect(await journal.sealDue()).toEqual([]);
    expect(await partitionBlobs(state, 'photos')).toHaveLength(2);
    clock.ms += 10 * 60_000;
    expect(await open().sealDue()).toMatchObject([{ records: 1 }]);
    expect(await partitionBlobs(state, 'photos')).toHaveLength(1);
    expect(await allPaths(open())).toEqual(['newer']);
  });

  it('is overtaken by who clears up, if it was only slow: then it gives up', async () => {
    await appendBatches(small(8));
    let done = false;
    const slow = intercepted(state, {
      instead: async (call) => {
        if (call !== 'replace' || done) return undefined;
        done = true;
        clock.ms += 60 * 60_000;
        await open().sealDue();
        return undefined;
      },
    });
    expect(await open(slow).compact(everything)).toBeUndefined();
    expect(await allPaths(open())).toEqual(names(8));
    expect(await partitionBlobs(state, 'photos')).toHaveLength(8);
  });

  it('leaves one without its end that is never sealed, also when the manifest is made anew', async () => {
    await appendBatches(small(8));
    const unfinished = 'journal/photos/0000000008-abcdef01';
    const header = encodeHeader({ source: 'photos', partition: 8, created: clock.now(), kind: 'compacted' });
    await state.createAppend(unfinished, Buffer.concat([header, encodeRecord(removal('file 1'))]));
    let sealed = false;
    const watched = intercepted(state, {
      before: (call, name) => {
        if (call === 'seal' && name === unfinished) sealed = true;
      },
    });
    await state.delete(MANIFEST);
    expect(await allPaths(open(watched))).toEqual(names(8));
    await open(watched).sealDue();
    expect(sealed).toBe(false);
    expect(await partitionBlobs(state, 'photos')).toHaveLength(8);
  });
});

describe('the manifest of an older copy', () => {
  /** A manifest of `known` of eight batches, which were compacted since. @param isOpen the next one has an active partition. */
  async function bringBack(known: number, isOpen = false): Promise<void> {
    await appendBatches(small(8).slice(0, known));
    if (isOpen) await journal.append(small(8)[known] ?? []);
    const copy = await state.read(MANIFEST).catch(() => undefined);
    if (isOpen) await journal.sealDue({ force: true });
    await appendBatches(small(8).slice(isOpen ? known + 1 : known));
    expect(await journal.compact(everything)).toMatchObject({ created: { records: 8 } });
    expect(await partitionBlobs(state, 'photos')).toHaveLength(1);
    account.overwrite('state', MANIFEST, copy?.body ?? encodeManifest(emptyManifest, '0123456789abcdef'));
    clock.ms += 11 * 60_000;
  }

  it('a manifest that was brought back from before a compaction finds its records in the compacted partition', async () => {
    for (let known = 0; known <= 8; known += 1) {
      for (const isOpen of known < 8 ? [false, true] : [false]) {
        account = createMemoryAccount({ now: () => clock.ms });
        state = account.container('state');
        journal = open();
        await bringBack(known, isOpen);
        expect(await open().sealDue()).toMatchObject([{ records: 8 }]);
        expect(await allPaths(open())).toEqual(names(8));
        expect(await partitionBlobs(state, 'photos')).toHaveLength(1);
        await open().append([upload('later')]);
        expect(await allPaths(open())).toEqual([...names(8), 'later']);
      }
    }
  });

  it('finds them also when others recorded more before anybody looked', async () => {
    await bringBack(5);
    const more = names(6).map((name) => `more ${name}`);
    for (const path of more) await open(state, { recordsMax: 1 }).append([upload(path)]);
    expect(await open().sealDue()).toMatchObject([{ records: 8 }]);
    expect(await allPaths(open())).toEqual([...names(8), ...more]);
  });

  it('does not read twice what a compaction could not delete', async () => {
    await appendBatches(small(5));
    const { body } = await state.read(MANIFEST);
    const [kept] = await partitionBlobs(state, 'photos');
    const lease = 'a0a0a0a0-0000-4000-8000-000000000000';
    await state.acquireLease(kept!, lease, 60);
    await appendBatches([[upload('file 5')], [upload('file 6')], [upload('file 7')]]);
    await journal.compact(everything);
    await state.releaseLease(kept!, lease);
    account.overwrite('state', MANIFEST, body);
    clock.ms += 11 * 60_000;
    expect(await open().sealDue()).toMatchObject([{ records: 8 }]);
    expect(await allPaths(open())).toEqual(names(8));
    expect(await partitionBlobs(state, 'photos')).toHaveLength(1);
  });
});

it('a compacted partition that nobody named goes also when a part of what it stands for was published since', async () => {
  const batches = await appendBatches(small(8));
  const dying = intercepted(state, {
    before: (call) => {
      if (call === 'replace') throw new Error('the process is dead');
    },
  });
  await expect(open(dying).compact(everything)).rejects.toThrow('the process is dead');
  await journal.retire(batches.slice(0, 3));
  clock.ms += 11 * 60_000;
  expect(await open().sealDue()).toEqual([]);
  expect(await allPaths(open())).toEqual(names(8).slice(3));
  expect(await partitionBlobs(state, 'photos')).toHaveLength(5);
});

describe('a compacted partition whose end is damaged', () => {
  /** Flips a bit of the last record of the only compacted partition. */
  async function damageEnd(blob: string): Promise<void> {
    const { body } = await account.container('state').read(blob);
    const bytes = Buffer.from(body);
    bytes[bytes.length - 10]! ^= 1;
    account.overwrite('state', blob, bytes);
  }

  it('is a batch with what is whole in it when the manifest is lost: it was whole once, for it is sealed', async () => {
    await appendBatches(small(8));
    await journal.compact(everything);
    const [blob] = await partitionBlobs(state, 'photos');
    await damageEnd(blob!);
    await state.delete(MANIFEST);
    const other = open();
    expect(await allPaths(other)).toEqual(names(8));
    await other.sealDue();
    const [{ batch } = { batch: '' }] = await other.batches();
    const reading = other.read(batch);
    await Array.fromAsync(reading);
    expect(reading.report().corrupt).toHaveLength(1);
  });

  it('and that nobody named goes, unless a manifest from before it names what is gone', async () => {
    for (const isOlder of [false, true]) {
      await appendBatches(small(8));
      const { body } = await state.read(MANIFEST);
      const before = await partitionBlobs(state, 'photos');
      if (isOlder) await journal.compact(everything);
      else {
        const dying = intercepted(state, {
          before: (call) => {
            if (call === 'replace') throw new Error('the process is dead');
          },
        });
        await expect(open(dying).compact(everything)).rejects.toThrow('the process is dead');
      }
      const [blob] = (await partitionBlobs(state, 'photos')).filter((name) => !before.includes(name));
      await damageEnd(blob!);
      await state.delete(MANIFEST);
      await state.create(MANIFEST, body);
      clock.ms += 11 * 60_000;
      await open().sealDue();
      const left = await partitionBlobs(state, 'photos');
      expect(left).toEqual(isOlder ? [blob] : before);
      // For the next round.
      for (const name of left) await state.delete(name);
      await state.delete(MANIFEST);
      journal = open();
    }
  });

  /** A manifest of five batches; a compacted partition of eight, with a damaged end; and nothing else. */
  async function bringBackOlder(): Promise<void> {
    await appendBatches(small(5));
    const { body } = await state.read(MANIFEST);
    await appendBatches([[upload('file 5')], [upload('file 6')], [upload('file 7')]]);
    await journal.compact(everything);
    const [blob] = await partitionBlobs(state, 'photos');
    await damageEnd(blob!);
    account.overwrite('state', MANIFEST, body);
    clock.ms += 11 * 60_000;
  }

  it('does not stand for what was held, nor goes because of it', async () => {
    const [first, ...others] = await appendBatches(small(9));
    await journal.hold([first!]);
    const { body } = await state.read(MANIFEST);
    const [held] = await partitionBlobs(state, 'photos');
    expect(await journal.compact(everything)).toMatchObject({ replaced: others });
    await state.delete(held!);
    const [blob] = await partitionBlobs(state, 'photos');
    await damageEnd(blob!);
    account.overwrite('state', MANIFEST, body);
    clock.ms += 11 * 60_000;
    const [found] = await open().sealDue();
    expect(await pathsOf(open(), found!.batch)).toEqual(names(9).slice(1));
    expect((await open().batches()).map(({ batch }) => batch)).toEqual([first, found!.batch]);
    await expect(pathsOf(open(), first!)).rejects.toMatchObject({ code: 'FIRN_JOURNAL_DAMAGED' });
  });

  it('is what is left, also for a manifest that knows nothing of what it stands for', async () => {
    await appendBatches(small(8));
    await journal.compact(everything);
    const [blob] = await partitionBlobs(state, 'photos');
    await damageEnd(blob!);
    account.overwrite('state', MANIFEST, encodeManifest(emptyManifest, '0123456789abcdef'));
    clock.ms += 11 * 60_000;
    expect(await open().sealDue()).toMatchObject([{ records: 8 }]);
    expect(await allPaths(open())).toEqual(names(8));
  });

  it('does not stand for a batch with a greater number that was lost', async () => {
    const batches = await appendBatches(small(10));
    const { body } = await state.read(MANIFEST);
    const lost = (await partitionBlobs(state, 'photos')).at(-1);
    const first = new Set(batches.slice(0, 8));
    expect(await journal.compact({ isIdle: ({ batch }) => first.has(batch) })).toMatchObject({
      created: { records: 8 },
    });
    const [blob] = await partitionBlobs(state, 'photos');
    await damageEnd(blob!);
    await state.delete(lost!);
    account.overwrite('state', MANIFEST, body);
    clock.ms += 11 * 60_000;
    const [found] = await open().sealDue();
    expect((await open().batches()).map(({ batch }) => batch)).toEqual([found?.batch, ...batches.slice(8)]);
    await expect(pathsOf(open(), batches[9]!)).rejects.toMatchObject({ code: 'FIRN_JOURNAL_DAMAGED' });
  });

  it('does not stand for what others record while it is taken up', async () => {
    await bringBackOlder();
    const meanwhile = ['new 0', 'new 1', 'new 2'];
    let done = false;
    const busy = intercepted(state, {
      instead: async (call, name) => {
        if (call !== 'replace' || name !== MANIFEST || done) return undefined;
        done = true;
        for (const path of meanwhile) await open(state, { recordsMax: 1 }).append([upload(path)]);
        return undefined;
      },
    });
    await open(busy).sealDue();
    expect(await allPaths(open())).toEqual([...names(8), ...meanwhile]);
  });
});

describe('a compacted partition that lost a record', () => {
  async function damageFirst(blob: string): Promise<void> {
    const bytes = Buffer.from((await state.read(blob)).body);
    bytes[headerBytes('photos') + 10]! ^= 1;
    account.overwrite('state', blob, bytes);
  }

  it.each(['lost', 'older'])('takes no place of a batch that is there when the manifest is %s', async (fault) => {
    await appendBatches(small(8));
    const { body } = await state.read(MANIFEST);
    const [kept] = await partitionBlobs(state, 'photos');
    await state.acquireLease(kept!, 'a0a0a0a0-0000-4000-8000-000000000000', 60);
    await journal.compact(everything);
    const compacted = (await partitionBlobs(state, 'photos')).find((name) => name !== kept);
    await damageFirst(compacted!);
    if (fault === 'lost') await state.delete(MANIFEST);
    else account.overwrite('state', MANIFEST, body);
    clock.ms += 11 * 60_000;
    await open().sealDue();
    expect((await allPaths(open())).sort()).toEqual(names(8));
  });
});

it('what was left is given up after a week, and not before', async () => {
  await appendBatches(small(3));
  await journal.leave();
  clock.ms += 7 * 24 * 3_600_000 - 60_000;
  await open().sealDue();
  expect(await open().rejoin()).toHaveLength(3);
  await journal.leave();
  clock.ms += 7 * 24 * 3_600_000;
  for (let round = 0; round < 3; round += 1) await open().sealDue();
  expect(await open().rejoin()).toEqual([]);
  expect(await partitionBlobs(state, 'photos')).toEqual([]);
});

it('what was left is kept for a week by the time of the storage, whatever the machines take for the time', async () => {
  const dayMs = 24 * 3_600_000;
  const openAt = (offMs: number) =>
    openJournal(state, 'photos', settings, { now: () => new Date(clock.now().getTime() + offMs) });
  for (const [leaving, clearing] of [
    [-30 * dayMs, 0],
    [0, 30 * dayMs],
    [30 * dayMs, 0],
  ] as const) {
    await appendBatches(small(3));
    await openAt(leaving).leave();
    clock.ms += 6 * dayMs;
    await openAt(clearing).sealDue();
    expect(await open().rejoin()).toHaveLength(3);
    await openAt(leaving).leave();
    clock.ms += 7 * dayMs + 1_000;
    for (let round = 0; round < 3; round += 1) await openAt(clearing).sealDue();
    expect(await open().rejoin()).toEqual([]);
    expect(await partitionBlobs(state, 'photos')).toEqual([]);
  }
});
