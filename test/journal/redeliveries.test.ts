import { crc32 } from 'node:zlib';
import { beforeEach, describe, expect, it } from 'vitest';
import { buildFilter, parseFilter } from '../../src/journal/bloom-filter.ts';
import { type Journal, openJournal } from '../../src/journal/journal.ts';
import { recordId } from '../../src/journal/partition.ts';
import type { JournalRecord } from '../../src/journal/record.ts';
import { type BlobStore, BlobStoreError } from '../../src/storage/blob-store.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { allPaths, intercepted, partitionBlobs, pathsOf, settings, upload } from './journal-kit.ts';

let state: BlobStore;
let journal: Journal;
const open = (store = state) => openJournal(store, 'photos', settings);
const removal = (path: string): JournalRecord => ({ kind: 'removal', path, nonce: 'n' });
const dropped = (of: Journal) => of.metrics().duplicatesDropped;

async function sealAll(of = journal): Promise<string> {
  const [info] = await of.sealDue({ force: true });
  return info!.batch;
}

async function overwrite(name: string, body: Buffer): Promise<void> {
  await state.delete(name);
  await state.create(name, body);
}

/** A filter that takes every id for its own. */
function gullible(): Buffer {
  const bytes = buildFilter(new Set());
  bytes.fill(0xff, 16, bytes.length - 4);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, -4)), bytes.length - 4);
  return bytes;
}

beforeEach(() => {
  state = createMemoryBlobStore();
  journal = open();
});

describe('an event that is delivered again', () => {
  it('is acknowledged, counted and not recorded, while the partition that has it is open', async () => {
    await journal.append([upload('a'), upload('b')]);
    const { bytes } = await state.properties((await partitionBlobs(state, 'photos'))[0]!);
    expect(await journal.append([upload('b'), upload('a')])).toEqual({ sealed: [] });
    await journal.append([upload('a')]);
    expect(dropped(journal)).toBe(3);
    expect((await state.properties((await partitionBlobs(state, 'photos'))[0]!)).bytes).toBe(bytes);
    expect(await allPaths(journal)).toEqual(['a', 'b']);
  });

  it('is recognised in a batch that another process sealed, and what is new in the same call is recorded', async () => {
    await journal.append([upload('a')]);
    await sealAll();
    const other = open();
    await other.append([upload('b'), upload('a'), upload('c')]);
    expect(dropped(other)).toBe(1);
    expect(await allPaths(journal)).toEqual(['a', 'b', 'c']);
  });

  it('is another event when the upload has another version, and a removal never is the same', async () => {
    await journal.append([upload('a'), removal('a')]);
    await journal.append([{ kind: 'upload', path: 'a', etag: '"2"', bytes: 1 }, removal('a')]);
    await sealAll();
    const other = open();
    await other.append([removal('a')]);
    expect(dropped(journal) + dropped(other)).toBe(0);
    expect(await allPaths(journal)).toEqual(['a', 'a', 'a', 'a']);
  });

  it('is recorded again once its batch is retired, by whoever asks', async () => {
    const idle = open();
    await idle.append([upload('a')]);
    const batch = await sealAll();
    const other = open();
    await other.append([upload('b'), upload('a')]);
    expect(dropped(other)).toBe(1);
    await journal.retire([batch]);
    // One still believes to append to that partition, the other knows it as sealed.
    await idle.append([upload('a')]);
    expect(dropped(idle)).toBe(0);
    await sealAll();
    await journal.retire((await journal.batches()).map((each) => each.batch));
    await other.append([upload('a')]);
    expect(dropped(other)).toBe(1);
    expect(await allPaths(journal)).toEqual(['a']);
  });

  it('keeps its place before the calls that follow it, also when it turns out to be new', async () => {
    await journal.append([upload('a')]);
    await sealAll();
    await overwrite(`${(await partitionBlobs(state, 'photos'))[0]}.filter`, gullible());
    const other = open();
    await Promise.all([other.append([upload('b')]), other.append([removal('b')]), other.append([upload('c')])]);
    expect(await Array.fromAsync(journal.read(await sealAll(other)))).toEqual([upload('b'), removal('b'), upload('c')]);
  });

  it('can be cancelled while it is looked up, without holding up the next call or the end of the journal', async () => {
    await journal.append([upload('a')]);
    await sealAll();
    const controller = new AbortController();
    const stuck = intercepted(state, {
      instead: async (call, name) => {
        if (call === 'read' && name.endsWith('/manifest') && !controller.signal.aborted) await new Promise(() => {});
        return undefined;
      },
    });
    const other = open(stuck);
    const first = other.append([upload('a')], { signal: controller.signal });
    const second = other.append([upload('b')]);
    const closing = other.close();
    controller.abort();
    await expect(first).rejects.toMatchObject({ name: 'AbortError' });
    await second;
    await closing;
    expect(await allPaths(journal)).toEqual(['a', 'b']);
  });
});

describe('what is asked of the storage for it', () => {
  it('is nothing for an event that is new', async () => {
    for (const name of ['a', 'b', 'c']) {
      await journal.append([upload(name)]);
      await sealAll();
    }
    const calls: string[] = [];
    const counted = intercepted(state, { before: (call, name) => calls.push(`${call} ${name.split('.')[1] ?? ''}`) });
    const other = open(counted);
    await other.append([upload('d')]);
    expect(calls.filter((call) => call.startsWith('read filter'))).toHaveLength(3);
    calls.length = 0;
    for (let at = 0; at < 50; at += 1) await other.append([upload(at)]);
    // A filter may err once in a while; then the partition is read, once.
    const { append = 0, ...others } = Object.groupBy(calls, (call) => call.trim()) as Record<string, string[]>;
    expect(append).toHaveLength(50);
    expect(Object.values(others).flat().length).toBeLessThanOrEqual(6);
  });

  it('is one reading of a partition, however often its filter errs', async () => {
    await journal.append([upload('a')]);
    await sealAll();
    const [blob] = await partitionBlobs(state, 'photos');
    await overwrite(`${blob}.filter`, gullible());
    let reads = 0;
    const counted = intercepted(state, {
      before: (call, name) => {
        if (call === 'read' && name === blob) reads += 1;
      },
    });
    const other = open(counted);
    for (let at = 0; at < 20; at += 1) await other.append([upload(at)]);
    await other.append([upload('a')]);
    expect(reads).toBe(1);
    expect(dropped(other)).toBe(1);
    expect(await allPaths(journal)).toHaveLength(21);
  });
});

describe('the filter of a partition', () => {
  it('is written when the partition is sealed, knows every record whoever wrote it, and goes with it', async () => {
    const writers = [open(), open(), open()];
    const records = Array.from({ length: 60 }, (_, at) => upload(at));
    for (const [at, record] of records.entries()) await writers[at % 3]!.append([record, removal(`${at}`)]);
    const batch = await sealAll(open());
    const [blob] = await partitionBlobs(state, 'photos');
    const { body } = await state.read(`${blob}.filter`);
    const filter = parseFilter(body);
    for (const record of records) expect(filter?.mayContain(recordId(record))).toBe(true);
    expect(filter?.mayContain(recordId(upload('never')))).toBe(false);
    const manifest = JSON.parse((await state.read('journal/photos/manifest')).body.toString());
    expect(manifest.partitions).toMatchObject([{ state: 'sealed', filterBytes: body.length }]);
    await journal.retire([batch]);
    expect(await Array.fromAsync(state.list({ prefix: 'journal/' }), ({ name }) => name)).toEqual([
      'journal/photos/manifest',
    ]);
  });

  it.each([
    ['is missing', (name: string) => state.delete(name)],
    ['is damaged', (name: string) => overwrite(name, Buffer.from('FBLM and then nonsense'))],
    ['is of a newer version', (name: string) => overwrite(name, Buffer.concat([Buffer.from('FBLM\x09'), gullible()]))],
    ['takes everything for its own', (name: string) => overwrite(name, gullible())],
  ])('that %s makes nobody lose or repeat a record', async (_, spoil) => {
    await journal.append([upload('a')]);
    await sealAll();
    await spoil(`${(await partitionBlobs(state, 'photos'))[0]}.filter`);
    const other = open();
    await other.append([upload('b')]);
    await other.append([upload('a')]);
    await other.append([upload('c')]);
    expect(dropped(other)).toBe(1);
    expect(await allPaths(journal)).toEqual(['a', 'b', 'c']);
  });

  it('is never believed alone: a record is recorded when its partition is lost or cannot be read', async () => {
    await journal.append([upload('a')]);
    const batch = await sealAll();
    const [blob] = await partitionBlobs(state, 'photos');
    let failing = true;
    let reads = 0;
    const broken = intercepted(state, {
      before: (call, name) => {
        if (call !== 'read' || name !== blob) return;
        reads += 1;
        if (failing) throw new BlobStoreError('leased', name);
      },
    });
    const other = open(broken);
    await other.append([upload('a')]);
    failing = false;
    await state.delete(blob!);
    const third = open();
    await third.append([upload('a')]);
    expect(dropped(other) + dropped(third)).toBe(0);
    expect(reads).toBe(1);
    const next = await sealAll();
    expect(next).not.toBe(batch);
    expect(await pathsOf(journal, next)).toEqual(['a']);
  });
});
