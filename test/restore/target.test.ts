import { lstat, mkdir, readdir, readFile, readlink, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { localPath, openTarget } from '../../src/restore/target.ts';
import { temporaryFolder } from '../kit/local-tree.ts';

async function* pieces(...texts: string[]): AsyncGenerator<Buffer> {
  for (const text of texts) yield Buffer.from(text);
}

const attributes = { mode: 0o640, mtime: '2001-02-03T04:05:06.5Z' };

describe('the folder that a restore writes into', () => {
  it.each(['../a', 'a/../../b', '/etc/passwd', 'a//b', '.', '..', '', 'a/./b', 'a\0b'])(
    'refuses the path %j, which leaves it',
    (at) => {
      expect(() => localPath('/target', at)).toThrow(expect.objectContaining({ code: 'FIRN_PATH_ESCAPES' }));
    },
  );

  it('is made where it is not there', async () => {
    const folder = path.join(await temporaryFolder(), 'a/b');
    await openTarget(folder, { overwrite: false });
    expect((await stat(folder)).isDirectory()).toBe(true);
  });

  it('must be empty, unless it is to be overwritten', async () => {
    const folder = await temporaryFolder();
    await writeFile(path.join(folder, 'mine'), 'x');
    await expect(openTarget(folder, { overwrite: false })).rejects.toMatchObject({ code: 'FIRN_TARGET_NOT_EMPTY' });
    await openTarget(folder, { overwrite: true });
    expect(await readdir(folder)).toEqual(['mine']);
  });

  it('must be a folder', async () => {
    const file = path.join(await temporaryFolder(), 'file');
    await writeFile(file, 'x');
    await expect(openTarget(file, { overwrite: true })).rejects.toMatchObject({ code: 'FIRN_NOT_A_FOLDER' });
    await expect(openTarget(path.join(file, 'below'), { overwrite: true })).rejects.toMatchObject({
      code: 'FIRN_NOT_A_FOLDER',
    });
  });

  it('gives a file its content, mode and time', async () => {
    const folder = await temporaryFolder();
    const target = await openTarget(folder, { overwrite: false });
    await target.writeFile('file', attributes, pieces('one ', 'two'));
    const file = path.join(folder, 'file');
    expect(await readFile(file, 'utf8')).toBe('one two');
    const stats = await stat(file);
    expect(stats.mode & 0o7777).toBe(0o640);
    expect(stats.mtime.toISOString()).toBe('2001-02-03T04:05:06.500Z');
    expect(await readdir(folder)).toEqual(['file']);
  });

  it('leaves nothing of a file whose content fails, and keeps the one that was there', async () => {
    const folder = await temporaryFolder();
    await writeFile(path.join(folder, 'old'), 'old');
    const target = await openTarget(folder, { overwrite: true });
    async function* broken(): AsyncGenerator<Buffer> {
      yield Buffer.from('half');
      throw new Error('the rest is damaged');
    }
    await expect(target.writeFile('new', attributes, broken())).rejects.toThrow('the rest is damaged');
    await expect(target.writeFile('old', attributes, broken())).rejects.toThrow('the rest is damaged');
    expect(await readdir(folder)).toEqual(['old']);
    expect(await readFile(path.join(folder, 'old'), 'utf8')).toBe('old');
  });

  it('never writes through a link: a file or folder that is to be overwritten replaces the link', async () => {
    const outside = await temporaryFolder();
    await writeFile(path.join(outside, 'precious'), 'precious');
    const folder = await temporaryFolder();
    await symlink(path.join(outside, 'precious'), path.join(folder, 'file'));
    await symlink(outside, path.join(folder, 'folder'));
    const target = await openTarget(folder, { overwrite: true });
    await target.writeFile('file', attributes, pieces('new'));
    await target.makeFolder('folder', {});
    await target.writeFile('folder/precious', attributes, pieces('new'));
    expect(await readFile(path.join(outside, 'precious'), 'utf8')).toBe('precious');
    expect((await lstat(path.join(folder, 'file'))).isFile()).toBe(true);
    expect((await lstat(path.join(folder, 'folder'))).isDirectory()).toBe(true);
    expect(await readFile(path.join(folder, 'folder/precious'), 'utf8')).toBe('new');
  });

  it('does not finish a folder that is a link', async () => {
    const outside = await temporaryFolder();
    const before = await stat(outside);
    const folder = await temporaryFolder();
    await symlink(outside, path.join(folder, 'link'));
    const target = await openTarget(folder, { overwrite: true });
    await expect(target.finishFolder?.('link', attributes)).rejects.toMatchObject({ code: 'FIRN_TARGET_BLOCKED' });
    expect((await stat(outside)).mode).toBe(before.mode);
  });

  it('keeps a name that is taken already, even when the file system takes two names for one', async () => {
    const folder = await temporaryFolder();
    const target = await openTarget(folder, { overwrite: false });
    await target.writeFile('name', attributes, pieces('first'));
    const taken = { code: 'FIRN_TARGET_BLOCKED', details: { path: 'name' } };
    await expect(target.writeFile('name', attributes, pieces('second'))).rejects.toMatchObject(taken);
    await expect(target.writeLink('name', { target: 'x' })).rejects.toMatchObject(taken);
    await expect(target.makeFolder('name', {})).rejects.toMatchObject(taken);
    expect(await readFile(path.join(folder, 'name'), 'utf8')).toBe('first');
  });

  it('does not let a file that comes at the same moment replace another', async () => {
    const folder = await temporaryFolder();
    const target = await openTarget(folder, { overwrite: false });
    const written = await Promise.allSettled(
      ['first', 'second', 'third'].map((text) => target.writeFile('name', attributes, pieces(text))),
    );
    expect(written.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  it('never replaces a folder by a file or a link', async () => {
    const folder = await temporaryFolder();
    await mkdir(path.join(folder, 'name'));
    const target = await openTarget(folder, { overwrite: true });
    const blocked = { code: 'FIRN_TARGET_BLOCKED', message: expect.stringContaining('a folder is in the way') };
    await expect(target.writeFile('name', attributes, pieces('x'))).rejects.toMatchObject(blocked);
    await expect(target.writeLink('name', { target: 'x' })).rejects.toMatchObject(blocked);
    expect(await readdir(folder)).toEqual(['name']);
  });

  it('restores a link as a link, with its time, over a file that is in the way', async () => {
    const folder = await temporaryFolder();
    await writeFile(path.join(folder, 'link'), 'x');
    await utimes(folder, 1, 1);
    const target = await openTarget(folder, { overwrite: true });
    await target.writeLink('link', { target: '../nowhere', mtime: '2001-02-03T04:05:06Z' });
    const local = path.join(folder, 'link');
    expect(await readlink(local)).toBe('../nowhere');
    expect((await lstat(local)).mtime.toISOString()).toBe('2001-02-03T04:05:06.000Z');
    expect(await readdir(folder)).toEqual(['link']);
  });

  it('says which path the file system does not take', async () => {
    const folder = await temporaryFolder();
    const target = await openTarget(folder, { overwrite: false });
    const name = 'n'.repeat(300);
    const blocked = { code: 'FIRN_TARGET_BLOCKED', details: { path: name } };
    await expect(target.writeFile(name, {}, pieces('x'))).rejects.toMatchObject(blocked);
    await expect(target.makeFolder(name, {})).rejects.toMatchObject(blocked);
    const noTime = { mtime: '2001-99-99T00:00:00Z' };
    await expect(target.writeFile('file', noTime, pieces('x'))).rejects.toMatchObject({ code: 'FIRN_TARGET_BLOCKED' });
    expect(await readdir(folder)).toEqual([]);
  });

  it('takes a full disk for a problem of every path', async () => {
    const folder = await temporaryFolder();
    const target = await openTarget(folder, { overwrite: false });
    async function* full(): AsyncGenerator<Buffer> {
      yield Buffer.from('x');
      throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    }
    await expect(target.writeFile('file', {}, full())).rejects.toMatchObject({ code: 'FIRN_TARGET_FAILED' });
  });
});
