import { statSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { archiveAndPublish } from '../../src/cli/archive-and-publish.ts';
import { ChunkIndex } from '../../src/index/chunk-index.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import type { Containers, Repository } from '../../src/repository.ts';
import { restoreTree } from '../../src/restore/restore-tree.ts';
import type { Snapshot } from '../../src/snapshots/snapshot.ts';
import { pseudoRandomBytes } from '../chunks/bytes.ts';
import { intercept } from '../chunks/intercept.ts';
import { describeTree, filesIn, type LocalTree, makeTree, removeFolder, temporaryFolder } from '../kit/local-tree.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { archiveAll, createTestRepository, upload } from '../kit/repository.ts';
import { anyFolder } from './arbitrary-folders.ts';
import { archived, restored, smallChunks } from './restoring.ts';

describe('restoring a snapshot', () => {
  it.each([
    ['encrypted, cut into chunks', { encrypted: true, chunking: smallChunks, thinChunks: 'packed' }],
    ['unencrypted, one chunk a file', { encrypted: false, chunking: { method: 'file' }, thinChunks: 'blob' }],
  ] as const)('is the inverse of archiving, whatever the folder holds (%s)', async (_, options) => {
    await fc.assert(
      fc.asyncProperty(anyFolder, async (tree) => {
        const { repository } = await createTestRepository(options);
        const from = await temporaryFolderOf(tree);
        const to = await temporaryFolderOf({});
        try {
          const { snapshot } = await archiveAndPublish(repository, from, 'test');
          const result = await restoreTree(repository, snapshot, to);
          expect(await describeTree(to)).toEqual(await describeTree(from));
          expect(result).toMatchObject({
            failed: 0,
            filesExpected: snapshot.totals.files,
            bytes: snapshot.totals.bytes,
          });
          expect(result.files + result.links).toBe(snapshot.totals.files);
          expect(result.folders).toBe(snapshot.totals.folders);

          const again = await archiveAndPublish(repository, to, 'test');
          expect(again).toMatchObject({ unchanged: true, stored: { newChunks: 0, storedBytes: 0 } });
          expect(again.snapshot.id).toBe(snapshot.id);
        } finally {
          await removeFolder(from);
          await removeFolder(to);
        }
      }),
      { numRuns: 25 },
    );
  });

  it('brings back every earlier snapshot after files changed, came and went', async () => {
    const { repository } = await createTestRepository({ chunking: smallChunks });
    const folder = await temporaryFolder();
    const states: { snapshot: Snapshot; tree: Record<string, string> }[] = [];
    const steps: (() => Promise<void>)[] = [
      () => makeTree(folder, { a: 'one', b: { type: 'folder', entries: { c: 'two' } } }),
      () => writeFile(path.join(folder, 'a'), 'one, changed'),
      () => rm(path.join(folder, 'b'), { recursive: true }),
      () => writeFile(path.join(folder, 'b'), 'a file now'),
    ];
    for (const step of steps) {
      await step();
      const { snapshot } = await archiveAndPublish(repository, folder, 'test');
      states.push({ snapshot, tree: await describeTree(folder) });
    }
    expect(new Set(states.map(({ snapshot }) => snapshot.id)).size).toBe(4);
    for (const { snapshot, tree } of states) {
      const { folder: back } = await restored(repository, snapshot);
      // Times that the kernel set have more digits than Node can set.
      expect(withoutTimes(await describeTree(back))).toEqual(withoutTimes(tree));
    }
  });

  it('keeps names apart that differ only in case or in Unicode normalization, from a folder and from the inbox', async () => {
    const names = ['a', 'A', 'n\u00e9e', 'ne\u0301e', 'NE\u0301E', '\u212b', '\u00c5', '\ufb01', 'fi'];
    const tree = Object.fromEntries(names.map((name, at) => [name, `content ${at}`]));
    const { repository, snapshot } = await archived(tree);
    expect((await restored(repository, snapshot)).files).toEqual(tree);
    for (const [name, content] of Object.entries(tree)) await upload(repository, `inbox/${name}/${name}`, content);
    await archiveAll(repository, 'inbox');
    const published = await publishSource(repository, 'inbox');
    expect((await restored(repository, published!.snapshot!)).files).toEqual(
      Object.fromEntries(Object.entries(tree).map(([name, content]) => [`${name}/${name}`, content])),
    );
  });

  it('tells its progress up to the whole', async () => {
    const { repository, snapshot } = await archived({ a: 'one', b: 'three', c: { type: 'link', target: 'a' } });
    const told: number[] = [];
    let last: unknown;
    await restored(repository, snapshot, {
      onProgress: (progress) => {
        told.push(progress.bytes);
        last = { ...progress, path: '' };
      },
    });
    expect(last).toEqual({ files: 3, bytes: 8, filesExpected: 3, bytesExpected: 8, path: '' });
    expect(told).toEqual([...told].sort((a, b) => a - b));
  });

  it('asks the index for many files at once, and not again for each', async () => {
    const tree = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`file-${i}`, `content ${i}`]));
    const { repository, snapshot } = await archived(tree);
    const lookup = vi.spyOn(ChunkIndex.prototype, 'lookup');
    try {
      expect((await restored(repository, snapshot)).files).toEqual(tree);
      expect(lookup).toHaveBeenCalledTimes(1);
    } finally {
      lookup.mockRestore();
    }
  });

  it('reads each frame once, of files of one chunk and of several beside each other, one after another', async () => {
    const text = (seed: number, bytes: number) => pseudoRandomBytes(seed, bytes / 2).toString('hex');
    const tree = Object.fromEntries(
      Array.from({ length: 12 }, (_, i) => [`file-${i}`, text(i, i % 3 === 0 ? 3_000 : 2_400_000)]),
    );
    const account = createMemoryAccount();
    let bytesRead = 0;
    const containers: Containers = {
      ...account,
      container: (name) =>
        intercept(account.container(name), {
          async read(next, blob, options) {
            const answer = await next(blob, options);
            if (blob.startsWith('chunks/')) bytesRead += answer.body.length;
            return answer;
          },
          async readStream(next, blob, options) {
            if (blob.startsWith('chunks/')) bytesRead += options?.length ?? Number.NaN;
            return await next(blob, options);
          },
        }),
    };
    // One after another: files that are read at the same time may both read a frame that they share.
    const environment = { FIRN_FILES_IN_FLIGHT_MAX: '1' };
    const { repository, snapshot } = await archived(tree, { containers, environment });
    expect(bytesRead).toBe(0);
    expect((await restored(repository, snapshot)).files).toEqual(tree);
    let bytesStored = 0;
    for await (const { bytes } of repository.data.store.list({ prefix: 'chunks/' })) bytesStored += bytes;
    expect(bytesStored).toBeGreaterThan(5_000_000);
    expect(bytesRead).toBe(bytesStored);
  });

  it('gives back every chunk when it is written, of short files and of long ones, and none before', async () => {
    const tree = Object.fromEntries(
      Array.from({ length: 40 }, (_, n) => [`${n}`, `file ${n} `.repeat(n % 8 === 0 ? 8_000 : 100 * n)]),
    );
    const { repository, snapshot } = await archived(tree, { chunking: smallChunks });
    const { chunks } = repository;
    let lent = 0;
    const spoiling: Repository['chunks'] = {
      ...chunks,
      async read(location, options) {
        lent += 1;
        // As nobody else has it.
        return Buffer.from(await chunks.read(location, options));
      },
      giveBack(bytes) {
        lent -= 1;
        bytes.fill(0);
      },
    };
    for (const settings of [{ filesInFlightMax: 1 }, {}]) {
      const restoring = { ...repository, chunks: spoiling, settings: { ...repository.settings, ...settings } };
      const { files, failed } = await restored(restoring, snapshot);
      expect(failed).toEqual({});
      expect(files).toEqual(tree);
      expect(lent).toBe(0);
    }
  });

  it('stops when it is cancelled, and leaves no half of a file', async () => {
    const tree = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`file-${i}`, `content ${i}`]));
    const { repository, snapshot } = await archived(tree);
    const cancelled = new AbortController();
    const folder = await temporaryFolder();
    const restoring = restoreTree(repository, snapshot, folder, {
      signal: cancelled.signal,
      onProgress: ({ files }) => {
        if (files === 20) cancelled.abort(new Error('enough'));
      },
    });
    await expect(restoring).rejects.toThrow('enough');
    const files = await filesIn(folder);
    expect(Object.keys(files).length).toBeLessThan(200);
    for (const [name, content] of Object.entries(files)) expect(content).toBe(tree[name]);
  });
});

describe('what a second archive stores', () => {
  it('is about the one file that changed', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 49 }), fc.nat(1_000), async (changed, seed) => {
        const { repository } = await createTestRepository({ chunking: smallChunks });
        const tree = Object.fromEntries(
          Array.from({ length: 50 }, (_, i) => [`file-${i}`, { type: 'file', content: pseudoRandomBytes(i, 10_000) }]),
        ) as LocalTree;
        const folder = await temporaryFolderOf(tree);
        try {
          const first = await archiveAndPublish(repository, folder, 'test');
          await writeFile(path.join(folder, `file-${changed}`), pseudoRandomBytes(seed + 100, 10_000));
          const second = await archiveAndPublish(repository, folder, 'test');
          expect(first.stored.newBytes).toBe(500_000);
          expect(second.snapshot.changes).toEqual({ added: 0, changed: 1, removed: 0 });
          expect(second.stored.newBytes).toBe(10_000);
          // The bytes, and the frame and tar headers around them.
          expect(second.stored.storedBytes).toBeLessThan(20_000);
        } finally {
          await removeFolder(folder);
        }
      }),
      { numRuns: 4 },
    );
  });

  it('is a part of a large file, where a part of it changed', async () => {
    const { repository } = await createTestRepository({ chunking: smallChunks });
    const folder = await temporaryFolder();
    const content = pseudoRandomBytes(1, 1_000_000);
    await writeFile(path.join(folder, 'large'), content);
    await archiveAndPublish(repository, folder, 'test');
    await writeFile(
      path.join(folder, 'large'),
      Buffer.concat([content.subarray(0, 500_000), Buffer.from('!'), content.subarray(500_000)]),
    );
    const second = await archiveAndPublish(repository, folder, 'test');
    expect(second.stored.newBytes).toBeGreaterThan(0);
    expect(second.stored.newBytes).toBeLessThan(3 * smallChunks.maxBytes);
  });
});

describe('restoring a part of a snapshot', () => {
  const tree: LocalTree = {
    a: 'file a',
    folder: {
      type: 'folder',
      mode: 0o750,
      mtime: 1_000_000,
      entries: { b: 'file b', deep: { type: 'folder', entries: { c: 'file c' } } },
    },
    other: { type: 'folder', entries: { d: 'file d' } },
  };

  it('puts each path at its full path, its folders with their attributes', async () => {
    const { repository, snapshot, folder } = await archived(tree);
    const part = await restored(repository, snapshot, { paths: ['/folder/deep/', 'a', 'folder/deep/c'] });
    expect(part.files).toEqual({ a: 'file a', 'folder/deep/c': 'file c' });
    expect(part.result).toMatchObject({ files: 2, filesExpected: 2 });
    const [from, to] = [await describeTree(folder), await describeTree(part.folder)];
    expect(to.folder).toBe(from.folder);
  });

  it('closes folders that their owner may not write when all is there, also those that an earlier restore closed', async () => {
    const closed = { type: 'folder', mode: 0o555, mtime: 1_000_000, entries: { inner: 'inner' } } as const;
    const { repository, snapshot, folder } = await archived({ closed, last: 'last' });
    const to = await temporaryFolder();
    const modeNow = () => statSync(path.join(to, 'closed')).mode & 0o777;
    for (const overwrite of [false, true]) {
      const modes: number[] = [];
      const onProgress = () => void modes.push(modeNow());
      await restoreTree(repository, snapshot, to, { overwrite, onProgress });
      expect(modes.length).toBeGreaterThan(1);
      expect(new Set(modes)).toEqual(new Set([0o755]));
      expect((await describeTree(to)).closed).toEqual((await describeTree(folder)).closed);
    }
  });

  it('writes nothing when one of the paths is unknown', async () => {
    const { repository, snapshot } = await archived(tree);
    const folder = path.join(await temporaryFolder(), 'restored');
    for (const unknown of ['b', 'a/b', 'folder/nothing/c', '../a']) {
      await expect(restoreTree(repository, snapshot, folder, { paths: ['a', unknown] })).rejects.toMatchObject({
        code: 'FIRN_PATH_UNKNOWN',
        details: { path: unknown, snapshot: snapshot.id },
      });
    }
    await expect(readdir(folder)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('restoring into a folder that is not empty', () => {
  it('is refused, and changes nothing there', async () => {
    const { repository, snapshot } = await archived({ a: 'new' });
    const folder = await temporaryFolder();
    await writeFile(path.join(folder, 'a'), 'mine');
    await expect(restoreTree(repository, snapshot, folder)).rejects.toMatchObject({ code: 'FIRN_TARGET_NOT_EMPTY' });
    expect(await filesIn(folder)).toEqual({ a: 'mine' });
  });

  it('replaces files and links with --overwrite, keeps what the snapshot does not have, and follows no link', async () => {
    const { repository, snapshot } = await archived({
      a: 'new a',
      folder: { type: 'folder', entries: { b: 'new b' } },
      link: { type: 'link', target: 'a' },
    });
    const outside = await temporaryFolder();
    await writeFile(path.join(outside, 'b'), 'precious');
    const folder = await temporaryFolder();
    await makeTree(folder, { a: 'old a', mine: 'mine', folder: { type: 'link', target: outside }, link: 'a file' });
    const { files, failed } = await restored(repository, snapshot, { overwrite: true }, folder);
    expect(failed).toEqual({});
    expect(files).toEqual({ a: 'new a', mine: 'mine', 'folder/b': 'new b' });
    expect(await readFile(path.join(outside, 'b'), 'utf8')).toBe('precious');
  });

  it('names a file whose place a folder has, and restores the rest', async () => {
    const { repository, snapshot } = await archived({ a: 'new a', b: 'new b' });
    const folder = await temporaryFolder();
    await makeTree(folder, { a: { type: 'folder', entries: { mine: 'mine' } } });
    const { files, failed } = await restored(repository, snapshot, { overwrite: true }, folder);
    expect(failed).toEqual({ a: 'FIRN_TARGET_BLOCKED' });
    expect(files).toEqual({ 'a/mine': 'mine', b: 'new b' });
  });
});

describe('restoring what no file system can hold', () => {
  it('keeps the folder and names the file that has its path, as blob storage allows both', async () => {
    const { repository } = await createTestRepository();
    await upload(repository, 'test/a', 'the file');
    await upload(repository, 'test/a/b', 'in the folder');
    await archiveAll(repository, 'test');
    const published = await publishSource(repository, 'test');
    const { files, failed } = await restored(repository, published!.snapshot!);
    expect(files).toEqual({ 'a/b': 'in the folder' });
    expect(failed).toEqual({ a: 'FIRN_TARGET_BLOCKED' });
  });

  it('names a name that is too long, with all below it, once', async () => {
    const { repository } = await createTestRepository();
    const long = 'n'.repeat(300);
    await upload(repository, `test/${long}/a`, 'a');
    await upload(repository, `test/${long}/b`, 'b');
    await upload(repository, 'test/short', 'short');
    await archiveAll(repository, 'test');
    const published = await publishSource(repository, 'test');
    const { files, failed, result } = await restored(repository, published!.snapshot!);
    expect(files).toEqual({ short: 'short' });
    expect(failed).toEqual({ [long]: 'FIRN_TARGET_BLOCKED' });
    expect(result).toMatchObject({ files: 1, filesExpected: 3 });
  });
});

async function temporaryFolderOf(tree: LocalTree): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'firn-test-'));
  await makeTree(folder, tree);
  return folder;
}

function withoutTimes(tree: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(tree).map(([at, text]) => [at, text.replace(/ mtime .*/, '')]));
}
