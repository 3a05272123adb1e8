/**
 * Local files that appear whole or not at all: written under a temporary name in the same folder, synced, checked,
 * renamed, and the folder synced. A reader sees the old content or the new, also after a crash; writers of one name at
 * once do not mix, and the last rename wins.
 *
 * The temporary name is of this process alone and owes nothing to the final one, which may itself be as long as the system
 * takes. It is removed on failure; what a crash leaves behind is removed by `sweepTemporary`. Folders are not made here. Errors are
 * those of the file system, with their codes; callers know what the file was for and say so.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { lstat, open, readdir, statfs, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { abortablePieces } from './abortable.ts';

const execute = promisify(execFile);

type Awaitable<T> = T | Promise<T>;

/** The calls that may wait for a disk, by plain descriptors: the bookkeeping of a `FileHandle` costs more than a small file. */
interface FileCalls {
  open(path: string, flags: string, mode: number): Awaitable<number>;
  /** @returns the bytes written, which may be fewer than there are. */
  write(fd: number, bytes: Uint8Array, offset: number): Awaitable<number>;
  sync(fd: number): Awaitable<void>;
  close(fd: number): Awaitable<void>;
  link(existing: string, path: string): Awaitable<void>;
  rename(from: string, to: string): Awaitable<void>;
  unlink(path: string): Awaitable<void>;
}

const writeInPool = promisify(fs.write);

/** Through the thread pool: a disk that is slow, or far away, holds up nothing else. */
const callsInPool: FileCalls = {
  open: promisify(fs.open),
  write: async (fd, bytes, offset) => (await writeInPool(fd, bytes, offset)).bytesWritten,
  sync: promisify(fs.fsync),
  close: promisify(fs.close),
  link: promisify(fs.link),
  rename: promisify(fs.rename),
  unlink: promisify(fs.unlink),
};

/** On this thread: for a small file on a local disk the trips through the pool take several times as long as the work. */
const callsAtOnce: FileCalls = {
  open: fs.openSync,
  write: fs.writeSync,
  sync: fs.fsyncSync,
  close: fs.closeSync,
  link: fs.linkSync,
  rename: fs.renameSync,
  unlink: fs.unlinkSync,
};

/** The numbers that Linux gives to the file systems of its own disks: ext2 to 4, XFS, Btrfs, tmpfs, overlay, ZFS, F2FS. */
const localFileSystems = new Set([0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x794c7630, 0x2fc12fc1, 0xf2f52010]);

/** Says whether a folder is known to lie on a disk of this machine. */
export async function isOnLocalDisk(folder: string): Promise<boolean> {
  return process.platform === 'linux' && localFileSystems.has((await statfs(folder)).type);
}

const PREFIX = '.firn-tmp-';
const temporaryName = new RegExp(`^${PREFIX.replaceAll('.', '\\.')}[0-9a-f]{16}$`);

/** A file system without hard links answers with one of these. */
const noLinkCodes = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EXDEV']);

export interface LocalWriteOptions {
  /** False: a file that is there stays, and the write fails with EEXIST. True where undefined. */
  readonly overwrite?: boolean;
  /** Permission bits, set exactly; where undefined, as the system's mask leaves them. */
  readonly mode?: number | undefined;
  /** Time of modification in seconds since 1970, in the form that `utimes` takes. */
  readonly mtimeSeconds?: number | string | undefined;
  /**
   * What must be on the disk before the write resolves. «file»: the caller syncs the folder itself, once for many
   * files. «nothing»: for what can be made again, or is synced by `syncFileSystem`; whole or absent all the same, but
   * after a power cut the old may be back, or the file be short.
   */
  readonly sync?: 'file and folder' | 'file' | 'nothing';
  /** Hold up this thread until it is done, which is faster for a small file on a local disk. */
  readonly atOnce?: boolean;
  /** Called when all is written and synced; when it throws, the file does not appear. */
  readonly check?: () => void | Promise<void>;
  readonly signal?: AbortSignal | undefined;
}

export async function writeBytes(path: string, bytes: Uint8Array, options: LocalWriteOptions = {}): Promise<void> {
  await appear(path, options, (calls, fd) => writeAll(calls, fd, bytes));
}

/** Writes UTF-8. */
export async function writeText(path: string, text: string, options: LocalWriteOptions = {}): Promise<void> {
  await writeBytes(path, Buffer.from(text), options);
}

/** Writes one JSON value and a line end. */
export async function writeJson(path: string, value: unknown, options: LocalWriteOptions = {}): Promise<void> {
  await writeText(path, `${JSON.stringify(value)}\n`, options);
}

/** Writes what `pieces` gives; memory holds one piece. A source that throws leaves the old file as it was. */
export async function writeStream(
  path: string,
  pieces: AsyncIterable<Uint8Array>,
  options: LocalWriteOptions = {},
): Promise<void> {
  await appear(path, options, async (calls, fd) => {
    for await (const piece of abortablePieces(pieces, options.signal)) await writeAll(calls, fd, piece);
  });
}

let ownNames: string | undefined;
let namesGiven = 0;

/** A name in this folder that nobody has, for what is made beside its final name; `sweepTemporary` knows it. */
export function temporaryPath(folder: string): string {
  // A random number for each name would take longer than to write a small file.
  ownNames ??= randomBytes(4).toString('hex');
  namesGiven = (namesGiven + 1) >>> 0;
  return join(folder, PREFIX + ownNames + namesGiven.toString(16).padStart(8, '0'));
}

/** Makes the names in a folder durable. */
export async function syncFolder(folder: string): Promise<void> {
  // Windows has no such thing; its renames are in the journal of the file system.
  if (process.platform === 'win32') return;
  await using handle = await open(folder, 'r');
  await handle.sync();
}

/**
 * Makes everything durable that was written to the file system of this folder: for many files a small part of the cost of
 * syncing each. Fails where anything could not be written (Linux tells that from version 5.8 on).
 */
export async function syncFileSystem(folder: string): Promise<void> {
  await execute('sync', ['-f', folder]);
}

/** Says whether `syncFileSystem` works here, by doing it. The `sync` of other systems promises less, or does not wait. */
export async function canSyncFileSystem(folder: string): Promise<boolean> {
  if (process.platform !== 'linux') return false;
  return await syncFileSystem(folder).then(
    () => true,
    () => false,
  );
}

/**
 * Removes temporary files that writers left in this folder (not below it) and that nobody has touched for so long; gives
 * how many. A folder that is not there has none.
 */
export async function sweepTemporary(folder: string, olderThanMs: number, now: number = Date.now()): Promise<number> {
  let swept = 0;
  for (const name of await readNames(folder)) {
    if (!temporaryName.test(name)) continue;
    const path = join(folder, name);
    // The time of change, since a writer may set that of modification to any time.
    const changedMs = await lstat(path).then(
      (stat) => Math.floor(stat.ctimeMs),
      (error) => absent(error, undefined),
    );
    if (changedMs === undefined || now - changedMs < olderThanMs) continue;
    await unlink(path).catch((error) => absent(error, undefined));
    swept += 1;
  }
  return swept;
}

async function writeAll(calls: FileCalls, fd: number, bytes: Uint8Array): Promise<void> {
  // Should they be gone before the end, the write fails.
  const { length } = bytes;
  for (let at = 0; at < length; ) at += await calls.write(fd, bytes, at);
}

async function appear(
  path: string,
  options: LocalWriteOptions,
  write: (calls: FileCalls, fd: number) => Promise<void>,
): Promise<void> {
  options.signal?.throwIfAborted();
  const { mode, mtimeSeconds, overwrite = true, sync = 'file and folder', atOnce = false } = options;
  const calls = atOnce ? callsAtOnce : callsInPool;
  const folder = dirname(path);
  const temporary = temporaryPath(folder);
  try {
    // Nobody else may read it before it has the mode that was asked for.
    const fd = await calls.open(temporary, 'wx', mode === undefined ? 0o666 : 0o600);
    try {
      await write(calls, fd);
      if (mode !== undefined) fs.fchmodSync(fd, mode);
      if (mtimeSeconds !== undefined) fs.futimesSync(fd, mtimeSeconds, mtimeSeconds);
      if (sync !== 'nothing') await calls.sync(fd);
    } finally {
      await calls.close(fd);
    }
    await options.check?.();
    options.signal?.throwIfAborted();
    if (overwrite) await calls.rename(temporary, path);
    else await renameNew(calls, temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  if (sync === 'file and folder') await syncFolder(folder);
}

/** A rename replaces what is there; a link never does. */
async function renameNew(calls: FileCalls, temporary: string, path: string): Promise<void> {
  try {
    await calls.link(temporary, path);
  } catch (error) {
    if (!noLinkCodes.has(systemCodeOf(error) ?? '')) throw error;
    // Without hard links two writers within the same instant can still both succeed.
    if (await isThere(path))
      throw Object.assign(new Error(`EEXIST: file already exists, '${path}'`), { code: 'EEXIST' });
    await calls.rename(temporary, path);
    return;
  }
  await calls.unlink(temporary);
}

async function isThere(path: string): Promise<boolean> {
  return await lstat(path).then(
    () => true,
    (error) => absent(error, false),
  );
}

async function readNames(folder: string): Promise<string[]> {
  return await readdir(folder).catch((error) => absent(error, []));
}

/** Whether the error says that nothing is there. */
export function isAbsent(error: unknown): boolean {
  return systemCodeOf(error) === 'ENOENT';
}

/** `value` when the error says that nothing is there; throws any other. */
function absent<T>(error: unknown, value: T): T {
  if (isAbsent(error)) return value;
  throw error;
}

/** The code of an error of the file system, such as «ENOENT»; undefined for any other error. */
export function systemCodeOf(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}
