import { chmod, lutimes, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { compareFolders } from '../../src/local/demo/compare-folders.ts';
import { type LocalTree, temporaryFolderOf } from '../kit/local-tree.ts';

const tree: LocalTree = {
  a: { type: 'file', content: 'one', mode: 0o644, mtime: 1_000_000 },
  folder: {
    type: 'folder',
    mode: 0o755,
    mtime: 1_000_000,
    entries: { b: { type: 'file', content: 'two', mtime: 1_000_000 } },
  },
  link: { type: 'link', target: 'a', mtime: 1_000_000 },
};

describe('comparing what was restored', () => {
  it('finds two folders of the same content, modes and times equal', async () => {
    const comparison = await compareFolders(await temporaryFolderOf(tree), await temporaryFolderOf(tree));
    expect(comparison).toEqual({ entries: 4, differences: [] });
  });

  it.each([
    ['one byte', (at: string) => write(path.join(at, 'a'), 'onE'), /^a: other content$/],
    ['a length', (at: string) => write(path.join(at, 'a'), 'one!'), /^a: 4 bytes instead of 3$/],
    ['a mode', (at: string) => chmod(path.join(at, 'a'), 0o600), /^a: mode 0600 instead of 0644$/],
    [
      'the mode of a folder',
      (at: string) => chmod(path.join(at, 'folder'), 0o700),
      /^folder: mode 0700 instead of 0755$/,
    ],
    ['a time', (at: string) => utimes(path.join(at, 'a'), 1, 1_000_000.001), /^a: mtime /],
    ['the time of a folder', (at: string) => utimes(path.join(at, 'folder'), 1, 2), /^folder: mtime /],
    [
      'the target of a link',
      (at: string) => relink(path.join(at, 'link'), 'folder'),
      /^link: a link to folder instead of a$/,
    ],
    [
      'the time of a link',
      (at: string) => lutimes(path.join(at, 'link'), 1, 2),
      /^link: mtime 2.0+ instead of 1000000.0+$/,
    ],
    ['a type', (at: string) => relink(path.join(at, 'a'), 'link'), /^a: another type$/],
    ['a file too few', (at: string) => remove(at, 'a'), /^a: it is missing$/],
    ['a file too many', (at: string) => write(path.join(at, 'c'), 'x'), /^c: it should not be there$/],
  ])('tells %s that differs', async (_, change, told) => {
    const restored = await temporaryFolderOf(tree);
    await change(restored);
    const { differences } = await compareFolders(await temporaryFolderOf(tree), restored);
    expect(differences).toEqual([expect.stringMatching(told)]);
  });

  it('does not look at what was left out, nor below it', async () => {
    const original = await temporaryFolderOf(tree);
    const restored = await temporaryFolderOf({ link: tree.link! });
    const without = new Set(['a', 'folder']);
    expect(await compareFolders(original, restored, { without })).toEqual({ entries: 1, differences: [] });
    expect((await compareFolders(original, restored)).differences).toHaveLength(3);
  });

  it('takes nothing but a file for a file that was changed', async () => {
    const original = await temporaryFolderOf({});
    const restored = await temporaryFolderOf({ a: { type: 'link', target: 'b' }, b: 'x' });
    const changes = new Map([
      ['a', { content: Buffer.from('x'), mode: 0o777, mtimeMs: 0 }],
      ['b', { content: Buffer.from('x'), mode: 0o644, mtimeMs: 0 }],
    ]);
    const { differences } = await compareFolders(original, restored, { changes });
    expect(differences).toEqual(['a: another type', expect.stringMatching(/^b: mtime /)]);
  });

  it('wants what was changed, and not what was removed', async () => {
    const original = await temporaryFolderOf(tree);
    const changes = new Map([
      ['a', { content: Buffer.from('new'), mode: 0o640, mtimeMs: 5_000 }],
      ['added', { content: Buffer.from('more'), mode: 0o640, mtimeMs: 5_000 }],
      ['link', null],
    ]);
    const { link: _, ...rest } = tree;
    const restored = await temporaryFolderOf({
      ...rest,
      a: { type: 'file', content: 'new', mode: 0o640, mtime: 5 },
      added: { type: 'file', content: 'more', mode: 0o640, mtime: 5 },
    });
    expect((await compareFolders(original, restored, { changes })).differences).toEqual([]);
    await write(path.join(restored, 'added'), 'mOre', 5);
    expect((await compareFolders(original, restored, { changes })).differences).toEqual(['added: other content']);
    expect((await compareFolders(original, original, { changes })).differences).toEqual([
      'a: mode 0644 instead of 0640',
      'added: it is missing',
      'link: it should not be there',
    ]);
  });
});

/** Changes only what it is to change: the times of the file and of its folder stay. */
async function write(file: string, content: string, seconds = 1_000_000): Promise<void> {
  await writeFile(file, content);
  await utimes(file, seconds, seconds);
}

async function relink(file: string, target: string): Promise<void> {
  await rm(file);
  await symlink(target, file);
  await lutimes(file, 1_000_000, 1_000_000);
}

async function remove(folder: string, name: string): Promise<void> {
  await rm(path.join(folder, name));
}
