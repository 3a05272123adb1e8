import { lutimes, mkdir, mkdtemp, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { uploadFolder } from '../../src/archive/upload-folder.ts';
import { intercept } from '../chunks/intercept.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { until } from '../kit/until.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'firn-upload-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
});

const options = { uploadsInFlightMax: 4 };

test('files, folders and links arrive with their attributes', async () => {
  const inbox = createMemoryBlobStore();
  await mkdir(path.join(folder, 'd'), { mode: 0o750 });
  await writeFile(path.join(folder, 'd', 'ä b\n.txt'), 'content', { mode: 0o640 });
  await utimes(path.join(folder, 'd', 'ä b\n.txt'), 1_700_000_000.5, 1_700_000_000.5);
  await symlink('d/nowhere', path.join(folder, 'link'));
  await lutimes(path.join(folder, 'link'), 1_600_000_000, 1_600_000_000);
  expect(await uploadFolder(inbox, 'src', folder, options)).toEqual({
    files: 2,
    folders: 1,
    bytes: 7,
    unchanged: 0,
    skipped: [],
  });
  const file = await inbox.read('src/d/ä b\n.txt');
  expect(file.body.toString()).toBe('content');
  expect(file.properties.metadata).toEqual({
    mtime: '2023-11-14T22:13:20.5Z',
    mode: '0640',
    ctime: expect.stringMatching(/^2/),
  });
  expect((await inbox.properties('src/d')).metadata).toMatchObject({ hdi_isfolder: 'true', mode: '0750' });
  const link = await inbox.read('src/link');
  expect(link.body.toString()).toBe('d/nowhere');
  expect(link.properties.metadata).toMatchObject({ is_symlink: 'true', mtime: '2020-09-13T12:26:40Z' });
});

test('what is there already is not sent again; what changed, small or large, replaces it', async () => {
  const inbox = createMemoryBlobStore();
  await writeFile(path.join(folder, 'same'), 'same');
  await writeFile(path.join(folder, 'small'), 'old');
  await writeFile(path.join(folder, 'large'), Buffer.alloc(9 * 1024 * 1024, 1));
  await uploadFolder(inbox, 'src', folder, options);
  const before = await inbox.properties('src/same');
  await writeFile(path.join(folder, 'small'), 'new!');
  await writeFile(path.join(folder, 'large'), Buffer.alloc(9 * 1024 * 1024 + 1, 2));
  expect(await uploadFolder(inbox, 'src', folder, options)).toMatchObject({ files: 2, unchanged: 1 });
  expect((await inbox.properties('src/same')).etag).toBe(before.etag);
  expect((await inbox.read('src/small')).body.toString()).toBe('new!');
  expect((await inbox.read('src/large')).body).toEqual(Buffer.alloc(9 * 1024 * 1024 + 1, 2));
});

test('a folder that is there already costs a question a file, and next to nothing is sent', async () => {
  const inbox = createMemoryBlobStore();
  const names = Array.from({ length: 60 }, (_, at) => `file ${at}`);
  for (const name of names) await writeFile(path.join(folder, name), name);
  await uploadFolder(inbox, 'src', folder, options);
  let sent = 0;
  let asked = 0;
  const counted = intercept(inbox, {
    create: async (next, ...args) => {
      sent += 1;
      return await next(...args);
    },
    properties: async (next, ...args) => {
      asked += 1;
      return await next(...args);
    },
  });
  expect(await uploadFolder(counted, 'src', folder, options)).toMatchObject({ files: 0, unchanged: 60 });
  // Nobody knows it before the first answers are there.
  expect(sent).toBeLessThanOrEqual(options.uploadsInFlightMax);
  expect(asked).toBe(60);
  // And in a new one there is nothing to ask for.
  [sent, asked] = [0, 0];
  expect(await uploadFolder(counted, 'new', folder, options)).toMatchObject({ files: 60, unchanged: 0 });
  expect([sent, asked]).toEqual([60, 0]);
});

test.each([
  ['small', 3],
  ['large', 9 * 1024 * 1024],
])('a %s upload that somebody else writes meanwhile is compared with the file again', async (_, bytes) => {
  const inbox = createMemoryBlobStore();
  await writeFile(path.join(folder, 'file'), Buffer.alloc(bytes, 1));
  await uploadFolder(inbox, 'src', folder, options);
  await writeFile(path.join(folder, 'file'), Buffer.alloc(bytes, 2));
  let others = 0;
  const contested = intercept(inbox, {
    properties: async (next, ...args) => {
      const there = await next(...args);
      others += 1;
      if (others === 1) await inbox.replace('src/file', Buffer.from('another'), { ifMatch: there.etag });
      return there;
    },
  });
  expect(await uploadFolder(contested, 'src', folder, options)).toMatchObject({ files: 1, unchanged: 0 });
  expect((await inbox.read('src/file')).body).toEqual(Buffer.alloc(bytes, 2));
});

test('what was changed behind its time, small or large, is sent again, unless its file system is said to touch files by itself', async () => {
  const inbox = createMemoryBlobStore();
  const write = async (fill: number) => {
    for (const [name, bytes] of Object.entries({ small: 3, large: 9 * 1024 * 1024 })) {
      await writeFile(path.join(folder, name), Buffer.alloc(bytes, fill));
      await utimes(path.join(folder, name), 1_000_000_000, 1_000_000_000);
    }
  };
  await write(1);
  expect(await uploadFolder(inbox, 'src', folder, options)).toMatchObject({ files: 2, unchanged: 0 });
  const changedAt = async () => (await stat(path.join(folder, 'small'), { bigint: true })).ctimeNs;
  const before = await changedAt();
  await until('the clock of the file system has gone on', async () => {
    await write(2);
    return (await changedAt()) > before || undefined;
  });
  const ignoring = { ...options, ignoreCtime: true };
  expect(await uploadFolder(inbox, 'src', folder, ignoring)).toMatchObject({ files: 0, unchanged: 2 });
  expect(await uploadFolder(inbox, 'src', folder, options)).toMatchObject({ files: 2, unchanged: 0 });
  expect((await inbox.read('src/small')).body).toEqual(Buffer.alloc(3, 2));
  expect((await inbox.read('src/large')).body).toEqual(Buffer.alloc(9 * 1024 * 1024, 2));
  expect(await uploadFolder(inbox, 'src', folder, options)).toMatchObject({ files: 0, unchanged: 2 });
});

test('a name that blob storage cannot take is skipped and named, and the others arrive', async () => {
  const inbox = createMemoryBlobStore();
  await writeFile(path.join(folder, 'back\\slash'), 'x');
  await writeFile(path.join(folder, 'esc\u001b'), 'x');
  for (const name of ['able', 'fine']) await writeFile(path.join(folder, name), 'x');
  const asked: string[] = [];
  const watched = intercept(inbox, {
    properties: async (next, ...args) => {
      asked.push(args[0]);
      return await next(...args);
    },
  });
  // One after another, so that the second time each is expected to be there.
  for (const expected of [{ files: 2 }, { files: 0, unchanged: 2 }]) {
    const { skipped, ...uploaded } = await uploadFolder(watched, 'src', folder, { uploadsInFlightMax: 1 });
    expect(uploaded).toMatchObject(expected);
    expect(skipped.map(({ path: at, code }) => [at, code]).sort()).toEqual([
      ['back\\slash', 'FIRN_PATH_UNUSABLE'],
      ['esc\u001b', 'FIRN_PATH_UNUSABLE'],
    ]);
  }
  expect(asked).toEqual(['src/able', 'src/fine']);
});

test('a folder that does not exist and a source name that cannot be are refused', async () => {
  const inbox = createMemoryBlobStore();
  await expect(uploadFolder(inbox, 'src', path.join(folder, 'no'), options)).rejects.toMatchObject({
    code: 'FIRN_FOLDER_MISSING',
  });
  await expect(uploadFolder(inbox, 'a/b', folder, options)).rejects.toMatchObject({ code: 'FIRN_SOURCE_NAME_INVALID' });
});
