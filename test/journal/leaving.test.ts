import { setImmediate } from 'node:timers/promises';
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
  pathsOf,
  settings,
  upload,
} from './journal-kit.ts';

let clock: Clock;
let state: BlobStore;
let journal: Journal;
const open = (store = state, options: Partial<typeof settings> = {}) =>
  openJournal(store, 'photos', { ...settings, ...options }, { now: clock.now });
const MANIFEST = 'journal/photos/manifest';

async function appendBatch(path: string, of = journal): Promise<string> {
  await of.append([upload(path)]);
  const [info] = await of.sealDue({ force: true });
  return info!.batch;
}

beforeEach(() => {
  clock = createClock();
  state = createState(clock);
  journal = open();
});

describe('leaving a source', () => {
  it('leaves nothing to be archived, for anybody, whatever was sealed or open', async () => {
    const sealed = await appendBatch('a');
    await journal.append([upload('b')]);
    await journal.leave();
    for (const each of [journal, open()]) {
      expect(await each.batches()).toEqual([]);
      expect(await each.hasOpenRecords()).toBe(false);
      expect(await each.sealDue({ force: true })).toEqual([]);
      await expect(pathsOf(each, sealed)).rejects.toMatchObject({ code: 'FIRN_BLOB_MISSING' });
    }
  });

  it('keeps what is recorded afterwards, also the same events', async () => {
    await journal.append([upload('a')]);
    const idle = open();
    await idle.append([upload('b')]);
    await journal.leave();
    await journal.append([upload('a')]);
    await idle.append([upload('b'), upload('c')]);
    expect(await allPaths(open())).toEqual(['a', 'b', 'c']);
  });

  it('takes along the appends that were called before, and not those after it', async () => {
    const before = Array.from({ length: 30 }, (_, at) => journal.append([upload(`before ${at}`)]));
    const leaving = journal.leave();
    await Promise.all(before);
    await leaving;
    await journal.append([upload('after')]);
    expect(await allPaths(open())).toEqual(['after']);
  });

  it('twice is leaving once, and leaving a source without records is possible', async () => {
    await journal.leave();
    expect(await journal.batches()).toEqual([]);
    await appendBatch('a');
    await journal.leave();
    const blobs = await partitionBlobs(state, 'photos');
    await journal.leave();
    await open().leave();
    expect(await partitionBlobs(state, 'photos')).toEqual(blobs);
    await journal.append([upload('b')]);
    await journal.leave();
    await journal.append([upload('c')]);
    expect(await allPaths(journal)).toEqual(['c']);
  });

  it('is refused by a journal that is closed', async () => {
    await journal.close();
    await expect(journal.leave()).rejects.toMatchObject({ code: 'FIRN_JOURNAL_CLOSED' });
    await expect(journal.rejoin()).rejects.toMatchObject({ code: 'FIRN_JOURNAL_CLOSED' });
  });

  it('lets a publish end that had begun', async () => {
    const [a, b] = [await appendBatch('a'), await appendBatch('b')];
    await journal.leave();
    await journal.retire([a]);
    expect((await journal.rejoin()).map(({ batch }) => batch)).toEqual([b]);
  });
});

describe('rejoining', () => {
  it('brings back what was left, in its place before what came since', async () => {
    const batches = [await appendBatch('a'), await appendBatch('b')];
    await journal.append([upload('c')]);
    await journal.leave();
    const since = await appendBatch('d');
    const back = await open().rejoin();
    expect(back.slice(0, 2).map(({ batch }) => batch)).toEqual(batches);
    expect(back).toHaveLength(3);
    expect((await journal.batches()).map(({ batch }) => batch)).toEqual([...back.map(({ batch }) => batch), since]);
    expect(await allPaths(open())).toEqual(['a', 'b', 'c', 'd']);
  });

  it('where nothing was left changes nothing', async () => {
    await journal.append([upload('a')]);
    const blobs = await partitionBlobs(state, 'photos');
    expect(await journal.rejoin()).toEqual([]);
    expect(await partitionBlobs(state, 'photos')).toEqual(blobs);
    expect(await allPaths(journal)).toEqual(['a']);
  });

  it('undoes every leave before it, and a leave after it leaves again', async () => {
    await appendBatch('a');
    await journal.leave();
    await appendBatch('b');
    await journal.leave();
    await journal.rejoin();
    expect(await allPaths(journal)).toEqual(['a', 'b']);
    await journal.leave();
    expect(await allPaths(journal)).toEqual([]);
    await journal.rejoin();
    expect(await allPaths(journal)).toEqual(['a', 'b']);
  });

  it('leaves no trace once all is cleared up', async () => {
    const a = await appendBatch('a');
    await journal.leave();
    await journal.rejoin();
    await journal.retire([a]);
    for (let round = 0; round < 3; round += 1) await journal.sealDue();
    expect(await partitionBlobs(state, 'photos')).toEqual([]);
    await journal.leave();
    for (let round = 0; round < 2; round += 1) await journal.sealDue();
    expect(await partitionBlobs(state, 'photos')).toEqual([]);
  });
});

describe('a leave', () => {
  it('is known again from the partitions when the manifest is lost; so is a rejoin', async () => {
    await appendBatch('a');
    await journal.append([upload('b')]);
    await journal.leave();
    await journal.append([upload('c')]);
    await state.delete(MANIFEST);
    expect(await allPaths(open())).toEqual(['c']);
    await open().rejoin();
    await state.delete(MANIFEST);
    expect(await allPaths(open())).toEqual(['a', 'b', 'c']);
  });

  it('that died before the manifest named it never comes into force', async () => {
    await appendBatch('a');
    const dying = intercepted(state, {
      before: (call) => {
        if (call === 'replace') throw new Error('the process is dead');
      },
    });
    await expect(open(dying).leave()).rejects.toThrow('the process is dead');
    expect(await partitionBlobs(state, 'photos')).toHaveLength(2);
    await appendBatch('b');
    clock.ms += 11 * 60_000;
    await open().sealDue();
    expect(await allPaths(open())).toEqual(['a', 'b']);
    expect(await partitionBlobs(state, 'photos')).toHaveLength(2);
  });

  it('beside appends of other processes loses none: each is left, or to be archived', async () => {
    for (let round = 0; round < 20; round += 1) {
      state = createState(clock);
      const acknowledged: { path: string; before: boolean; after: boolean }[] = [];
      let leaving: 'not yet' | 'under way' | 'done' = 'not yet';
      const slow = () =>
        intercepted(state, {
          instead: async () => {
            for (let turns = Math.floor(Math.random() * 3); turns > 0; turns -= 1) await setImmediate();
            return undefined;
          },
        });
      const write = async (writer: number) => {
        const own = open(slow(), { recordsMax: 4 });
        for (let at = 0; at < 15; at += 1) {
          const after = leaving === 'done';
          await own.append([upload(`${writer}/${at}`)]);
          acknowledged.push({ path: `${writer}/${at}`, before: leaving === 'not yet', after });
        }
      };
      const leave = async () => {
        const own = open(slow());
        for (let turns = 0; turns < round; turns += 1) await setImmediate();
        leaving = 'under way';
        await own.leave();
        leaving = 'done';
      };
      await Promise.all([write(0), write(1), write(2), leave()]);
      const live = new Set(await allPaths(open()));
      for (const { path, before, after } of acknowledged) {
        if (before) expect(live).not.toContain(path);
        if (after) expect(live).toContain(path);
      }
      await open().rejoin();
      const all = await allPaths(open());
      expect(all.toSorted()).toEqual(acknowledged.map(({ path }) => path).sort());
    }
  });
});
