/**
 * The folder that a restore writes into. It promises that nothing is written outside that folder: a path is checked
 * name by name, folders are made from the top down and are never links, and what is written appears by a rename, which
 * replaces a link instead of following it. (It does not defend against another program that swaps folders for links in
 * the target while the restore runs.)
 *
 * A file appears under its name whole, checked, with its mode and time, or not at all; all is durable when `finish`
 * resolves. In a folder that was new or empty the file system is synced once, at the end (on Linux): until then nobody
 * relies on what is in it. Elsewhere each file is synced before it takes its name. Errors of one path are
 * FIRN_TARGET_BLOCKED; errors that every path would meet (a full disk) are FIRN_TARGET_FAILED and end the restore.
 */
import { closeSync, constants, fchmodSync, fsync, futimesSync, lstatSync, mkdirSync, openSync } from 'node:fs';
import { chmod, lutimes, mkdir, readdir, rename, rm, symlink, unlink } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { FirnError, problemOf } from '../errors.ts';
import { type EntryAttributes, type FileEntry, type LinkEntry, pathProblem } from '../filetree/entry.ts';
import { abortablePieces } from '../storage/abortable.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import {
  canSyncFileSystem,
  isOnLocalDisk,
  sweepTemporary,
  syncFileSystem,
  syncFolder,
  systemCodeOf,
  temporaryPath,
  writeBytes,
  writeStream,
} from '../storage/local-files.ts';
import { secondsForUtimes } from './file-time.ts';

export interface RestoreTarget {
  /** Makes a folder, or takes the one that is there. Its parent must have been made before. */
  makeFolder(at: string, attributes: EntryAttributes): Promise<void>;
  /** Gives a folder its mode and time; after everything in it was written. Nothing to do where it is not there. */
  finishFolder?(at: string, attributes: EntryAttributes): Promise<void>;
  /** When it resolves, all of the content is written, and a piece of it is when the next is asked for; nothing is kept of either. */
  writeFile(
    at: string,
    attributes: EntryAttributes & Partial<Pick<FileEntry, 'bytes'>>,
    content: Uint8Array | AsyncIterable<Uint8Array>,
    options?: CallOptions,
  ): Promise<void>;
  writeLink(at: string, link: EntryAttributes & Pick<LinkEntry, 'target'>): Promise<void>;
  /** Makes all of it durable; after everything. */
  finish(): Promise<void>;
}

/** The target of a restore that only reads. */
export const nowhere: RestoreTarget = {
  async makeFolder() {},
  async writeFile(_at, _attributes, content, { signal } = {}) {
    if (!(content instanceof Uint8Array)) for await (const _ of abortablePieces(content, signal));
  },
  async writeLink() {},
  async finish() {},
};

const syncFile = promisify(fsync);

/** What a restore that died left behind is removed by the next one into the same folder, after this time. */
const TEMPORARY_MS_MAX = 60 * 60 * 1000;
/** Problems of the whole target, not of one path. */
const generalCodes = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EIO', 'EMFILE', 'ENFILE', 'ENOMEM']);

/**
 * Prepares the folder, which is made where it is not there.
 * @throws FIRN_TARGET_NOT_EMPTY unless `overwrite` is set; FIRN_NOT_A_FOLDER, FIRN_TARGET_FAILED.
 */
export async function openTarget(folder: string, { overwrite }: { overwrite: boolean }): Promise<RestoreTarget> {
  try {
    await mkdir(folder, { recursive: true });
    const [first] = await readdir(folder);
    if (first !== undefined && !overwrite) throw new FirnError('FIRN_TARGET_NOT_EMPTY', { path: folder });
    await sweepTemporary(folder, TEMPORARY_MS_MAX);
    const syncsEach = first !== undefined || !(await canSyncFileSystem(folder));
    return targetIn(path.resolve(folder), { overwrite, syncsEach, isLocal: await isOnLocalDisk(folder) });
  } catch (error) {
    if (error instanceof FirnError) throw error;
    const code = systemCodeOf(error);
    if (code === 'EEXIST' || code === 'ENOTDIR') throw new FirnError('FIRN_NOT_A_FOLDER', { path: folder });
    throw new FirnError('FIRN_TARGET_FAILED', { path: folder, problem: problemOf(error) }, { cause: error });
  }
}

/** The local path of an entry. @throws FIRN_PATH_ESCAPES. */
export function localPath(folder: string, at: string): string {
  const names = at.split('/');
  const local = path.resolve(folder, ...names);
  // On systems where more than «/» divides names, a name could still be several.
  const isInside = path.relative(folder, local).split(path.sep).join('/') === at;
  if (pathProblem(at) !== undefined || !isInside) throw new FirnError('FIRN_PATH_ESCAPES', { path: at });
  return local;
}

interface TargetOptions {
  readonly overwrite: boolean;
  /** Each file and folder when it is done, in the place of the whole file system at the end. */
  readonly syncsEach: boolean;
  readonly isLocal: boolean;
}

/** Longer files are written through the thread pool, so that nothing waits for their bytes. */
const AT_ONCE_BYTES_MAX = 1024 * 1024;

function targetIn(folder: string, { overwrite, syncsEach, isLocal }: TargetOptions): RestoreTarget {
  /** Runs what concerns one path; says what went wrong in the words of the table. */
  async function onPath<T>(at: string, work: (local: string) => Promise<T>): Promise<T> {
    const local = localPath(folder, at);
    try {
      return await work(local);
    } catch (error) {
      const code = systemCodeOf(error);
      if (code === undefined) throw error;
      if (code === 'EEXIST') checkFree(at, local);
      const problem = problemOf(error);
      throw generalCodes.has(code)
        ? new FirnError('FIRN_TARGET_FAILED', { path: folder, problem }, { cause: error })
        : new FirnError('FIRN_TARGET_BLOCKED', { path: at, problem }, { cause: error });
    }
  }

  function blocked(at: string, problem: string): FirnError {
    return new FirnError('FIRN_TARGET_BLOCKED', { path: at, problem });
  }

  /** A file or link may take this name: nothing is there, or something that is to be overwritten. */
  function checkFree(at: string, local: string): void {
    const there = statOf(local);
    if (there?.isDirectory()) throw blocked(at, 'a folder is in the way');
    if (there !== undefined && !overwrite) throw blocked(at, 'a file is in the way');
  }

  return {
    makeFolder: (at, { mode }) =>
      onPath(at, async (local) => {
        const there = statOf(local);
        if (there?.isDirectory()) {
          // As an earlier restore left it; it gets its mode again when it is finished.
          if (mode !== undefined && (there.mode & 0o700) !== 0o700) await chmod(local, there.mode | 0o700);
          await sweepTemporary(local, TEMPORARY_MS_MAX);
          return;
        }
        if (there !== undefined) {
          if (!overwrite) throw blocked(at, 'a file is in the way');
          await unlink(local);
        }
        // Open to nobody who will not see it in the end, and to us in any case.
        const options = mode === undefined ? {} : { mode: (mode | 0o700) & 0o777 };
        if (isLocal) mkdirSync(local, options);
        else await mkdir(local, options);
      }),

    finishFolder: (at, attributes) =>
      onPath(at, async (local) => {
        const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
        const seconds = secondsOf(at, attributes.mtime);
        const fd = openSync(local, flags);
        try {
          if (attributes.mode !== undefined) fchmodSync(fd, attributes.mode);
          if (seconds !== undefined) futimesSync(fd, seconds, seconds);
          // With the names of all that was written into it.
          if (syncsEach) await syncFile(fd);
        } finally {
          closeSync(fd);
        }
      }),

    writeFile: (at, { bytes = Number.POSITIVE_INFINITY, mode, mtime }, content, { signal } = {}) =>
      onPath(at, async (local) => {
        // Where nothing may be replaced, the file system says so.
        if (overwrite) checkFree(at, local);
        const mtimeSeconds = secondsOf(at, mtime);
        const sync = syncsEach ? 'file' : 'nothing';
        const atOnce = isLocal && !syncsEach && bytes <= AT_ONCE_BYTES_MAX;
        const options = { overwrite, mode, mtimeSeconds, sync, atOnce, signal } as const;
        await (content instanceof Uint8Array
          ? writeBytes(local, content, options)
          : writeStream(local, content, options));
      }),

    writeLink: (at, { target, mtime }) =>
      onPath(at, async (local) => {
        // Node would refuse the one, and write another text for the other.
        if (target.includes('\0') || !target.isWellFormed()) throw blocked(at, 'no link can have its target');
        checkFree(at, local);
        const seconds = secondsOf(at, mtime);
        const made = overwrite ? temporaryPath(path.dirname(local)) : local;
        await symlink(target, made);
        try {
          if (seconds !== undefined) await lutimes(made, seconds, seconds);
          if (made !== local) await rename(made, local);
        } catch (error) {
          await rm(made, { force: true });
          throw error;
        }
      }),

    async finish() {
      try {
        await (syncsEach ? syncFolder(folder) : syncFileSystem(folder));
      } catch (error) {
        throw new FirnError('FIRN_TARGET_FAILED', { path: folder, problem: problemOf(error) }, { cause: error });
      }
    },
  };
}

function secondsOf(at: string, mtime: string | undefined): string | undefined {
  try {
    return mtime === undefined ? undefined : secondsForUtimes(mtime);
  } catch (cause) {
    throw new FirnError('FIRN_TARGET_BLOCKED', { path: at, problem: problemOf(cause) }, { cause });
  }
}

/** Asked at once: for a local disk it takes a fraction of a trip through the thread pool. */
function statOf(local: string) {
  return lstatSync(local, { throwIfNoEntry: false });
}
