/**
 * What a filetree holds: files, folders and symbolic links, and the changes that turn one tree into the next.
 *
 * A folder may hold a file (or link) and a folder of the same name side by side: blob storage allows the uploads `a` and
 * `a/b` at once, and neither may push the other out. Names are compared as UTF-8 bytes; case and normalization count.
 */
import { FirnError } from '../errors.ts';
import type { Hash } from '../sealing/keys.ts';

export interface EntryAttributes {
  /** RFC 3339 in UTC with up to nine decimals; undefined where it was not known. */
  readonly mtime?: string | undefined;
  /** Permission bits, 0 to 0o7777; undefined where they were not known. */
  readonly mode?: number | undefined;
}

/** The chunks of a file, in order. Long lists lie in chunk-list nodes of their own, so that an entry stays small. */
export type ChunkRefs = { readonly chunks: readonly Hash[] } | { readonly chunkLists: readonly Hash[] };

export interface FileContent {
  readonly type: 'file';
  readonly bytes: number;
  /** The content hash of the whole file. */
  readonly content: Hash;
  readonly refs: ChunkRefs;
}

export interface LinkContent {
  readonly type: 'link';
  /** Exactly as it was read; it may point anywhere and is never followed. */
  readonly target: string;
}

export interface FolderTotals {
  /** Files and links below, at any depth. */
  readonly files: number;
  /** Folders below, at any depth. */
  readonly folders: number;
  /** Sum of the sizes of the files below. */
  readonly bytes: number;
}

export type FileEntry = EntryAttributes & FileContent & { readonly name: string };
export type LinkEntry = EntryAttributes & LinkContent & { readonly name: string };
export type FolderEntry = EntryAttributes &
  FolderTotals & { readonly name: string; readonly type: 'folder'; readonly tree: FolderTree };
export type TreeEntry = FileEntry | LinkEntry | FolderEntry;

export interface LeafNode {
  readonly type: 'leaf';
  readonly entries: readonly TreeEntry[];
}

/** What is in a folder: the hash of its root node, or the only leaf of a small folder as it is (see `node.ts`). */
export type FolderTree = Hash | LeafNode;

/** What a change puts at a path: a file, a link, or the attributes of a folder (which keeps what it holds). */
export type PutContent = EntryAttributes & (FileContent | LinkContent | { readonly type: 'folder' });

/**
 * One change. `remove` takes away whatever is at the path: the file or link, and the folder with all below it.
 * A list of changes is in `compareChanges` order: by path, and at one path `remove` before a folder before a file.
 */
export type Change =
  | { readonly path: string; readonly op: 'remove' }
  | { readonly path: string; readonly op: 'put'; readonly entry: PutContent };

/** Compares names as their UTF-8 bytes would compare. */
export function compareNames(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i += 1) {
    const left = a.charCodeAt(i);
    const right = b.charCodeAt(i);
    if (left !== right) return utf16Rank(left) - utf16Rank(right);
  }
  return a.length - b.length;
}

/** UTF-8 puts U+E000..U+FFFF before what UTF-16 writes as surrogates. */
function utf16Rank(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit >= 0xe000 ? unit - 0x800 : unit + 0x2000;
}

/** Compares paths segment by segment, so that a folder and all below it come before its next sibling. */
export function comparePaths(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i += 1) {
    const left = a.charCodeAt(i);
    const right = b.charCodeAt(i);
    if (left === right) continue;
    if (left === SLASH) return -1;
    if (right === SLASH) return 1;
    return utf16Rank(left) - utf16Rank(right);
  }
  return a.length - b.length;
}
const SLASH = 0x2f;

function changeRank(change: Change): number {
  if (change.op === 'remove') return 0;
  return change.entry.type === 'folder' ? 1 : 2;
}

export function compareChanges(a: Change, b: Change): number {
  return comparePaths(a.path, b.path) || changeRank(a) - changeRank(b);
}

/** Deepest path; walkers hold one node a level. */
export const PATH_DEPTH_MAX = 512;

/**
 * Says why a path cannot be archived, or undefined when it can: it must have a form that every file system can give
 * back under the target folder. Names over 255 bytes are taken; the file system decides at restore.
 */
export function pathProblem(path: string): string | undefined {
  if (path === '') return 'it is empty';
  if (!path.isWellFormed()) return 'it is not valid Unicode';
  const names = path.split('/');
  if (names.length > PATH_DEPTH_MAX) return `it has more than ${PATH_DEPTH_MAX} folders`;
  for (const name of names) {
    if (name === '') return 'it has an empty segment';
    if (name === '.' || name === '..') return `it has a segment «${name}»`;
    if (name.includes('\0')) return 'it has a zero byte';
  }
  return undefined;
}

export function checkPath(path: string): void {
  const problem = pathProblem(path);
  if (problem !== undefined) throw new FirnError('FIRN_PATH_UNUSABLE', { path, problem });
}
