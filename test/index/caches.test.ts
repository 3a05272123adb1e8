import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { LocationTable } from '../../src/chunks/location.ts';
import type { FirnError } from '../../src/errors.ts';
import { type ChunkIndex, createChunkIndexes } from '../../src/index/chunk-index.ts';
import { allRoots } from '../../src/index/root-view.ts';
import { LISTED_AT_ONCE_MAX } from '../../src/index/session-views.ts';
import { ShardCache } from '../../src/index/shard-cache.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { temporaryFolder } from '../kit/local-tree.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { flushed, keys, locationsIn, missingFrom, open, watched } from './index-kit.ts';

const roots = ['a', 'c', 'e'];
const locations = roots.flatMap((root) => locationsIn(root, 5));

interface Seen {
  readonly store: BlobStore;
  readonly calls: string[];
  /** Sessions of a process over that store. */
  process(options?: {
    cacheFolder?: string;
    cacheFolderBytesMax?: number;
    shardEntriesMax?: number;
    onWarning?: (error: FirnError) => void;
  }): () => ChunkIndex;
  reads(): string[];
}

async function filled(): Promise<Seen> {
  const store = createMemoryBlobStore();
  await flushed(open(store), locations);
  const { store: seen, calls } = watched(store);
  return {
    store,
    calls,
    process: (options = {}) =>
      createChunkIndexes(new SealedBlobs(seen, keys), { cacheBytesMax: 1024 * 1024, ...options }),
    reads: () => calls.filter((call) => call.startsWith('read ')).sort(),
  };
}

async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => path.join(parentPath, name))
    .sort();
}

describe('the sessions of one process', () => {
  test('list once each, and read a shard once', async () => {
    const { calls, process } = await filled();
    const createIndex = process();
    const index = createIndex();
    for (let round = 0; round < 3; round += 1) expect(await missingFrom(index, locations)).toEqual([]);
    expect(calls.sort()).toEqual(['list chunk-index/', ...roots.map((root) => `read chunk-index/${root}`)]);
    calls.length = 0;
    expect(await missingFrom(createIndex(), locations)).toEqual([]);
    expect(calls).toEqual(['list chunk-index/']);
  });

  test('notice what another writer published, and read only that again', async () => {
    const { store, calls, process } = await filled();
    const createIndex = process();
    await missingFrom(createIndex(), locations);
    const published = locationsIn('c', 2, 'published');
    await flushed(open(store), published);
    calls.length = 0;
    expect(await missingFrom(createIndex(), [...locations, ...published])).toEqual([]);
    expect(calls.sort()).toEqual(['list chunk-index/', 'read chunk-index/c']);
  });

  test('ask storage for no shard that is not there, and write over what they read without reading it again', async () => {
    const { calls, process } = await filled();
    const index = process()();
    expect((await index.lookup(locationsIn('9', 50).map(({ hash }) => hash))).size).toBe(0);
    expect(calls).toEqual(['list chunk-index/']);
    await missingFrom(index, locations);
    calls.length = 0;
    await flushed(index, locationsIn('a', 1, 'new'));
    expect(calls).toEqual(['replace chunk-index/a']);
    expect(await missingFrom(index, locationsIn('a', 1, 'new'))).toEqual([]);
    expect(calls).toEqual(['replace chunk-index/a']);
  });

  test('find what they wait to flush, while it is flushed', async () => {
    const { process } = await filled();
    const index = process()();
    const fresh = locationsIn('a', 3, 'fresh');
    index.record(fresh);
    const flushing = index.flush();
    expect((await index.lookup(fresh.map(({ hash }) => hash))).size).toBe(3);
    await flushing;
    expect(await missingFrom(index, fresh)).toEqual([]);
  });
});

test('an index of more shards than one listing takes is listed root by root', async () => {
  const store = createMemoryBlobStore();
  for (let n = 0; n <= LISTED_AT_ONCE_MAX; n += 1) {
    await store.create(`chunk-index/0${n.toString(16).padStart(4, '0')}`, Buffer.from('not looked at'));
  }
  await flushed(open(store), locations);
  const { store: seen, calls } = watched(store);
  const index = open(seen);
  for (let round = 0; round < 2; round += 1) expect(await missingFrom(index, locations)).toEqual([]);
  expect(calls.filter((call) => call.startsWith('list')).sort()).toEqual([
    'list chunk-index/',
    ...roots.map((root) => `list chunk-index/${root}`),
  ]);
});

test('memory is bounded in bytes, and what was used last stays', () => {
  const cache = new ShardCache(10_000);
  const table = LocationTable.of(locationsIn('a', 30));
  for (let n = 0; n < 50; n += 1) {
    cache.set(`a${n}`, { table, etag: '1' });
    expect(cache.bytes).toBeLessThanOrEqual(10_000);
  }
  expect(cache.get('a49', '1')).toBeDefined();
  expect(cache.get('a49', '2')).toBeUndefined();
  expect(cache.get('a0', '1')).toBeUndefined();
});

describe('a cache folder', () => {
  test('saves later processes every read of what is unchanged, and holds nothing unsealed', async () => {
    const { store, calls, process, reads } = await filled();
    const cacheFolder = path.join(await temporaryFolder(), 'made', 'when needed');
    await missingFrom(process({ cacheFolder })(), locations);
    const files = await filesIn(cacheFolder);
    expect(files).toHaveLength(3);
    await flushed(open(store), locationsIn('a', 1, 'published'));
    calls.length = 0;
    expect(await missingFrom(process({ cacheFolder })(), locations)).toEqual([]);
    expect(reads()).toEqual(['read chunk-index/a']);
    const now = await filesIn(cacheFolder);
    expect(now).toHaveLength(3);
    expect(now.filter((file) => !files.includes(file))).toHaveLength(1);
    const hash = Buffer.from(locations[0]!.hash, 'hex');
    for (const file of now) expect((await readFile(file)).includes(hash)).toBe(false);
  });

  test('has what a process wrote itself, and forgets a shard that was split', async () => {
    const { process, reads } = await filled();
    const cacheFolder = await temporaryFolder();
    const added = locationsIn('a', 1_100, 'many');
    await flushed(process({ cacheFolder, shardEntriesMax: 1_000 })(), added);
    const names = (await filesIn(cacheFolder)).map((file) => path.basename(file).split('.')[0]);
    expect(names).toHaveLength(16);
    expect(names).not.toContain('a');
    const before = reads().length;
    expect(await missingFrom(process({ cacheFolder })(), added)).toEqual([]);
    expect(reads()).toHaveLength(before);
  });

  test('may be deleted at any time, damaged, and shared', async () => {
    const { process } = await filled();
    const cacheFolder = await temporaryFolder();
    const warnings: FirnError[] = [];
    const options = { cacheFolder, onWarning: (error: FirnError) => warnings.push(error) };
    const kept = process(options);
    await missingFrom(kept(), locations);
    for (const file of await filesIn(cacheFolder)) await writeFile(file, 'torn');
    expect(await missingFrom(process(options)(), locations)).toEqual([]);
    await rm(cacheFolder, { recursive: true });
    await flushed(kept(), locationsIn('a', 1, 'after'));
    await Promise.all(
      Array.from({ length: 8 }, async (_, n) => {
        const index = process(options)();
        await flushed(index, locationsIn('c', 3, `shared ${n}`));
        expect(await missingFrom(index, locations)).toEqual([]);
      }),
    );
    const names = (await filesIn(cacheFolder)).map((file) => path.basename(file));
    expect(names.filter((name) => !/^[0-9a-f](\.[0-9a-f]{16}){2}\.\d+$/.test(name))).toEqual([]);
    expect(warnings).toEqual([]);
  });

  test('of two repositories does not mix them', async () => {
    const { process } = await filled();
    const cacheFolder = await temporaryFolder();
    await missingFrom(process({ cacheFolder })(), locations);
    const other = Object.assign({ ...createMemoryBlobStore() }, { url: 'memory:other' });
    const createIndex = createChunkIndexes(new SealedBlobs(other, keys), { cacheBytesMax: 1024, cacheFolder });
    expect((await createIndex().lookup([locations[0]!.hash])).size).toBe(0);
    await flushed(createIndex(), locations);
    expect(await filesIn(cacheFolder)).toHaveLength(6);
  });

  test('holds no more than its limit; what did not stay is read from storage again', async () => {
    const { process, reads } = await filled();
    const cacheFolder = await temporaryFolder();
    const added = locationsIn('a', 1_100, 'many');
    await flushed(process({ shardEntriesMax: 1_000 })(), added);
    for (const rootBytesMax of [1_000_000, 20_000, 1_000]) {
      const options = { cacheFolder, cacheFolderBytesMax: allRoots.length * rootBytesMax };
      for (const run of ['first', 'second']) {
        const before = reads().length;
        expect(await missingFrom(process(options)(), added)).toEqual([]);
        const read = reads().length - before;
        const bytes = await Promise.all((await filesIn(cacheFolder)).map(async (file) => (await stat(file)).size));
        expect(bytes.reduce((total, each) => total + each, 0)).toBeLessThanOrEqual(rootBytesMax);
        if (run === 'first') continue;
        if (rootBytesMax === 1_000_000) expect(read).toBe(0);
        if (rootBytesMax === 1_000) expect(read).toBe(16);
      }
    }
  });

  const spoilt: [string, (folder: string, seen: Seen) => Promise<string>][] = [
    [
      'it is a file',
      async (folder) => {
        await writeFile(path.join(folder, 'a file'), '');
        return path.join(folder, 'a file');
      },
    ],
    [
      'it has a file where a folder belongs',
      async (folder) => {
        await mkdir(path.join(folder, 'chunk-index'));
        for (const root of roots) await writeFile(path.join(folder, 'chunk-index', root), '');
        return folder;
      },
    ],
    [
      'it has a folder where a file belongs',
      async (folder, seen) => {
        await missingFrom(seen.process({ cacheFolder: folder })(), locations);
        for (const file of await filesIn(folder)) {
          await rm(file);
          await mkdir(file);
        }
        return folder;
      },
    ],
  ];
  // Nobody may make a folder there, not even root.
  if (process.platform === 'linux') spoilt.push(['nobody can write in it', async () => '/sys/firn-cache']);

  test.each(spoilt)('that cannot be used is reported once, and the work goes on (%s)', async (_, spoil) => {
    const seen = await filled();
    const cacheFolder = await spoil(await temporaryFolder(), seen);
    const warnings: FirnError[] = [];
    const index = seen.process({ cacheFolder, onWarning: (error) => warnings.push(error) })();
    expect(await missingFrom(index, locations)).toEqual([]);
    await flushed(index, locationsIn('a', 1, 'more'));
    expect(warnings.map(({ code }) => code)).toEqual(['FIRN_CACHE_UNUSABLE']);
  });
});
