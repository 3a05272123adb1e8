/**
 * The differences of two filetrees, in the order of `walkTree`. Equal folders and equal pages are passed over by their
 * hash without being read (what lies in an entry was read with it), so the cost is that of what differs. Memory is bounded
 * by the depth of the trees times a page.
 */
import type { Hash } from '../sealing/keys.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import {
  compareNames,
  type FileEntry,
  type FolderEntry,
  type FolderTree,
  type LinkEntry,
  type TreeEntry,
} from './entry.ts';
import type { FiletreeStore } from './filetree-store.ts';
import { type CursorHead, FolderCursor, type NameGroup } from './folder-cursor.ts';

export interface TreeDifference {
  readonly path: string;
  /**
   * `modified`: other content (a file's bytes, a link's target, a file that became a link or the reverse).
   * `attributes`: only the mtime or the mode differ. What is in a folder does not make the folder itself differ.
   */
  readonly change: 'added' | 'removed' | 'modified' | 'attributes';
  readonly before?: TreeEntry;
  readonly after?: TreeEntry;
}

interface OpenFolder {
  readonly path: string;
  readonly before: FolderCursor;
  readonly after: FolderCursor;
}

/** @throws what `readNode` throws. */
export async function* compareTrees(
  store: FiletreeStore,
  before: Hash | undefined,
  after: Hash | undefined,
  { signal }: CallOptions = {},
): AsyncGenerator<TreeDifference> {
  if (before === after) return;
  const cursorOf = (tree: FolderTree | undefined, folder?: FolderEntry) =>
    new FolderCursor(store, tree, folder, { signal });
  const open: OpenFolder[] = [{ path: '', before: cursorOf(before), after: cursorOf(after) }];
  for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
    signal?.throwIfAborted();
    const pair = await nextPair(top);
    if (pair === undefined) {
      open.pop();
      continue;
    }
    const path = top.path === '' ? pair.name : `${top.path}/${pair.name}`;
    yield* folderDifference(path, pair.before?.folder, pair.after?.folder);
    yield* fileDifference(path, pair.before?.file, pair.after?.file);
    const [left, right] = [pair.before?.folder, pair.after?.folder];
    if (left?.tree !== right?.tree) {
      open.push({ path, before: cursorOf(left?.tree, left), after: cursorOf(right?.tree, right) });
    }
  }
}

interface Pair {
  readonly name: string;
  readonly before: NameGroup | undefined;
  readonly after: NameGroup | undefined;
}

/** Moves both cursors to the next name that one of them has, passing over pages that both have. */
async function nextPair({ before, after }: OpenFolder): Promise<Pair | undefined> {
  for (;;) {
    const left = before.head();
    const right = after.head();
    if (left?.kind === 'page' || right?.kind === 'page') {
      await passPages(before, left, after, right);
      continue;
    }
    const order =
      left === undefined || right === undefined
        ? Number(left === undefined) - Number(right === undefined)
        : compareNames(left.group.name, right.group.name);
    const a = order <= 0 ? left?.group : undefined;
    const b = order >= 0 ? right?.group : undefined;
    const name = a?.name ?? b?.name;
    if (name === undefined) return undefined;
    if (a !== undefined) before.skip();
    if (b !== undefined) after.skip();
    return { name, before: a, after: b };
  }
}

async function passPages(
  before: FolderCursor,
  left: CursorHead | undefined,
  after: FolderCursor,
  right: CursorHead | undefined,
): Promise<void> {
  if (left?.kind === 'page' && right?.kind === 'page') {
    if (left.hash === right.hash) {
      before.skip();
      after.skip();
      return;
    }
    // A root has no level yet; it is read first, so that pages of one level meet.
    const leftLevel = left.below?.level ?? Number.POSITIVE_INFINITY;
    const rightLevel = right.below?.level ?? Number.POSITIVE_INFINITY;
    if (leftLevel >= rightLevel) await before.expand();
    if (rightLevel >= leftLevel) await after.expand();
    return;
  }
  if (left?.kind === 'page') await before.expand();
  if (right?.kind === 'page') await after.expand();
}

function* folderDifference(
  path: string,
  before: FolderEntry | undefined,
  after: FolderEntry | undefined,
): Generator<TreeDifference> {
  if (before === undefined && after !== undefined) yield { path, change: 'added', after };
  else if (before !== undefined && after === undefined) yield { path, change: 'removed', before };
  else if (before !== undefined && after !== undefined && !sameAttributes(before, after)) {
    yield { path, change: 'attributes', before, after };
  }
}

function* fileDifference(
  path: string,
  before: FileEntry | LinkEntry | undefined,
  after: FileEntry | LinkEntry | undefined,
): Generator<TreeDifference> {
  if (before === undefined && after !== undefined) yield { path, change: 'added', after };
  else if (before !== undefined && after === undefined) yield { path, change: 'removed', before };
  else if (before !== undefined && after !== undefined) {
    if (!sameContent(before, after)) yield { path, change: 'modified', before, after };
    else if (!sameAttributes(before, after)) yield { path, change: 'attributes', before, after };
  }
}

function sameAttributes(a: TreeEntry, b: TreeEntry): boolean {
  return a.mtime === b.mtime && a.mode === b.mode;
}

function sameContent(a: FileEntry | LinkEntry, b: FileEntry | LinkEntry): boolean {
  if (a.type === 'file' && b.type === 'file') return a.content === b.content && a.bytes === b.bytes;
  return a.type === 'link' && b.type === 'link' && a.target === b.target;
}
