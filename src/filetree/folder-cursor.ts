/**
 * A position in the pages of one folder. It stands before a page that is not read yet, or before the entries of one
 * name; a page can be read (`expand`) or passed over (`skip`), so that a caller reads only the pages it needs.
 *
 * Holds one node a level. A page is checked against the reference that led to it (level, last name, totals, order), so
 * a walk never sees entries out of order. When `expand` throws, the cursor still stands before that page. A small folder
 * has no page to be read: its entries were checked with the node that it lies in.
 */
import { FirnError } from '../errors.ts';
import type { Hash } from '../sealing/keys.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import {
  compareNames,
  type FileEntry,
  type FolderEntry,
  type FolderTotals,
  type FolderTree,
  type LeafNode,
  type LinkEntry,
} from './entry.ts';
import { type FiletreeStore, filetreeBlob } from './filetree-store.ts';
import { haveSameTotals, levelOf, nodesOf, type PageRef, type TreeNode, totalsOfNode } from './node.ts';

/** All that a folder holds under one name: a folder, a file or link, or both side by side. */
export interface NameGroup {
  readonly name: string;
  readonly folder?: FolderEntry;
  readonly file?: FileEntry | LinkEntry;
}

export type CursorHead =
  | {
      readonly kind: 'page';
      readonly hash: Hash;
      /** Undefined for the root of the folder, which says nothing about itself before it is read. */
      readonly below: { readonly level: number; readonly ref: PageRef } | undefined;
      /** No page of the folder follows: it may end where no page would end by the rule. */
      readonly rightmost: boolean;
    }
  | { readonly kind: 'group'; readonly group: NameGroup };

type Frame =
  | { readonly kind: 'root'; readonly hash: Hash; at: number }
  | { readonly kind: 'branch'; readonly level: number; readonly pages: readonly PageRef[]; at: number }
  | { readonly kind: 'leaf'; readonly groups: readonly NameGroup[]; at: number };

export function groupsOf(leaf: LeafNode): NameGroup[] {
  const groups: { name: string; folder?: FolderEntry; file?: FileEntry | LinkEntry }[] = [];
  for (const entry of leaf.entries) {
    const last = groups.at(-1);
    const group = last?.name === entry.name ? last : { name: entry.name };
    if (group !== last) groups.push(group);
    if (entry.type === 'folder') group.folder = entry;
    else group.file = entry;
  }
  return groups;
}

function lengthOf(frame: Frame): number {
  if (frame.kind === 'root') return 1;
  return frame.kind === 'branch' ? frame.pages.length : frame.groups.length;
}

function namesOf(node: TreeNode): { first: string | undefined; last: string | undefined } {
  return node.type === 'leaf'
    ? { first: node.entries[0]?.name, last: node.entries.at(-1)?.name }
    : // The first name below a branch is known only once its first leaf is read; that leaf is checked then.
      { first: undefined, last: node.pages.at(-1)?.last };
}

export class FolderCursor {
  readonly #store: FiletreeStore;
  readonly #options: CallOptions;
  readonly #totals: FolderTotals | undefined;
  readonly #frames: Frame[];
  #passed: string | undefined;

  /**
   * Stands before the root page of the folder, or the first entries of a small one; `tree` undefined is a folder without
   * entries.
   * @param totals what the folder's entry says about it, to be checked; undefined for the root of a filetree.
   */
  constructor(store: FiletreeStore, tree: FolderTree | undefined, totals?: FolderTotals, options: CallOptions = {}) {
    this.#store = store;
    this.#options = options;
    this.#totals = totals;
    this.#frames = [];
    if (typeof tree === 'string') this.#frames.push({ kind: 'root', hash: tree, at: 0 });
    else if (tree !== undefined) this.#frames.push({ kind: 'leaf', groups: groupsOf(tree), at: 0 });
  }

  head(): CursorHead | undefined {
    let frame = this.#frames.at(-1);
    while (frame !== undefined && frame.at >= lengthOf(frame)) {
      this.#frames.pop();
      frame = this.#frames.at(-1);
      // The page that was just left is behind the cursor; `expand` let it stand while its content was read.
      if (frame !== undefined) this.#pass(frame);
    }
    if (frame === undefined) return undefined;
    if (frame.kind === 'root') return { kind: 'page', hash: frame.hash, below: undefined, rightmost: true };
    if (frame.kind === 'leaf') {
      const group = frame.groups[frame.at];
      return group && { kind: 'group', group };
    }
    const ref = frame.pages[frame.at];
    if (ref === undefined) return undefined;
    const rightmost = this.#frames.every((each) => each.at === lengthOf(each) - 1);
    return { kind: 'page', hash: ref.hash, below: { level: frame.level - 1, ref }, rightmost };
  }

  /** What a walk reads from here on, as far as it is known: the nodes of folders, and the pages of this one. */
  *upcoming(): Generator<Hash> {
    for (const frame of this.#frames.toReversed()) {
      // A page that is being read still stands at its frame.
      const isRead = frame !== this.#frames.at(-1);
      const from = isRead ? frame.at + 1 : frame.at;
      if (frame.kind === 'root') yield* isRead ? [] : [frame.hash];
      else if (frame.kind === 'branch') for (const page of frame.pages.slice(from)) yield page.hash;
      else for (const { folder } of frame.groups.slice(from)) if (folder !== undefined) yield* nodesOf(folder.tree);
    }
  }

  /** Moves behind the head: the entries of a name, or a page that is not to be read. */
  skip(): void {
    this.head();
    const frame = this.#frames.at(-1);
    if (frame !== undefined) this.#pass(frame);
  }

  #pass(frame: Frame): void {
    if (frame.kind === 'branch') this.#passed = frame.pages[frame.at]?.last ?? this.#passed;
    else if (frame.kind === 'leaf') this.#passed = frame.groups[frame.at]?.name ?? this.#passed;
    frame.at += 1;
  }

  /** Reads the page at the head; the cursor then stands before what is in it. @throws as `readNode`. */
  async expand(): Promise<void> {
    const head = this.head();
    if (head?.kind !== 'page') throw new Error('There is no page at the cursor.');
    const node = await this.#store.readNode(head.hash, this.#options);
    this.#check(head.hash, node, head.below);
    this.#frames.push(
      node.type === 'leaf'
        ? { kind: 'leaf', groups: groupsOf(node), at: 0 }
        : { kind: 'branch', level: node.level, pages: node.pages, at: 0 },
    );
  }

  #check(hash: Hash, node: TreeNode, below: { level: number; ref: PageRef } | undefined): void {
    const problem = this.#problemOf(node, below);
    if (problem !== undefined) throw new FirnError('FIRN_BLOB_DAMAGED', { blob: filetreeBlob(hash), problem });
  }

  #problemOf(node: TreeNode, below: { level: number; ref: PageRef } | undefined): string | undefined {
    const { first, last } = namesOf(node);
    const promised = below?.ref ?? this.#totals;
    const totals = totalsOfNode(node);
    if (below !== undefined && (levelOf(node) !== below.level || last !== below.ref.last)) {
      return 'it is not the page that its folder promises';
    }
    if (first !== undefined && this.#passed !== undefined && compareNames(this.#passed, first) >= 0) {
      return 'its names are not in order with the page before it';
    }
    if (promised !== undefined && !haveSameTotals(promised, totals)) {
      return 'it does not hold as much as its folder promises';
    }
    return undefined;
  }
}

/** What a walk with these cursors, of the folders on its way, reads next, if all is walked. */
export function* upcomingOf(cursors: readonly FolderCursor[]): Generator<Hash> {
  for (const cursor of cursors.toReversed()) yield* cursor.upcoming();
}

/** The entries of one name in a folder, read through the pages on the way to it only. */
export async function findName(
  store: FiletreeStore,
  folder: { readonly tree: FolderTree; readonly totals?: FolderTotals | undefined },
  name: string,
  options: CallOptions = {},
): Promise<NameGroup | undefined> {
  const cursor = new FolderCursor(store, folder.tree, folder.totals, options);
  for (let head = cursor.head(); head !== undefined; head = cursor.head()) {
    if (head.kind === 'group') {
      const order = compareNames(head.group.name, name);
      if (order === 0) return head.group;
      if (order > 0) return undefined;
      cursor.skip();
    } else if (head.below !== undefined && compareNames(head.below.ref.last, name) < 0) {
      cursor.skip();
    } else {
      await cursor.expand();
    }
  }
  return undefined;
}
