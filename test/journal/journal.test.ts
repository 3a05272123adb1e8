import { beforeEach, describe, expect, it } from 'vitest';
import { type Journal, journalSources, openJournal } from '../../src/journal/journal.ts';
import { journalLimits } from '../../src/journal/journal-parts.ts';
import { createJournals } from '../../src/journal/journals.ts';
import { sourceNameProblem } from '../../src/journal/source-name.ts';
import { numberSettings } from '../../src/settings.ts';
import { type BlobStore, BlobStoreError } from '../../src/storage/blob-store.ts';
import { encodeCheckedJson } from '../../src/storage/json-blob.ts';
import {
  allPaths,
  type Clock,
  createClock,
  createState,
  intercepted,
  partitionBlobs,
  pathsOf,
  settings,
  upload,
} from './journal-kit.ts';

/** Matches the name of the batch with this number. */
const named = (digits: string): string => expect.stringMatching(new RegExp(`^${digits}-[0-9a-f]{8}$`));
const names = (count: number) => Array.from({ length: count }, (_, at) => `file ${at}`);

let clock: Clock;
let state: BlobStore;
let journal: Journal;
const open = (options: Partial<typeof settings> = {}, store = state) =>
  openJournal(store, 'photos', { ...settings, ...options }, { now: clock.now });

beforeEach(() => {
  clock = createClock();
  state = createState(clock);
  journal = open();
});

describe('appending and reading', () => {
  it('gives back what was appended, in order, from another process', async () => {
    await journal.append([upload('a', 3), { kind: 'removal', path: 'a', nonce: 'n' }]);
    await journal.append([upload('b', 4)]);
    const [info] = await open().sealDue({ force: true });
    expect(info).toEqual({ batch: named('0000000001'), sealedAt: clock.now(), records: 3, uploadBytes: 7 });
    const reading = open().read(info!.batch);
    expect(await Array.fromAsync(reading)).toEqual([
      upload('a', 3),
      { kind: 'removal', path: 'a', nonce: 'n' },
      upload('b', 4),
    ]);
    expect(reading.report()).toEqual({ records: 3, duplicates: 0, corrupt: [], unknown: [], complete: true });
    expect(await open().batches()).toEqual([info]);
  });

  it('writes the records of concurrent calls together, and each once', async () => {
    let appends = 0;
    const counted = intercepted(state, {
      before: (call) => {
        if (call === 'append') appends += 1;
      },
    });
    const writer = open({ recordsMax: 40_000 }, counted);
    await Promise.all(names(2000).map((name) => writer.append([upload(name)])));
    expect(appends).toBeLessThanOrEqual(2);
    expect(await allPaths(journal)).toEqual(names(2000));
  });

  it('cuts what does not fit into one append of 4 MiB', async () => {
    const long = names(200).map((name) => name + 'x'.repeat(60_000));
    await journal.append(long.map((name) => upload(name)));
    expect(await allPaths(journal)).toEqual(long);
  });

  it('drops the second record of the same event, and says so', async () => {
    await journal.append([upload('a'), upload('b')]);
    await open().append([upload('a')]);
    const [info] = await journal.sealDue({ force: true });
    const reading = journal.read(info!.batch);
    expect(await Array.fromAsync(reading)).toEqual([upload('a'), upload('b')]);
    expect(reading.report()).toMatchObject({ records: 2, duplicates: 1 });
  });

  it('reads on behind damaged bytes, and says where they are', async () => {
    await journal.append([upload('a')]);
    const [blob] = await partitionBlobs(state, 'photos');
    const { offset } = await state.append(blob!, Buffer.from('not a record'));
    await journal.append([upload('b')]);
    const [info] = await journal.sealDue({ force: true });
    const reading = journal.read(info!.batch);
    expect(await Array.fromAsync(reading, ({ path }) => path)).toEqual(['a', 'b']);
    expect(reading.report()).toMatchObject({ records: 2, corrupt: [{ offset, bytes: 12, reason: 'marker' }] });
  });

  it('refuses records that are too large before it writes any', async () => {
    const records = [upload('a'), upload('x'.repeat(70_000))];
    await expect(journal.append(records)).rejects.toMatchObject({ code: 'FIRN_PATH_UNUSABLE' });
    expect(await journal.hasOpenRecords()).toBe(false);
  });

  it('may write a record twice when the answer to an append is lost, which reading does not show', async () => {
    let failing = true;
    const lossy = intercepted(state, {
      after: (call) => {
        if (call === 'append' && failing) throw new Error('the answer was lost');
      },
    });
    const writer = open({}, lossy);
    await expect(writer.append([upload('a')])).rejects.toThrow('the answer was lost');
    failing = false;
    await writer.append([upload('a')]);
    expect(await allPaths(journal)).toEqual(['a']);
  });

  it('does not write the records of a call that was cancelled while they waited', async () => {
    const controller = new AbortController();
    const first = journal.append([upload('a')]);
    const second = journal.append([upload('b')], { signal: controller.signal });
    controller.abort();
    await expect(second).rejects.toMatchObject({ name: 'AbortError' });
    await first;
    await journal.append([upload('c')]);
    expect(await allPaths(journal)).toEqual(['a', 'c']);
    await expect(journal.append([upload('d')], { signal: controller.signal })).rejects.toMatchObject({
      name: 'AbortError',
    });
  });
});

describe('sealing', () => {
  it('makes a batch of every `recordsMax` records, and names it to one caller', async () => {
    const small = open({ recordsMax: 10 });
    const results = await Promise.all(names(35).map((name) => small.append([upload(name)])));
    const sealed = results.flatMap((result) => result.sealed);
    expect(sealed).toEqual([named('0000000001'), named('0000000002'), named('0000000003')]);
    expect((await journal.batches()).map(({ batch }) => batch)).toEqual(sealed);
    expect((await journal.batches()).map(({ records }) => records)).toEqual([10, 10, 10]);
    expect(await allPaths(journal)).toEqual(names(35));
  });

  it('counts what other processes append towards `recordsMax`', async () => {
    const writers = [open({ recordsMax: 10 }), open({ recordsMax: 10 })];
    const sealed: string[] = [];
    for (const [at, name] of names(20).entries())
      sealed.push(...(await writers[at % 2]!.append([upload(name)])).sealed);
    expect(sealed).toEqual([named('0000000001'), named('0000000002')]);
  });

  it('makes a batch when the uploads announce enough bytes', async () => {
    await journal.append([upload('a', 999_999)]);
    expect(await journal.sealDue()).toEqual([]);
    expect((await journal.append([upload('b', 1)])).sealed).toEqual([named('0000000001')]);
  });

  it('makes a batch of a quiet partition when its first record is old enough, not of an empty one', async () => {
    expect(await journal.sealDue({ force: true })).toEqual([]);
    await journal.append([upload('a')]);
    clock.ms += 59_999;
    expect(await open().sealDue()).toEqual([]);
    expect(await open().hasOpenRecords()).toBe(true);
    clock.ms += 1;
    expect(await open().sealDue()).toMatchObject([{ batch: named('0000000001'), records: 1 }]);
    expect(await open().hasOpenRecords()).toBe(false);
    clock.ms += 1_000_000;
    expect(await open().sealDue({ force: true })).toEqual([]);
    await journal.append([upload('b')]);
    clock.ms += 59_999;
    expect(await open().sealDue()).toEqual([]);
  });

  it('follows settings that changed, though others appended', async () => {
    await journal.append(names(5).map((name) => upload(name, 10)));
    expect(await journal.sealDue()).toEqual([]);
    expect(await open({ recordsMax: 6 }).sealDue()).toEqual([]);
    expect(await open({ recordsMax: 5 }).sealDue()).toHaveLength(1);
    await journal.append(names(5).map((name) => upload(`again ${name}`, 10)));
    expect(await open({ uploadBytesMax: 51 }).sealDue()).toEqual([]);
    expect(await open({ uploadBytesMax: 50 }).sealDue()).toHaveLength(1);
  });

  it('takes no setting that would make it seal for ever or never', async () => {
    const odd = open({ recordsMax: 0, uploadBytesMax: 0 });
    await odd.append([upload('a'), upload('b')]);
    expect(await allPaths(journal)).toEqual(['a', 'b']);
    const many = open({ recordsMax: 1_000_000 });
    const { sealed } = await many.append(Array.from({ length: 40_001 }, (_, at) => upload(at, 0)));
    expect(sealed).toHaveLength(1);
  });

  it.each([0, -1, Number.NEGATIVE_INFINITY, Number.NaN, 0.5, 1e300, Number.POSITIVE_INFINITY])(
    'keeps every record and comes to an end with settings of %d',
    async (nonsense) => {
      const odd = open({ recordsMax: nonsense, uploadBytesMax: nonsense, ageSecondsMax: nonsense });
      for (const name of names(5)) await odd.append([upload(name)]);
      clock.ms += 86_400_000;
      await odd.sealDue();
      expect(await odd.hasOpenRecords()).toBe(false);
      expect((await odd.batches()).length).toBeLessThanOrEqual(5);
      expect(await allPaths(open())).toEqual(names(5));
    },
  );

  it('has the limits of the settings that it is given', () => {
    const { batchRecordsMax, batchBytesMax, batchAgeSecondsMax } = numberSettings;
    const limitsOf = ({ min, max }: { min: number; max: number }) => ({ min, max });
    expect(journalLimits).toEqual({
      recordsMax: limitsOf(batchRecordsMax),
      uploadBytesMax: limitsOf(batchBytesMax),
      ageSecondsMax: limitsOf(batchAgeSecondsMax),
    });
  });

  it('by age comes in time whichever clock is wrong, and not early for a small difference', async () => {
    const at = (ms: number) => openJournal(state, 'photos', settings, { now: () => new Date(clock.ms + ms) });
    const hour = 3_600_000;
    for (const ahead of [59_999, 0, -59_999]) {
      // The creator's clock is ahead of, or behind, that of who seals.
      await at(ahead).append([upload(`small ${ahead}`)]);
      expect(await at(0).sealDue()).toEqual([]);
      clock.ms += 60_000 + Math.max(0, ahead);
      expect(await at(0).sealDue()).toHaveLength(1);
    }
    for (const ahead of [60_000, hour, 1e4 * hour, -60_000, -hour]) {
      await at(ahead).append([upload(`large ${ahead}`)]);
      expect(await at(0).sealDue()).toHaveLength(1);
      expect(await at(0).sealDue()).toEqual([]);
    }
    // The clock of this machine goes back while a record waits.
    await journal.append([upload('before')]);
    clock.ms -= 24 * hour;
    expect(await journal.sealDue()).toHaveLength(1);
    await journal.append([upload('after')]);
    expect(await journal.sealDue()).toEqual([]);
    clock.ms += 60_000;
    expect(await journal.sealDue()).toHaveLength(1);
    expect(await allPaths(journal)).toHaveLength(10);
  });

  it('goes on in the next partition when another process sealed the one it knows', async () => {
    await journal.append([upload('a')]);
    await open().sealDue({ force: true });
    await journal.append([upload('b')]);
    const [second] = await open().sealDue({ force: true });
    expect(second!.batch).toEqual(named('0000000002'));
    await open().retire([second!.batch]);
    await journal.append([upload('c')]);
    expect(await allPaths(journal)).toEqual(['a', 'c']);
    expect((await journal.batches()).map(({ batch }) => batch)).toEqual([named('0000000001'), named('0000000003')]);
  });

  it('goes on when an append blob takes no more blocks', async () => {
    let full = true;
    const writer = open(
      {},
      intercepted(state, {
        before: (call, name) => {
          if (call === 'append' && full && name.includes('0000000001')) throw new BlobStoreError('full', name);
        },
      }),
    );
    await journal.append([upload('a')]);
    expect((await writer.append([upload('b')])).sealed).toEqual([named('0000000001')]);
    full = false;
    expect(await allPaths(journal)).toEqual(['a', 'b']);
  });

  it('acknowledges what is durable even when the partition cannot be sealed then', async () => {
    let failing = true;
    const writer = open(
      { recordsMax: 1 },
      intercepted(state, {
        before: (call, name) => {
          if (call === 'seal' && failing) throw new BlobStoreError('leased', name);
        },
      }),
    );
    expect(await writer.append([upload('a')])).toEqual({ sealed: [] });
    failing = false;
    expect((await writer.append([upload('b')])).sealed).toEqual([named('0000000001')]);
    expect(await allPaths(journal)).toEqual(['a', 'b']);
  });
});

describe('retiring', () => {
  /** The name of a batch of the same number that is another. */
  const withOtherDigits = (batch: string) => batch.slice(0, -1) + (batch.endsWith('0') ? '1' : '0');

  it('deletes batches for good, passes over unknown ones, and never gives a number twice', async () => {
    for (const name of names(3)) {
      await journal.append([upload(name)]);
      await journal.sealDue({ force: true });
    }
    const [first, second, third] = (await journal.batches()).map(({ batch }) => batch);
    const unknown = ['0000000009-00000000', '0000000002', withOtherDigits(second!)];
    await journal.retire([first!, third!, ...unknown]);
    await journal.retire([first!]);
    expect((await journal.batches()).map(({ batch }) => batch)).toEqual([second]);
    expect(second).toEqual(named('0000000002'));
    expect(await partitionBlobs(state, 'photos')).toHaveLength(1);
    for (const batch of [first!, ...unknown])
      await expect(pathsOf(journal, batch)).rejects.toMatchObject({ code: 'FIRN_BLOB_MISSING' });
    await journal.retire([second!]);
    expect(await partitionBlobs(state, 'photos')).toEqual([]);
    await open().append([upload('later')]);
    expect(await open().sealDue({ force: true })).toMatchObject([{ batch: named('0000000004') }]);
  });

  it('does not touch a partition that is not sealed', async () => {
    await journal.append([upload('a')]);
    const [blob] = await partitionBlobs(state, 'photos');
    const batch = blob!.slice('journal/photos/'.length);
    await journal.retire([batch]);
    await expect(pathsOf(journal, batch)).rejects.toMatchObject({ code: 'FIRN_BLOB_MISSING' });
    expect(await allPaths(journal)).toEqual(['a']);
    expect(await journal.batches()).toMatchObject([{ batch }]);
  });

  it('tells a batch that was lost from one that was retired', async () => {
    await journal.append([upload('a')]);
    await journal.append([upload('b')]);
    const [info] = await journal.sealDue({ force: true });
    for (const name of await partitionBlobs(state, 'photos')) await state.delete(name);
    await expect(pathsOf(journal, info!.batch)).rejects.toMatchObject({ code: 'FIRN_JOURNAL_DAMAGED' });
    expect(await journal.batches()).toHaveLength(1);
  });

  it('makes a batch that says so of an active partition that was lost', async () => {
    await journal.append([upload('a')]);
    for (const name of await partitionBlobs(state, 'photos')) await state.delete(name);
    const { sealed } = await journal.append([upload('b')]);
    expect(sealed).toEqual([named('0000000001')]);
    await expect(pathsOf(journal, sealed[0]!)).rejects.toMatchObject({ code: 'FIRN_JOURNAL_DAMAGED' });
    const [next] = await journal.sealDue({ force: true });
    expect(next!.batch).toEqual(named('0000000002'));
    expect(await pathsOf(journal, next!.batch)).toEqual(['b']);
  });

  it('refuses a partition that belongs to another journal', async () => {
    await journal.append([upload('a')]);
    const [info] = await journal.sealDue({ force: true });
    const other = openJournal(state, 'music', settings, { now: clock.now });
    await other.append([upload('b')]);
    await other.sealDue({ force: true });
    const [mine, theirs] = [await partitionBlobs(state, 'photos'), await partitionBlobs(state, 'music')];
    const { body } = await state.read(theirs[0]!);
    await state.delete(mine[0]!);
    await state.create(mine[0]!, body);
    await expect(pathsOf(journal, info!.batch)).rejects.toMatchObject({ code: 'FIRN_JOURNAL_DAMAGED' });
  });
});

describe('the manifest', () => {
  const manifest = 'journal/photos/manifest';

  /** As an older Firn wrote it. */
  const withoutChecksum = (body: Buffer) => body.toString().replace(/,"crc32":"\w+"\}$/, '}');

  async function replaceManifest(body: string): Promise<void> {
    await state.delete(manifest);
    await state.create(manifest, Buffer.from(body));
  }

  it('is rebuilt from the partitions when it is missing or damaged, with the same batches', async () => {
    const small = open({ recordsMax: 2 });
    for (const name of names(5)) await small.append([upload(name)]);
    const [first] = await small.batches();
    expect(first!.batch).toEqual(named('0000000001'));
    await small.retire([first!.batch]);
    const before = await small.batches();
    expect(before).toMatchObject([{ batch: named('0000000002') }]);
    const { body } = await state.read(manifest);
    const text = withoutChecksum(body);
    for (const damaged of [
      undefined,
      '',
      '{}',
      text.slice(0, -9),
      text.replace('"active"', '"asleep"'),
      text.replace(/"next":\d+/, '"next":1'),
    ]) {
      if (damaged === undefined) await state.delete(manifest);
      else await replaceManifest(damaged);
      const batches = await open().batches();
      expect(batches.slice(0, 1)).toMatchObject(before.map(({ batch, records }) => ({ batch, records })));
      // What was open is a batch now, and late writers go on behind it.
      expect(batches).toHaveLength(2);
      expect(batches[1]!.batch).toEqual(named('0000000003'));
      expect(await pathsOf(open(), batches[1]!.batch)).toEqual(['file 4']);
      await replaceManifest(text);
    }
    await state.delete(manifest);
    await small.append([upload('late')]);
    expect((await allPaths(journal)).slice(2)).toEqual(['file 4', 'late']);
  });

  it('of a newer format is refused', async () => {
    await replaceManifest(encodeCheckedJson({ format: 2 }).toString());
    await expect(journal.append([upload('a')])).rejects.toMatchObject({ code: 'FIRN_REPOSITORY_NEWER' });
    await expect(journal.batches()).rejects.toMatchObject({ code: 'FIRN_REPOSITORY_NEWER' });
  });

  it('takes up partitions that it does not know, once they are left alone, under a number that is new', async () => {
    await journal.append([upload('a')]);
    await journal.sealDue({ force: true });
    const { body } = await state.read(manifest);
    await journal.append([upload('b')]);
    // As if the manifest had been brought back from an old copy.
    await replaceManifest(withoutChecksum(body).replace('"next":2', '"next":7'));
    await open().append([upload('c')]);
    expect(await open().sealDue()).toEqual([]);
    clock.ms += 10 * 60_000;
    const sealed = await open().sealDue();
    expect(sealed.map(({ batch }) => batch)).toEqual([named('0000000007'), named('0000000008')]);
    expect(await allPaths(journal)).toEqual(['a', 'c', 'b']);
    expect(await open().sealDue({ force: true })).toEqual([]);
  });

  it('that is brought back from an older copy while others write by the newer one loses nothing of either', async () => {
    const [early, late] = [open({ recordsMax: 3 }), open({ recordsMax: 3 })];
    const expected: string[] = [];
    const append = async (of: Journal, ...paths: string[]) => {
      for (const path of paths) await of.append([upload(path)]);
      expected.push(...paths);
    };
    await append(early, 'a', 'b', 'c', 'd');
    const { body } = await state.read(manifest);
    await append(early, 'e', 'f', 'g', 'h');
    await replaceManifest(body.toString());
    // One goes on by what it knows, the other by what it reads: each has a partition that the other does not know of.
    for (let round = 0; round < 4; round += 1) {
      await append(early, `early ${round}`);
      await append(late, `late ${round}`);
    }
    clock.ms += 11 * 60_000;
    await open().sealDue();
    expect((await allPaths(open())).toSorted()).toEqual(expected.toSorted());
    const batches = (await open().batches()).map(({ batch }) => batch);
    expect(await partitionBlobs(state, 'photos')).toHaveLength(batches.length);
    expect(new Set(batches.map((batch) => batch.slice(0, 10))).size).toBe(batches.length);
  });

  it('knows its own write again when the answer was lost', async () => {
    let failing = true;
    const lossy = intercepted(state, {
      after: (call, name) => {
        if (!failing || name !== manifest || (call !== 'create' && call !== 'replace')) return;
        throw new BlobStoreError(call === 'create' ? 'exists' : 'changed', name);
      },
    });
    const writer = open({ recordsMax: 1 }, lossy);
    expect((await writer.append([upload('a')])).sealed).toEqual([named('0000000001')]);
    failing = false;
    expect(await partitionBlobs(state, 'photos')).toHaveLength(1);
  });
});

it('a journal that was lost altogether begins anew with batch names that never were', async () => {
  const sealAll = async (files: readonly string[], writer: Journal) => {
    const sealed: string[] = [];
    for (const file of files) {
      await writer.append([upload(file)]);
      sealed.push(...(await writer.sealDue({ force: true })).map(({ batch }) => batch));
    }
    return sealed;
  };
  const numbered = [named('0000000001'), named('0000000002'), named('0000000003')];
  const lost = await sealAll(names(3), journal);
  expect(lost).toEqual(numbered);
  await journal.append([upload('open')]);
  const blobs = await Array.fromAsync(state.list({ prefix: '' }), ({ name }) => name);
  for (const name of blobs) await state.delete(name);

  // One that lived on, then one that knows nothing of before: the numbers are the same again, the names are not.
  const anew = [...(await sealAll(['new 0'], journal)), ...(await sealAll(['new 1', 'new 2'], open()))];
  expect(anew).toEqual(numbered);
  for (const batch of anew) expect(lost).not.toContain(batch);
  for (const batch of lost) await expect(pathsOf(journal, batch)).rejects.toMatchObject({ code: 'FIRN_BLOB_MISSING' });
  await journal.retire(lost);
  expect(await allPaths(journal)).toEqual(['new 0', 'new 1', 'new 2']);
  expect((await journal.batches()).map(({ batch }) => batch)).toEqual(anew);
});

describe('sources', () => {
  it('are those that have a journal', async () => {
    const journals = createJournals(state, settings);
    for (const source of ['b', 'a', 'C']) await journals.of(source).append([upload('x')]);
    expect(journals.of('a')).toBe(journals.of('a'));
    expect(await Array.fromAsync(journalSources(state))).toEqual(['C', 'a', 'b']);
  });

  it('have names that fit into blob names', () => {
    for (const good of ['a', 'A1', '0', 'a.b-c_d', 'x'.repeat(63)]) expect(sourceNameProblem(good)).toBeUndefined();
    for (const bad of ['', '.', '..', '-a', '_a', 'a/b', 'a b', 'ä', 'a\n', 'x'.repeat(64)]) {
      expect(sourceNameProblem(bad)).toEqual(expect.any(String));
      expect(() => openJournal(state, bad, settings)).toThrow(
        expect.objectContaining({ code: 'FIRN_SOURCE_NAME_INVALID' }),
      );
    }
  });
});
