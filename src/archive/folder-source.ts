/**
 * A local folder as a source: what differs between the folder and a filetree, as items in order of path.
 *
 * A file counts as unchanged when size, mtime and mode are those of the tree; but not one that may have been written once
 * more after it was read, within the same step of its file system's clock (`rehash` reads every file). Symbolic links are
 * taken as links and never followed. Devices, sockets and pipes are skipped and named; so is what cannot be read, and its
 * earlier version stays. The folder itself has no entry.
 */
import { type BigIntStats, closeSync, constants, fstatSync, open, openSync, read, readSync } from 'node:fs';
import { lstat, readdir, readlink, stat } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { promisify } from 'node:util';
import { FirnError, problemOf } from '../errors.ts';
import {
  compareNames,
  type EntryAttributes,
  type FileEntry,
  type FolderEntry,
  type FolderTree,
  type LinkEntry,
} from '../filetree/entry.ts';
import type { FiletreeStore } from '../filetree/filetree-store.ts';
import { nanosecondsOfTime, timeOfNanoseconds } from '../filetree/time.ts';
import { listFolder } from '../filetree/walk.ts';
import type { Hash } from '../sealing/keys.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { isOnLocalDisk } from '../storage/local-files.ts';
import { type FolderListing, type ListedAttributes, permissionsOf } from './folder-listing.ts';
import type { ArchiveItem, OpenedItem } from './item.ts';
import { ReadPace } from './read-pace.ts';

const READ_BYTES = 1024 * 1024;
/**
 * The coarsest steps in which file systems count times of modification: of a whole second two seconds, as FAT has it; of
 * any other a tick of the kernel, or the 10 milliseconds of exFAT.
 */
const mtimeStepNanosecondsMax = { seconds: 2_000_000_000n, fractions: 20_000_000n } as const;
const SECOND_NANOSECONDS = 1_000_000_000n;
/** After so long the process turns to what waits: signals, and the renewal of a lock. */
const TURN_MS_MAX = 20;

export interface FolderScan {
  /** Files and links that are as they were. */
  unchangedFiles: number;
  /** Their bytes. */
  unchangedBytes: number;
}

export interface ScanOptions {
  /** Of the folder; taken to its end. */
  readonly listing: FolderListing;
  /** The tree to compare with; undefined for none. */
  readonly base:
    | {
        readonly filetrees: FiletreeStore;
        readonly root: Hash;
        /** Of the latest scan that the tree comes from; undefined where it comes from uploads. */
        readonly scanBegun?: Date | undefined;
      }
    | undefined;
  /** Read every file, whatever its attributes say. */
  readonly rehash: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** @throws FIRN_FOLDER_MISSING, FIRN_NOT_A_FOLDER, FIRN_FILE_UNREADABLE when the folder itself cannot be read. */
export async function checkFolder(folder: string): Promise<void> {
  try {
    // Follows a link: a user may name a folder by one.
    await readdir(folder);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'ENOENT') throw new FirnError('FIRN_FOLDER_MISSING', { path: folder }, { cause: error });
    if (code === 'ENOTDIR') throw new FirnError('FIRN_NOT_A_FOLDER', { path: folder }, { cause: error });
    throw new FirnError('FIRN_FILE_UNREADABLE', { path: folder, problem: problemOf(error) }, { cause: error });
  }
}

/** Yields the difference and counts what is the same in `scan`. */
export async function* scanFolder(options: ScanOptions, scan: FolderScan): AsyncGenerator<ArchiveItem> {
  const { folder } = options.listing;
  const device = (await isOnLocalDisk(folder)) ? (await stat(folder)).dev : undefined;
  yield* new FolderScanner(options, scan, device).folder('', options.base?.root);
}

/** What a filetree has under one name. */
interface Known {
  folder?: FolderEntry;
  file?: FileEntry | LinkEntry;
}

class FolderScanner {
  readonly #options: ScanOptions;
  readonly #scan: FolderScan;
  /** The folder, ready for a path to be put behind it: `path.join` for every file is a tenth of a scan. */
  readonly #top: string;
  /** The disk of the folder, where it is one of this machine; others may be mounted below it. */
  readonly #localDevice: number | undefined;
  readonly #pace = new ReadPace();
  /** The last scan, in nanoseconds since 1970. */
  readonly #scanBegun: bigint | undefined;
  #turnedAt = performance.now();

  constructor(options: ScanOptions, scan: FolderScan, localDevice: number | undefined) {
    this.#options = options;
    this.#scan = scan;
    this.#top = path.join(options.listing.folder, path.sep);
    this.#localDevice = localDevice;
    const begun = options.base?.scanBegun;
    if (begun) this.#scanBegun = BigInt(begun.getTime()) * 1_000_000n;
  }

  /** One folder: `at` is its path inside the source, empty for the top, else ending with «/». */
  async *folder(at: string, tree: FolderTree | undefined): AsyncGenerator<ArchiveItem> {
    const { signal, listing } = this.#options;
    const known = this.#knownIn(tree);
    try {
      let next = await known.next();
      for (let listed = listing.next(); listed !== undefined; listed = listing.next()) {
        signal?.throwIfAborted();
        if (performance.now() - this.#turnedAt > TURN_MS_MAX) {
          await nextTurn();
          this.#turnedAt = performance.now();
        }
        if (listed.is === 'end') {
          // Of what cannot be listed nothing is known to be gone.
          if (listed.problem !== undefined) return yield skip(at.slice(0, -1), 'FIRN_FILE_UNREADABLE', listed.problem);
          for (; !next.done; next = await known.next()) yield { path: at + next.value.name, op: 'remove' };
          return;
        }
        const { name } = listed;
        if (listed.is === 'nameless') {
          yield skip(at + name, 'FIRN_PATH_UNUSABLE', listed.problem);
          continue;
        }
        while (!next.done && compareNames(next.value.name, name) < 0) {
          yield { path: at + next.value.name, op: 'remove' };
          next = await known.next();
        }
        let before: Known = {};
        if (!next.done && next.value.name === name) {
          before = next.value.known;
          next = await known.next();
        }
        if (listed.is === 'refused') {
          yield skip(at + name, listed.code, listed.problem);
        } else if (listed.is === 'gone') {
          if (before.file || before.folder) yield { path: at + name, op: 'remove' };
        } else if (listed.attributes.type === 'folder') {
          yield* this.#folderEntry(at + name, listed.attributes, before);
          yield* this.folder(`${at}${name}/`, before.file ? undefined : before.folder?.tree);
        } else {
          yield* this.#fileEntry(at + name, listed.attributes, before);
        }
      }
    } finally {
      await known.return(undefined);
    }
  }

  *#folderEntry(entryPath: string, listed: ListedAttributes, before: Known): Generator<ArchiveItem> {
    if (before.file) yield { path: entryPath, op: 'remove' };
    const folder = before.file ? undefined : before.folder;
    if (folder !== undefined && hasAttributes(listed, folder)) return;
    const attributes = storedAttributes(listed);
    yield { path: entryPath, op: 'put', bytes: 0, open: async () => ({ type: 'folder', attributes }) };
  }

  *#fileEntry(entryPath: string, listed: ListedAttributes, before: Known): Generator<ArchiveItem> {
    if (before.folder) yield { path: entryPath, op: 'remove' };
    else if (before.file && this.#isSettled(listed) && isUnchanged(listed, before.file)) {
      this.#scan.unchangedFiles += 1;
      this.#scan.unchangedBytes += before.file.type === 'file' ? before.file.bytes : 0;
      return;
    }
    const local = this.#top + entryPath;
    const pace = listed.device === this.#localDevice ? this.#pace : undefined;
    const isLink = listed.type === 'link';
    yield {
      path: entryPath,
      op: 'put',
      bytes: isLink ? 0 : listed.bytes,
      open: async ({ signal } = {}) =>
        isLink ? await openLink(entryPath, local) : await openFile({ entryPath, local, pace, signal }),
    };
  }

  /** Written after the last scan had read it, the file would have another time. */
  #isSettled({ mtime }: ListedAttributes): boolean {
    if (this.#options.rehash) return false;
    const step = mtimeStepNanosecondsMax[mtime % SECOND_NANOSECONDS === 0n ? 'seconds' : 'fractions'];
    return this.#scanBegun === undefined || mtime < this.#scanBegun - step;
  }

  /** What the tree has in a folder, by name. */
  async *#knownIn(tree: FolderTree | undefined): AsyncGenerator<{ name: string; known: Known }, undefined> {
    const filetrees = this.#options.base?.filetrees;
    if (filetrees === undefined || tree === undefined) return undefined;
    let held: { name: string; known: Known } | undefined;
    for await (const entry of listFolder(filetrees, tree, { signal: this.#options.signal, goesBelow: true })) {
      if (held?.name !== entry.name) {
        if (held) yield held;
        held = { name: entry.name, known: {} };
      }
      if (entry.type === 'folder') held.known.folder = entry;
      else held.known.file = entry;
    }
    if (held) yield held;
    return undefined;
  }
}

function skip(entryPath: string, code: string, problem: string): ArchiveItem {
  return { path: entryPath, op: 'skip', code, problem };
}

function storedAttributes({ mtime, mode }: Pick<ListedAttributes, 'mtime' | 'mode'>): EntryAttributes {
  return { mtime: timeOfNanoseconds(mtime), mode };
}

function attributesOf({ mtimeNs, mode }: BigIntStats): EntryAttributes {
  return storedAttributes({ mtime: mtimeNs, mode: permissionsOf(mode) });
}

/** So far off may a time be that was restored: Node sets times in steps of some hundred nanoseconds. */
const MTIME_NANOSECONDS_OFF_MAX = 1000n;

function isSameTime(nanoseconds: bigint, time: string | undefined): boolean {
  if (time === undefined) return timeOfNanoseconds(nanoseconds) === undefined;
  const off = nanoseconds - nanosecondsOfTime(time);
  return -MTIME_NANOSECONDS_OFF_MAX < off && off < MTIME_NANOSECONDS_OFF_MAX;
}

function hasAttributes(listed: ListedAttributes, { mtime, mode }: EntryAttributes): boolean {
  return listed.mode === mode && isSameTime(listed.mtime, mtime);
}

function isUnchanged(listed: ListedAttributes, before: FileEntry | LinkEntry): boolean {
  if (listed.type !== before.type || !hasAttributes(listed, before)) return false;
  return listed.bytes === (before.type === 'file' ? before.bytes : Buffer.byteLength(before.target));
}

async function openLink(entryPath: string, local: string): Promise<OpenedItem> {
  try {
    const stats = await lstat(local, { bigint: true });
    const raw = await readlink(local, { encoding: 'buffer' });
    const target = raw.toString();
    if (!Buffer.from(target).equals(raw)) {
      throw new FirnError('FIRN_FILE_UNREADABLE', { path: entryPath, problem: 'its target is not valid UTF-8' });
    }
    return { type: 'link', attributes: attributesOf(stats), target };
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

interface FileToOpen extends CallOptions {
  readonly entryPath: string;
  readonly local: string;
  /** Of the disk that it is on, where that is one of this machine. */
  readonly pace: ReadPace | undefined;
}

async function openFile({ entryPath, local, pace, signal }: FileToOpen): Promise<OpenedItem> {
  let file: OpenFile | undefined;
  try {
    const opened = new OpenFile(pace ? openSync(local, OPEN_FLAGS) : await openFd(local, OPEN_FLAGS), pace);
    file = opened;
    const before = opened.stat();
    if (!before.isFile()) {
      throw new FirnError('FIRN_FILE_UNREADABLE', { path: entryPath, problem: 'it is not a file any more' });
    }
    let answer: boolean | undefined;
    return {
      type: 'file',
      attributes: attributesOf(before),
      content: contentOf(entryPath, opened, Number(before.size), signal),
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
  entryPath: string,
  file: OpenFile,
  bytesExpected: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  // One byte more than a small file has, so that a file that grew is noticed and the end costs no large buffer.
  const bytesAtOnce = Math.min(READ_BYTES, bytesExpected + 1);
  let bytes = 0;
  try {
    for (;;) {
      signal?.throwIfAborted();
      const buffer = Buffer.allocUnsafe(bytesAtOnce);
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
  if (codeOf(error) === 'ENOENT') return { type: 'gone' };
  if (error instanceof FirnError) throw error;
  throw new FirnError('FIRN_FILE_UNREADABLE', { path: entryPath, problem: problemOf(error) }, { cause: error });
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
