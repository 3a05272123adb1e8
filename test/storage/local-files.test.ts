import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { lstat, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  canSyncFileSystem,
  isOnLocalDisk,
  type LocalWriteOptions,
  sweepTemporary,
  syncFileSystem,
  syncFolder,
  writeBytes,
  writeJson,
  writeStream,
  writeText,
} from '../../src/storage/local-files.ts';

/** The same functions, through the thread pool or not. */
function writers(atOnce: boolean) {
  const all = (options?: LocalWriteOptions) => ({ ...options, atOnce });
  return {
    writeBytes: (path: string, bytes: Uint8Array, options?: LocalWriteOptions) => writeBytes(path, bytes, all(options)),
    writeText: (path: string, text: string, options?: LocalWriteOptions) => writeText(path, text, all(options)),
    writeJson: (path: string, value: unknown, options?: LocalWriteOptions) => writeJson(path, value, all(options)),
    writeStream: (path: string, parts: AsyncIterable<Uint8Array>, options?: LocalWriteOptions) =>
      writeStream(path, parts, all(options)),
  };
}

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'firn-files-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const read = (name: string): Promise<string> => readFile(join(folder, name), 'utf8');
const names = async (): Promise<string[]> => (await readdir(folder)).toSorted();

async function* pieces(...parts: (string | Error)[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) {
    if (part instanceof Error) throw part;
    yield Buffer.from(part);
  }
}

describe.each([false, true])('writing (at once: %s)', (atOnce) => {
  const { writeBytes, writeText, writeJson, writeStream } = writers(atOnce);

  test('bytes, text, JSON and streams arrive whole, and nothing else is left in the folder', async () => {
    await writeBytes(join(folder, 'bytes'), Buffer.from([0, 255, 10]));
    await writeText(join(folder, 'text'), 'grüße');
    await writeJson(join(folder, 'value.json'), { a: [1, null] });
    await writeStream(join(folder, 'stream'), pieces('one', '', ' two'));
    await writeStream(join(folder, 'empty'), pieces());
    expect(await readFile(join(folder, 'bytes'))).toEqual(Buffer.from([0, 255, 10]));
    expect(await read('text')).toBe('grüße');
    expect(await read('value.json')).toBe('{"a":[1,null]}\n');
    expect(await read('stream')).toBe('one two');
    expect(await read('empty')).toBe('');
    expect(await names()).toEqual(['bytes', 'empty', 'stream', 'text', 'value.json']);
  });

  test('it replaces a file, and a link instead of what the link points to', async () => {
    await writeFile(join(folder, 'target'), 'target');
    await symlink('target', join(folder, 'link'));
    await writeText(join(folder, 'link'), 'new');
    await writeText(join(folder, 'link'), 'newer');
    expect((await lstat(join(folder, 'link'))).isSymbolicLink()).toBe(false);
    expect(await read('link')).toBe('newer');
    expect(await read('target')).toBe('target');
  });

  test('without overwrite, what is there stays', async () => {
    await writeText(join(folder, 'a'), 'first', { overwrite: false });
    await expect(writeText(join(folder, 'a'), 'second', { overwrite: false })).rejects.toMatchObject({
      code: 'EEXIST',
    });
    await symlink('nowhere', join(folder, 'dangling'));
    await expect(writeText(join(folder, 'dangling'), 'x', { overwrite: false })).rejects.toMatchObject({
      code: 'EEXIST',
    });
    expect(await read('a')).toBe('first');
    expect(await names()).toEqual(['a', 'dangling']);
  });

  test('a name of 255 bytes can be written, and names that differ in the extension only do not meet', async () => {
    const long = `${'ü'.repeat(127)}x`;
    expect(Buffer.byteLength(long)).toBe(255);
    await Promise.all(
      [long, 'a.json', 'a.md', 'a', '.firn-tmp-mine'].map((name) => writeText(join(folder, name), name)),
    );
    for (const name of [long, 'a.json', 'a.md', 'a', '.firn-tmp-mine']) expect(await read(name)).toBe(name);
    expect(await names()).toHaveLength(5);
  });

  test('mode and time are those that were asked for', async () => {
    await writeText(join(folder, 'a'), 'x', { mode: 0o4751, mtimeSeconds: '-86400.5' });
    const found = await stat(join(folder, 'a'), { bigint: true });
    expect(Number(found.mode) & 0o7777).toBe(0o4751);
    expect(found.mtimeNs).toBe(-86_400_500_000_000n);
    await writeText(join(folder, 'b'), 'x', { mode: 0o400, mtimeSeconds: 1.25 });
    expect(await read('b')).toBe('x');
    expect((await stat(join(folder, 'b'), { bigint: true })).mtimeNs).toBe(1_250_000_000n);
  });

  test('a folder that is in the way, or not there, is the error of the file system and leaves nothing', async () => {
    await mkdir(join(folder, 'sub'));
    await expect(writeText(join(folder, 'sub'), 'x')).rejects.toMatchObject({ code: 'EISDIR' });
    await expect(writeText(join(folder, 'none', 'a'), 'x')).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await names()).toEqual(['sub']);
  });
});

describe.each([false, true])('failures (at once: %s)', (atOnce) => {
  const { writeText, writeStream } = writers(atOnce);

  test('a source that throws leaves the old file and no temporary', async () => {
    await writeText(join(folder, 'a'), 'old');
    const broken = new Error('broken');
    await expect(writeStream(join(folder, 'a'), pieces('new', broken))).rejects.toBe(broken);
    await expect(writeStream(join(folder, 'b'), pieces('new', broken))).rejects.toBe(broken);
    expect(await read('a')).toBe('old');
    expect(await names()).toEqual(['a']);
  });

  test('a check sees the work done and can refuse it', async () => {
    await writeText(join(folder, 'a'), 'old');
    const refused = new Error('refused');
    const check = async () => {
      const [temporary] = (await names()).filter((name) => name !== 'a');
      expect(await read(temporary ?? '')).toBe('new');
      throw refused;
    };
    await expect(writeStream(join(folder, 'a'), pieces('ne', 'w'), { check })).rejects.toBe(refused);
    expect(await read('a')).toBe('old');
    expect(await names()).toEqual(['a']);
    await writeText(join(folder, 'a'), 'new', { check: () => undefined });
    expect(await read('a')).toBe('new');
  });

  test('a signal ends a write while its source is stuck', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    async function* stuck(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('x');
      controller.abort(reason);
      await new Promise(() => undefined);
    }
    await expect(writeStream(join(folder, 'a'), stuck(), { signal: controller.signal })).rejects.toBe(reason);
    await expect(writeText(join(folder, 'a'), 'x', { signal: controller.signal })).rejects.toBe(reason);
    expect(await names()).toEqual([]);
  });
});

describe('several writers of one file', () => {
  const body = (i: number): string => `${i}`.repeat(50_000);

  test('readers see the work of one of them, whole, at any time', async () => {
    await writeText(join(folder, 'a'), body(0));
    let done = false;
    const writing = Promise.all(
      Array.from({ length: 8 }, (_, i) => writeText(join(folder, 'a'), body(i + 1), { sync: 'nothing' })),
    ).finally(() => {
      done = true;
    });
    const whole = new Set(Array.from({ length: 9 }, (_, i) => body(i)));
    while (!done) expect(whole.has(await read('a'))).toBe(true);
    await writing;
    expect(whole.has(await read('a'))).toBe(true);
    expect(await names()).toEqual(['a']);
  });

  test('without overwrite exactly one succeeds', async () => {
    const results = await Promise.allSettled(
      Array.from({ length: 8 }, (_, i) => writeText(join(folder, 'a'), body(i), { overwrite: false })),
    );
    const winners = results.flatMap((result, i) => (result.status === 'fulfilled' ? [i] : []));
    expect(winners).toHaveLength(1);
    expect(await read('a')).toBe(body(winners[0] ?? -1));
    expect(await names()).toEqual(['a']);
  });

  test('a writer that is killed leaves the old file and at most a temporary that a sweep removes', async () => {
    await writeText(join(folder, 'a'), 'old');
    const module = new URL('../../src/storage/local-files.ts', import.meta.url).href;
    const program = `
      import { writeStream } from ${JSON.stringify(module)};
      async function* endless() {
        yield Buffer.from('new');
        yield Buffer.from('er');
        console.log('writing');
        setInterval(() => undefined, 1000);
        await new Promise(() => undefined);
      }
      await writeStream(${JSON.stringify(join(folder, 'a'))}, endless());
    `;
    const writer = spawn(process.execPath, ['--input-type=module', '--eval', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(writer.stdout, 'data');
    const ended = once(writer, 'exit');
    writer.kill('SIGKILL');
    await ended;
    expect(await read('a')).toBe('old');
    expect(await names()).toHaveLength(2);
    expect(await sweepTemporary(folder, 0)).toBe(1);
    expect(await names()).toEqual(['a']);
  });
});

describe('sweeping', () => {
  test('only temporary files that nobody touched for long go, and only in this folder', async () => {
    const temporary = '.firn-tmp-0123456789abcdef';
    await writeFile(join(folder, temporary), 'x');
    await utimes(join(folder, temporary), 1, 1);
    await writeFile(join(folder, '.firn-tmp-short'), 'x');
    await writeFile(join(folder, `${temporary}.txt`), 'x');
    await writeFile(join(folder, 'a'), 'x');
    await mkdir(join(folder, 'sub'));
    await writeFile(join(folder, 'sub', temporary), 'x');

    expect(await sweepTemporary(folder, 60_000)).toBe(0);
    expect(await names()).toContain(temporary);
    expect(await sweepTemporary(folder, 60_000, Date.now() + 61_000)).toBe(1);

    expect(await names()).toEqual([`${temporary}.txt`, '.firn-tmp-short', 'a', 'sub']);
    expect(await readdir(join(folder, 'sub'))).toEqual([temporary]);
  });

  test('a folder that is not there has nothing to sweep, but cannot be synced', async () => {
    expect(await sweepTemporary(join(folder, 'none'), 0)).toBe(0);
    await expect(syncFolder(join(folder, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
    await syncFolder(folder);
  });
});

describe('a file system', () => {
  test.skipIf(process.platform !== 'linux')('is synced as a whole (on Linux)', async () => {
    await writeText(join(folder, 'a'), 'a', { sync: 'nothing' });
    await syncFileSystem(folder);
    expect(await canSyncFileSystem(folder)).toBe(true);
    expect(await isOnLocalDisk('/proc')).toBe(false);
  });

  test('that fails to write is told, and so is one that nothing can sync', async () => {
    const { PATH } = process.env;
    process.env.PATH = folder;
    try {
      expect(await canSyncFileSystem(folder)).toBe(false);
      // One that refuses a folder, and would say nothing of what it cannot write without one.
      await writeText(join(folder, 'sync'), '#!/bin/sh\n[ $# -eq 0 ]\n', { mode: 0o755 });
      await expect(syncFileSystem(folder)).rejects.toThrow();
      expect(await canSyncFileSystem(folder)).toBe(false);
    } finally {
      process.env.PATH = PATH;
    }
  });
});
