/**
 * Restores a snapshot, or parts of it, into a local folder: plan (which parts), read (chunks, checked), write (atomic).
 *
 * A walk makes the folders and hands the files and links to a bounded number of workers; a folder gets its mode and time
 * when all that goes into it is there. What is damaged, missing or refused by the file system fails alone
 * (a folder with all below it), is told to `onFailed`, and the rest is restored; storage that cannot be reached and a
 * full disk end the restore. Memory is bounded by the files that are put into order and in flight, whatever the size of the snapshot.
 */
import { type FirnError, isFirnError } from '../errors.ts';
import type { FileEntry, FolderEntry } from '../filetree/entry.ts';
import type { FiletreeStore } from '../filetree/filetree-store.ts';
import { isDamage, walkTree } from '../filetree/walk.ts';
import type { ChunkIndex } from '../index/chunk-index.ts';
import type { Settings } from '../settings.ts';
import type { Snapshot } from '../snapshots/snapshot.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { byPlace, type FileTask } from './by-place.ts';
import { forEachConcurrently } from './for-each.ts';
import { OpenFolders } from './open-folders.ts';
import { createExpectations, createReadAheadBudget } from './read-ahead.ts';
import { type ReadFileParts, readFileContent, readShortFile } from './read-file.ts';
import { type SelectedPath, selectPaths } from './selection.ts';
import { nowhere, openTarget, type RestoreTarget } from './target.ts';

export interface RestoreParts extends Pick<ReadFileParts, 'keys' | 'chunks'> {
  readonly filetrees: FiletreeStore;
  readonly settings: Pick<Settings, 'filesInFlightMax'>;
  readonly createIndex: () => ChunkIndex;
}

export interface RestoreProgress {
  /** Files and links that are done. */
  readonly files: number;
  /** Bytes written, those of files under way included. */
  readonly bytes: number;
  readonly filesExpected: number;
  readonly bytesExpected: number;
  readonly path: string;
}

export interface RestoreOptions extends CallOptions {
  /** Files and folders to restore, at their full paths below the target; everything where there are none. */
  readonly paths?: readonly string[];
  /** Restore into a folder that is not empty; files and links that are in the way are replaced, folders never. */
  readonly overwrite?: boolean;
  readonly onProgress?: (progress: RestoreProgress) => void;
  /** Told about every path that could not be restored; the path of a folder stands for all that is missing from it. */
  readonly onFailed?: (path: string, error: FirnError) => void;
}

export interface RestoreResult {
  readonly files: number;
  readonly links: number;
  readonly folders: number;
  /** Of the files. */
  readonly bytes: number;
  /** Files and links that the selected part of the snapshot has. */
  readonly filesExpected: number;
  /** Paths that `onFailed` was told about. */
  readonly failed: number;
}

/**
 * @throws FIRN_PATH_UNKNOWN before anything is written; FIRN_TARGET_NOT_EMPTY, FIRN_NOT_A_FOLDER, FIRN_TARGET_FAILED;
 * damage of the top folder of the snapshot goes to `onFailed` like any other.
 */
export async function restoreTree(
  parts: RestoreParts,
  snapshot: Snapshot,
  targetFolder: string,
  options: RestoreOptions = {},
): Promise<RestoreResult> {
  const { selected, hidden } = await selectFrom(parts, snapshot, options);
  const target = await openTarget(targetFolder, { overwrite: options.overwrite ?? false });
  const restore = new Restore(parts, snapshot, selected, target, options);
  return await restore.run(hidden);
}

/**
 * Reads everything as a restore does, with the same checks, and writes nothing. Whether a file system takes every name is
 * seen at a restore only.
 * @throws FIRN_PATH_UNKNOWN; damage goes to `onFailed`.
 */
export async function verifyTree(
  parts: RestoreParts,
  snapshot: Snapshot,
  options: Omit<RestoreOptions, 'overwrite'> = {},
): Promise<RestoreResult> {
  const { selected, hidden } = await selectFrom(parts, snapshot, options);
  return await new Restore(parts, snapshot, selected, nowhere, options).run(hidden);
}

type Hidden = readonly (readonly [path: string, error: FirnError])[];

async function selectFrom(
  { filetrees }: RestoreParts,
  snapshot: Snapshot,
  { paths = [], signal }: RestoreOptions,
): Promise<{ selected: readonly SelectedPath[]; hidden: Hidden }> {
  const hidden: (readonly [path: string, error: FirnError])[] = [];
  const onDamaged = (path: string, error: FirnError) => void hidden.push([path, error]);
  return { selected: await selectPaths(filetrees, snapshot, paths, { signal, onDamaged }), hidden };
}

class Restore {
  readonly #parts: RestoreParts;
  readonly #snapshot: Snapshot;
  readonly #selected: readonly SelectedPath[];
  readonly #target: RestoreTarget;
  readonly #options: RestoreOptions;
  readonly #reading: ReadFileParts;
  readonly #expected: { readonly files: number; readonly bytes: number };
  /** Folders that could not be made; nothing is written below them. */
  readonly #blocked = new Set<string>();
  readonly #open = new OpenFolders((path, entry) => this.#fill(path, entry));
  /** Full, but going to be closed to their owner; where names of one case are names of the other, more may come into them. */
  readonly #closing: { readonly path: string; readonly entry: FolderEntry }[] = [];
  #files = 0;
  #links = 0;
  #folders = 0;
  #bytes = 0;
  #bytesWritten = 0;
  #failed = 0;

  constructor(
    parts: RestoreParts,
    snapshot: Snapshot,
    selected: readonly SelectedPath[],
    target: RestoreTarget,
    options: RestoreOptions,
  ) {
    const { keys, chunks, filetrees } = parts;
    this.#parts = parts;
    this.#snapshot = snapshot;
    this.#selected = selected;
    this.#target = target;
    this.#options = options;
    this.#reading = { keys, chunks, filetrees, index: parts.createIndex(), readAhead: createReadAheadBudget() };
    this.#expected = {
      files: selected.reduce((sum, { totals }) => sum + totals.files, 0),
      bytes: selected.reduce((sum, { totals }) => sum + totals.bytes, 0),
    };
  }

  /** @param hidden selected paths that damage hides. */
  async run(hidden: Hidden): Promise<RestoreResult> {
    const { signal } = this.#options;
    for (const [path, error] of hidden) this.#fail(path, error);
    const { filesInFlightMax } = this.#parts.settings;
    const work = (task: FileTask, stop: AbortSignal) => this.#write(task, stop);
    const { index, chunks } = this.#reading;
    const expectations = createExpectations(chunks);
    try {
      const tasks = byPlace(this.#tasks(), { index, expectations }, { signal });
      await forEachConcurrently(tasks, filesInFlightMax, work, { signal });
    } finally {
      expectations.release();
    }
    // What is in a folder became full before it.
    for (const { path, entry } of this.#closing) await this.#finishFolder(path, entry);
    await this.#target.finish();
    return {
      files: this.#files,
      links: this.#links,
      folders: this.#folders,
      bytes: this.#bytes,
      filesExpected: this.#expected.files,
      failed: this.#failed,
    };
  }

  /** Makes the folders on its way, so that a file is handed out only when its folder is there. */
  async *#tasks(): AsyncGenerator<FileTask> {
    const above = new Set<string>();
    for (const { path: selected, parents } of this.#selected) {
      for (const { path, entry } of parents) {
        if (!above.has(path)) await this.#makeFolder(path, entry);
        above.add(path);
      }
      const within: string[] = [];
      for await (const { path, entry } of this.#walk(selected)) {
        for (let last = within.at(-1); last !== undefined && !isAtOrBelow(path, last); last = within.at(-1)) {
          within.pop();
          await this.#open.close(last);
        }
        if (entry.type === 'folder') {
          await this.#makeFolder(path, entry);
          within.push(path);
        } else if (!this.#isBlocked(path)) {
          this.#open.expect(path);
          yield { path, entry };
        }
      }
      for (const path of within.reverse()) await this.#open.close(path);
    }
    for (const path of above) await this.#open.close(path);
  }

  #walk(path: string) {
    const { filetrees } = this.#parts;
    const { signal } = this.#options;
    const onDamaged = (at: string, error: FirnError) => this.#fail(at, error);
    return walkTree(filetrees, this.#snapshot.root, { path, onDamaged, signal });
  }

  /** Below a folder that could not be made. */
  #isBlocked(path: string): boolean {
    if (this.#blocked.size === 0) return false;
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
      if (this.#blocked.has(path.slice(0, end))) return true;
    }
    return false;
  }

  async #makeFolder(path: string, entry: FolderEntry): Promise<void> {
    if (this.#isBlocked(path)) return;
    try {
      await this.#target.makeFolder(path, entry);
      this.#folders += 1;
      this.#open.open(path, entry);
    } catch (error) {
      if (!isProblemOfOnePath(error)) throw error;
      this.#blocked.add(path);
      this.#fail(path, error);
    }
  }

  #fail(path: string, error: FirnError): void {
    if (this.#isBlocked(path)) return;
    this.#failed += 1;
    this.#options.onFailed?.(path, error);
  }

  async #write({ path, entry, location }: FileTask, signal: AbortSignal): Promise<void> {
    try {
      if (entry.type === 'link') {
        await this.#target.writeLink(path, entry);
        this.#links += 1;
      } else {
        const short = await readShortFile(this.#reading, path, entry, { signal, location });
        await this.#target.writeFile(path, entry, short ?? this.#counted(path, entry, signal), { signal });
        this.#bytesWritten += short?.length ?? 0;
        if (short !== undefined) this.#reading.chunks.giveBack(short);
        this.#files += 1;
        this.#bytes += entry.bytes;
      }
      this.#tell(path);
    } catch (error) {
      if (!isProblemOfOnePath(error)) throw error;
      this.#fail(path, error);
    }
    await this.#open.arrived(path);
  }

  async *#counted(path: string, entry: FileEntry, signal: AbortSignal): AsyncGenerator<Buffer> {
    for await (const piece of readFileContent(this.#reading, path, entry, { signal })) {
      yield piece;
      // It is written when the next is asked for.
      this.#bytesWritten += piece.length;
      this.#reading.chunks.giveBack(piece);
      this.#tell(path);
    }
  }

  #tell(path: string): void {
    const { files: filesExpected, bytes: bytesExpected } = this.#expected;
    const files = this.#files + this.#links;
    this.#options.onProgress?.({ files, bytes: this.#bytesWritten, filesExpected, bytesExpected, path });
  }

  async #fill(path: string, entry: FolderEntry): Promise<void> {
    const isOpen = entry.mode === undefined || (entry.mode & OWNER_RIGHTS) === OWNER_RIGHTS;
    if (isOpen) await this.#finishFolder(path, entry);
    else this.#closing.push({ path, entry });
  }

  async #finishFolder(path: string, entry: FolderEntry): Promise<void> {
    try {
      await this.#target.finishFolder?.(path, entry);
    } catch (error) {
      if (!isProblemOfOnePath(error)) throw error;
      this.#fail(path, error);
    }
  }
}

/** Of a folder in which its owner can read, write and enter. */
const OWNER_RIGHTS = 0o700;

function isAtOrBelow(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

/** The others do not share it. */
function isProblemOfOnePath(error: unknown): error is FirnError {
  return (
    isDamage(error) ||
    isFirnError(
      error,
      'FIRN_CHUNK_MISSING',
      'FIRN_CHUNK_DAMAGED',
      'FIRN_FILE_DAMAGED',
      'FIRN_TARGET_BLOCKED',
      'FIRN_PATH_ESCAPES',
    )
  );
}
