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
import {
  compareNames,
  type FileEntry,
  type FolderEntry,
  type FolderTotals,
  type FolderTree,
  type LinkEntry,
} from '../filetree/entry.ts';
import type { FiletreeStore } from '../filetree/filetree-store.ts';
import { type CursorHead, FolderCursor, type NameGroup, upcomingOf } from '../filetree/folder-cursor.ts';
import type { Hash } from '../sealing/keys.ts';
import { isOnLocalDisk, systemCodeOf } from '../storage/local-files.ts';
import type { FolderListing, Listed, ListedAttributes } from './folder-listing.ts';
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
  yield* new FolderScanner(options, scan, device, await options.base?.lastScan).items();
}

/** A folder on the way to what is looked at. */
interface OpenFolder {
  /** Its path inside the source, empty for the top, else ending with «/». */
  readonly at: string;
  /** In what the tree has in it, behind the names that were taken; undefined where the scan compares with nothing. */
  readonly cursor: FolderCursor | undefined;
  /** The last scan could not read it. */
  readonly isUnseen: boolean;
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
  /** The deepest last. */
  readonly #open: OpenFolder[] = [];
  #turnedAt = performance.now();

  constructor(options: ScanOptions, scan: FolderScan, localDevice: number | undefined, last: LastScan | undefined) {
    this.#options = options;
    this.#scan = scan;
    this.#top = path.join(options.listing.folder, path.sep);
    this.#localDevice = localDevice;
    this.#lastScan = last;
    this.#scanBegun = BigInt(last?.begun.getTime() ?? 0) * 1_000_000n;
  }

  /** One loop for all folders, which waits for pages of the tree and for its turns only: most entries are unchanged, and make no item. */
  async *items(): AsyncGenerator<ArchiveItem> {
    const { signal, listing, base } = this.#options;
    this.#open.push({ at: '', cursor: this.#cursor(base?.root), isUnseen: false });
    for (let folder = this.#open.at(-1); folder !== undefined; folder = this.#open.at(-1)) {
      signal?.throwIfAborted();
      if (performance.now() - this.#turnedAt > TURN_MS_MAX) {
        await nextTurn();
        this.#turnedAt = performance.now();
      }
      const listed = listing.next();
      if (listed === undefined) {
        throw new FirnError('FIRN_INTERNAL', { problem: 'a listing of a folder was taken to its end twice' });
      }
      const { at, cursor } = folder;
      if (listed.is === 'nameless') {
        yield skip(at + listed.name, 'FIRN_PATH_UNUSABLE', listed.problem);
        continue;
      }
      if (listed.is === 'end' && listed.problem !== undefined) {
        // Of what cannot be listed nothing is known to be gone.
        yield skip(at.slice(0, -1), 'FIRN_FILE_UNREADABLE', listed.problem);
        this.#open.pop();
        continue;
      }
      const name = listed.is === 'end' ? undefined : listed.name;
      let known = cursor?.head();
      for (; known !== undefined && isBefore(known, name); known = cursor?.head()) {
        if (known.kind === 'page') {
          await this.#readPage(cursor);
        } else {
          yield { path: at + known.group.name, op: 'remove' };
          cursor?.skip();
        }
      }
      if (listed.is === 'end') {
        this.#open.pop();
        continue;
      }
      const before = known?.kind === 'group' && known.group.name === name ? known.group : undefined;
      if (before !== undefined) cursor?.skip();
      for (const item of this.#take(folder, listed, before)) yield item;
    }
  }

  /** The items of one entry. A folder is open afterwards: what follows is in it. */
  #take(
    folder: OpenFolder,
    listed: Exclude<Listed, { is: 'end' | 'nameless' }>,
    before: NameGroup | undefined,
  ): readonly ArchiveItem[] {
    const entryPath = folder.at + listed.name;
    if (listed.is === 'refused') return [skip(entryPath, listed.code, listed.problem)];
    if (listed.is === 'gone') return before === undefined ? [] : [{ path: entryPath, op: 'remove' }];
    const { attributes } = listed;
    const isFolder = attributes.type === 'folder';
    const isReplaced = (isFolder ? before?.file : before?.folder) !== undefined;
    const same = isReplaced ? undefined : before;
    const isUnseen = folder.isUnseen || this.#lastScan?.skipped.has(entryPath) === true;
    const item = isFolder
      ? folderItem(entryPath, attributes, same?.folder)
      : this.#fileItem(entryPath, attributes, same?.file, isUnseen);
    if (isFolder) {
      this.#open.push({ at: `${entryPath}/`, cursor: this.#cursor(same?.folder?.tree, same?.folder), isUnseen });
    }
    if (item === undefined) return [];
    return isReplaced ? [{ path: entryPath, op: 'remove' }, item] : [item];
  }

  /** @param tree what the tree has in a folder, and `totals` what its entry promises of it. */
  #cursor(tree: FolderTree | undefined, totals?: FolderTotals): FolderCursor | undefined {
    const { base, signal } = this.#options;
    return base && new FolderCursor(base.filetrees, tree, totals, { signal });
  }

  async #readPage(cursor: FolderCursor | undefined): Promise<void> {
    const { base, signal } = this.#options;
    const cursors = this.#open.flatMap((folder) => folder.cursor ?? []);
    base?.filetrees.readAhead(upcomingOf(cursors), { signal });
    await cursor?.expand();
  }

  /** Undefined where the file or link is as the tree has it. */
  #fileItem(
    entryPath: string,
    listed: ListedAttributes,
    before: FileEntry | LinkEntry | undefined,
    isUnseen: boolean,
  ): ArchiveItem | undefined {
    if (before && !isUnseen && this.#isSettled(listed) && isUnchanged(listed, before)) {
      this.#scan.unchangedFiles += 1;
      this.#scan.unchangedBytes += before.type === 'file' ? before.bytes : 0;
      return undefined;
    }
    const local = this.#top + entryPath;
    const pace = listed.device === this.#localDevice ? this.#pace : undefined;
    const isLink = listed.type === 'link';
    return {
      path: entryPath,
      op: 'put',
      bytes: isLink ? 0 : listed.bytes,
      isKnown: before !== undefined,
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
}

/** Undefined where the folder has the attributes that the tree has kept. */
function folderItem(
  entryPath: string,
  listed: ListedAttributes,
  before: FolderEntry | undefined,
): ArchiveItem | undefined {
  if (before !== undefined && hasAttributes(listed, before)) return undefined;
  const attributes = storedAttributes(listed);
  return { path: entryPath, op: 'put', bytes: 0, open: async () => ({ type: 'folder', attributes }) };
}

/** What has to be gone through before this name is reached, or the end where it is undefined. */
function isBefore(head: CursorHead, name: string | undefined): boolean {
  return head.kind === 'page' || name === undefined || compareNames(head.group.name, name) < 0;
}

function skip(entryPath: string, code: string, problem: string): ArchiveItem {
  return { path: entryPath, op: 'skip', code, problem };
}

function isUnchanged(listed: ListedAttributes, before: FileEntry | LinkEntry): boolean {
  if (listed.type !== before.type || !hasAttributes(listed, before)) return false;
  return listed.bytes === (before.type === 'file' ? before.bytes : Buffer.byteLength(before.target));
}
