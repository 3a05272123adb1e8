/**
 * A local folder as a source: what differs between the folder and a filetree, as items in order of path.
 *
 * A file counts as unchanged when size, mtime and mode are those of the tree, and nothing of it was changed since the last scan
 * began: its ctime tells, also where a program put the mtime back. Where either lies within a step of the file system's clock
 * before that scan, the file may have been written once more after it was read; and what that scan could not read is not known.
 * Where no such scan is known, and with `rehash`, every file is read.
 *
 * Symbolic links are taken as links and never followed. Devices, sockets and pipes are skipped and named; so is what cannot be
 * read, and its earlier version stays. The folder itself has no entry.
 */
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { FirnError, problemOf } from '../errors.ts';
import { compareNames, type FileEntry, type FolderEntry, type FolderTree, type LinkEntry } from '../filetree/entry.ts';
import type { FiletreeStore } from '../filetree/filetree-store.ts';
import { listFolder } from '../filetree/walk.ts';
import type { Hash } from '../sealing/keys.ts';
import { isOnLocalDisk, systemCodeOf } from '../storage/local-files.ts';
import type { FolderListing, ListedAttributes } from './folder-listing.ts';
import type { ArchiveItem } from './item.ts';
import type { LastScan } from './last-scan.ts';
import { hasAttributes, storedAttributes } from './local-attributes.ts';
import { openFile, openLink } from './local-item.ts';
import { ReadPace } from './read-pace.ts';

/**
 * The coarsest steps in which file systems count times: of a whole second two seconds, as FAT has it; of
 * any other a tick of the kernel, or the 10 milliseconds of exFAT.
 */
const stepNanosecondsMax = { seconds: 2_000_000_000n, fractions: 20_000_000n } as const;
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
        /** The one that found what the tree holds. */
        readonly lastScan: Promise<LastScan | undefined>;
      }
    | undefined;
  /** Read every file, whatever its attributes say. */
  readonly rehash?: boolean;
  /** Rest on size, mtime and mode: for file systems whose ctime says nothing. */
  readonly ignoreCtime?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** @throws FIRN_FOLDER_MISSING, FIRN_NOT_A_FOLDER, FIRN_FILE_UNREADABLE when the folder itself cannot be read. */
export async function checkFolder(folder: string): Promise<void> {
  try {
    // Follows a link: a user may name a folder by one.
    await readdir(folder);
  } catch (error) {
    const code = systemCodeOf(error);
    if (code === 'ENOENT') throw new FirnError('FIRN_FOLDER_MISSING', { path: folder }, { cause: error });
    if (code === 'ENOTDIR') throw new FirnError('FIRN_NOT_A_FOLDER', { path: folder }, { cause: error });
    throw new FirnError('FIRN_FILE_UNREADABLE', { path: folder, problem: problemOf(error) }, { cause: error });
  }
}

/** Yields the difference and counts what is the same in `scan`. */
export async function* scanFolder(options: ScanOptions, scan: FolderScan): AsyncGenerator<ArchiveItem> {
  const { folder } = options.listing;
  const device = (await isOnLocalDisk(folder)) ? (await stat(folder)).dev : undefined;
  yield* new FolderScanner(options, scan, device, await options.base?.lastScan).folder('', options.base?.root, false);
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
  readonly #lastScan: LastScan | undefined;
  /** When it began, in nanoseconds since 1970. */
  readonly #scanBegun: bigint;
  #turnedAt = performance.now();

  constructor(options: ScanOptions, scan: FolderScan, localDevice: number | undefined, last: LastScan | undefined) {
    this.#options = options;
    this.#scan = scan;
    this.#top = path.join(options.listing.folder, path.sep);
    this.#localDevice = localDevice;
    this.#lastScan = last;
    this.#scanBegun = BigInt(last?.begun.getTime() ?? 0) * 1_000_000n;
  }

  /**
   * One folder: `at` is its path inside the source, empty for the top, else ending with «/».
   * @param wasSkipped whether the last scan could not read it.
   */
  async *folder(at: string, tree: FolderTree | undefined, wasSkipped: boolean): AsyncGenerator<ArchiveItem> {
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
        } else {
          const isUnseen = wasSkipped || this.#lastScan?.skipped.has(at + name) === true;
          if (listed.attributes.type === 'folder') {
            yield* this.#folderEntry(at + name, listed.attributes, before);
            yield* this.folder(`${at}${name}/`, before.file ? undefined : before.folder?.tree, isUnseen);
          } else {
            yield* this.#fileEntry(at + name, listed.attributes, before, isUnseen);
          }
        }
      }
      throw new FirnError('FIRN_INTERNAL', { problem: 'a listing of a folder was taken to its end twice' });
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

  *#fileEntry(entryPath: string, listed: ListedAttributes, before: Known, isUnseen: boolean): Generator<ArchiveItem> {
    if (before.folder) yield { path: entryPath, op: 'remove' };
    else if (before.file && !isUnseen && this.#isSettled(listed) && isUnchanged(listed, before.file)) {
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
      isKnown: before.file !== undefined,
      open: async (options = {}) =>
        isLink ? await openLink(entryPath, local) : await openFile({ ...options, entryPath, local, pace }),
    };
  }

  /** Written after the last scan had read it, the file would have other times. */
  #isSettled({ mtime, ctime }: ListedAttributes): boolean {
    const { rehash = false, ignoreCtime = false } = this.#options;
    if (rehash || this.#lastScan === undefined || !this.#isBeforeScan(mtime)) return false;
    return ignoreCtime || (this.#lastScan.byCtimes && this.#isBeforeScan(ctime));
  }

  /** By more than a step of the clock that counted it. @param time nanoseconds since 1970. */
  #isBeforeScan(time: bigint): boolean {
    const step = stepNanosecondsMax[time % SECOND_NANOSECONDS === 0n ? 'seconds' : 'fractions'];
    return time < this.#scanBegun - step;
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

function isUnchanged(listed: ListedAttributes, before: FileEntry | LinkEntry): boolean {
  if (listed.type !== before.type || !hasAttributes(listed, before)) return false;
  return listed.bytes === (before.type === 'file' ? before.bytes : Buffer.byteLength(before.target));
}
