/**
 * Opens the files and links of a local folder for the archive pipeline. A link is not followed. What has become something else
 * since it was listed is refused or gone, and a file that did not stand still while it was read says so.
 */
import { isUtf8 } from 'node:buffer';
import { type BigIntStats, closeSync, constants, fstatSync, open, openSync, read, readSync } from 'node:fs';
import { lstat, readlink } from 'node:fs/promises';
import { promisify } from 'node:util';
import { FirnError, problemOf } from '../errors.ts';
import { isAbsent } from '../storage/local-files.ts';
import type { OpenedItem, OpenOptions } from './item.ts';
import { localAttributesOf, storedAttributes } from './local-attributes.ts';
import type { ReadPace } from './read-pace.ts';

const READ_BYTES = 1024 * 1024;

export async function openLink(entryPath: string, local: string): Promise<OpenedItem> {
  try {
    const stats = await lstat(local, { bigint: true });
    const raw = await readlink(local, { encoding: 'buffer' });
    if (!isUtf8(raw)) {
      throw new FirnError('FIRN_FILE_UNREADABLE', { path: entryPath, problem: 'its target is not valid UTF-8' });
    }
    return { type: 'link', ...openedEntry(stats), target: raw.toString() };
  } catch (error) {
    return goneOrUnreadable(entryPath, error);
  }
}

const openFd = promisify(open);
const readFd = promisify(read);
// Without following a link, and without waiting for a writer, should the file have become something else.
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/**
 * A file that is being read. What the system knows already is asked on this thread, which costs a fraction of a trip
 * through the thread pool: all of an open file, and on a local disk the way to a file that was just looked at and, as far
 * as it is in memory, its content.
 */
class OpenFile {
  readonly #fd: number;
  readonly #pace: ReadPace | undefined;
  #open = true;

  constructor(fd: number, pace: ReadPace | undefined) {
    this.#fd = fd;
    this.#pace = pace;
  }

  stat(): BigIntStats {
    return fstatSync(this.#mine(), { bigint: true });
  }

  async read(buffer: Buffer): Promise<number> {
    const fd = this.#mine();
    if (this.#pace?.next(buffer.length) !== 'here') return (await readFd(fd, buffer, 0, buffer.length, null)).bytesRead;
    const began = performance.now();
    const bytesRead = readSync(fd, buffer, 0, buffer.length, null);
    this.#pace.tookHere(performance.now() - began);
    return bytesRead;
  }

  /** May be called again; the number may belong to another file by then, and is not used any more. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#fd);
  }

  #mine(): number {
    if (!this.#open) throw new Error('The file is closed.');
    return this.#fd;
  }
}

interface FileToOpen extends OpenOptions {
  readonly entryPath: string;
  readonly local: string;
  /** Of the disk that it is on, where that is one of this machine. */
  readonly pace: ReadPace | undefined;
}

export async function openFile(fileToOpen: FileToOpen): Promise<OpenedItem> {
  const { entryPath, local, pace } = fileToOpen;
  let file: OpenFile | undefined;
  try {
    const opened = new OpenFile(pace ? openSync(local, OPEN_FLAGS) : await openFd(local, OPEN_FLAGS), pace);
    file = opened;
    const before = opened.stat();
    if (!before.isFile()) {
      throw new FirnError('FIRN_FILE_UNREADABLE', { path: entryPath, problem: 'it is not a file any more' });
    }
    const bytes = Number(before.size);
    let answer: boolean | undefined;
    return {
      type: 'file',
      ...openedEntry(before),
      bytes,
      content: contentOf(fileToOpen, opened, bytes),
      unchanged: async () => {
        answer ??= stoodStill(opened, before);
        return answer;
      },
    };
  } catch (error) {
    file?.close();
    return goneOrUnreadable(entryPath, error);
  }
}

function openedEntry(stats: BigIntStats) {
  return { attributes: storedAttributes(localAttributesOf(stats)), ctime: stats.ctimeNs };
}

/** Closes the file. One that cannot be asked any more did not stand still. */
function stoodStill(file: OpenFile, before: BigIntStats): boolean {
  try {
    const after = file.stat();
    return after.size === before.size && after.mtimeNs === before.mtimeNs && after.ctimeNs === before.ctimeNs;
  } catch {
    return false;
  } finally {
    file.close();
  }
}

async function* contentOf(
  { entryPath, transientPieces = false, signal }: FileToOpen,
  file: OpenFile,
  bytesExpected: number,
): AsyncGenerator<Buffer> {
  // One byte more than a small file has, so that a file that grew is noticed and the end costs no large buffer.
  const bytesAtOnce = Math.min(READ_BYTES, bytesExpected + 1);
  const shared = transientPieces ? Buffer.allocUnsafe(bytesAtOnce) : undefined;
  let bytes = 0;
  try {
    for (;;) {
      signal?.throwIfAborted();
      const buffer = shared ?? Buffer.allocUnsafe(bytesAtOnce);
      const bytesRead = await file.read(buffer);
      if (bytesRead === 0) return;
      bytes += bytesRead;
      yield buffer.subarray(0, bytesRead);
      // Asked for more, and just what was expected came: the end, unless the file grows, which is noticed afterwards.
      if (bytesRead < bytesAtOnce && bytes === bytesExpected) return;
    }
  } catch (error) {
    file.close();
    throw signal?.aborted
      ? error
      : new FirnError('FIRN_FILE_UNREADABLE', { path: entryPath, problem: problemOf(error) }, { cause: error });
  }
}

function goneOrUnreadable(entryPath: string, error: unknown): OpenedItem {
  if (isAbsent(error)) return { type: 'gone' };
  if (error instanceof FirnError) throw error;
  throw new FirnError('FIRN_FILE_UNREADABLE', { path: entryPath, problem: problemOf(error) }, { cause: error });
}
