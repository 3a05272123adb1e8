/**
 * Reads filetrees: all below a path, one path, or one folder.
 *
 * Entries come in the order of `comparePaths`, a folder before what is in it; where a file and a folder have the same
 * path, the folder comes first, then the file, then what is in the folder. Memory is bounded by the depth of the tree
 * times a page; a few nodes are read ahead. Nothing is followed that leaves the tree: names are checked by the reader of
 * the nodes, links are only told.
 */
import { FirnError, isFirnError } from '../errors.ts';
import type { Hash } from '../sealing/keys.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import {
  type FileEntry,
  type FolderEntry,
  type FolderTree,
  type LinkEntry,
  PATH_DEPTH_MAX,
  type TreeEntry,
} from './entry.ts';
import { type FiletreeStore, filetreeBlob } from './filetree-store.ts';
import { FolderCursor, findName, upcomingOf } from './folder-cursor.ts';

export interface WalkedEntry {
  /** From the root of the tree, without a leading «/». */
  readonly path: string;
  readonly entry: TreeEntry;
}

export interface WalkOptions extends CallOptions {
  /** Only what is at this path and below it; all where it is undefined or empty. */
  readonly path?: string | undefined;
  /**
   * Called with the path of a folder (empty for the root) when a part of what it holds, or all, cannot be read; the walk
   * then goes on behind that part. Without it such an error ends the walk. Called for damaged and missing blobs only:
   * an unreachable storage always ends the walk.
   */
  readonly onDamaged?: ((path: string, error: FirnError) => void) | undefined;
}

export interface FoundEntry {
  readonly folder?: FolderEntry;
  readonly file?: FileEntry | LinkEntry;
}

export function isDamage(error: unknown): error is FirnError {
  return isFirnError(
    error,
    'FIRN_SEAL_BROKEN',
    'FIRN_BLOB_DAMAGED',
    'FIRN_BLOB_MISSING',
    'FIRN_BLOB_OFFLINE',
    'FIRN_PATH_ESCAPES',
    'FIRN_REPOSITORY_NEWER',
  );
}

/** @throws what `readNode` throws, unless `onDamaged` takes it. */
export async function* walkTree(
  store: FiletreeStore,
  root: Hash,
  options: WalkOptions = {},
): AsyncGenerator<WalkedEntry> {
  const { signal, path = '' } = options;
  if (path === '') {
    yield* walkBelow(store, root, { path: '', cursor: new FolderCursor(store, root, undefined, { signal }) }, options);
    return;
  }
  const { folder, file } = await findEntry(store, root, path, { signal });
  if (folder !== undefined) yield { path, entry: folder };
  if (file !== undefined) yield { path, entry: file };
  if (folder !== undefined) {
    const cursor = new FolderCursor(store, folder.tree, folder, { signal });
    yield* walkBelow(store, root, { path, cursor }, options);
  }
}

interface OpenFolder {
  readonly path: string;
  readonly cursor: FolderCursor;
}

async function* walkBelow(
  store: FiletreeStore,
  root: Hash,
  from: OpenFolder,
  { signal, onDamaged }: WalkOptions,
): AsyncGenerator<WalkedEntry> {
  const open = [from];
  for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
    signal?.throwIfAborted();
    const head = top.cursor.head();
    if (head === undefined) {
      open.pop();
    } else if (head.kind === 'page') {
      store.readAhead(upcomingOf(open.map(({ cursor }) => cursor)), { signal });
      await expandOrReport(top, onDamaged);
    } else {
      const { name, folder, file } = head.group;
      const at = top.path === '' ? name : `${top.path}/${name}`;
      top.cursor.skip();
      if (folder !== undefined) yield { path: at, entry: folder };
      if (file !== undefined) yield { path: at, entry: file };
      if (folder === undefined) continue;
      // The top has no name.
      if (open.length <= PATH_DEPTH_MAX) {
        open.push({ path: at, cursor: new FolderCursor(store, folder.tree, folder, { signal }) });
      } else {
        const problem = 'the tree below it is deeper than any may be';
        const error = new FirnError('FIRN_BLOB_DAMAGED', { blob: filetreeBlob(root), problem });
        if (onDamaged === undefined) throw error;
        onDamaged(at, error);
      }
    }
  }
}

async function expandOrReport({ path, cursor }: OpenFolder, onDamaged: WalkOptions['onDamaged']): Promise<void> {
  try {
    await cursor.expand();
  } catch (error) {
    if (onDamaged === undefined || !isDamage(error)) throw error;
    onDamaged(path, error);
    cursor.skip();
  }
}

/**
 * What is at a path: nothing, a folder, a file or link, or both. Reads only the pages on the way.
 * @param path without a leading or trailing «/», not empty: the root of a tree has no entry.
 * @throws what `readNode` throws.
 */
export async function findEntry(
  store: FiletreeStore,
  root: Hash,
  path: string,
  options: CallOptions = {},
): Promise<FoundEntry> {
  let found: FoundEntry = {};
  let parent: { readonly tree: FolderTree; readonly totals?: FolderEntry } | undefined = { tree: root };
  for (const name of path.split('/')) {
    if (parent === undefined) return {};
    const group = await findName(store, parent, name, options);
    if (group === undefined) return {};
    const { folder, file } = group;
    found = { ...(folder && { folder }), ...(file && { file }) };
    parent = folder && { tree: folder.tree, totals: folder };
  }
  return found;
}

/**
 * The entries of one folder, without what is in its folders.
 * @throws what `readNode` throws.
 */
export async function* listFolder(
  store: FiletreeStore,
  tree: FolderTree,
  { signal }: CallOptions = {},
): AsyncGenerator<TreeEntry> {
  const cursor = new FolderCursor(store, tree, undefined, { signal });
  for (let head = cursor.head(); head !== undefined; head = cursor.head()) {
    if (head.kind === 'page') {
      await cursor.expand();
      continue;
    }
    cursor.skip();
    const { folder, file } = head.group;
    if (folder !== undefined) yield folder;
    if (file !== undefined) yield file;
  }
}
