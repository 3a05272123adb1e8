/**
 * A position in the pages of one folder. It stands before a page that is not read yet, or before the entries of one
 * name; a page can be read (`expand`) or passed over (`skip`), so that a caller reads only the pages it needs.
 *
 * Holds one node a level. A page is checked against the reference that led to it (level, last name, totals, order), so
 * a walk never sees entries out of order. When `expand` throws, the cursor still stands before that page.
 */
import { FirnError } from '../errors.ts';
import type { Hash } from '../sealing/keys.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { compareNames, type FileEntry, type FolderEntry, type FolderTotals, type LinkEntry } from './entry.ts';
import { type FiletreeStore, filetreeBlob } from './filetree-store.ts';
import { type LeafNode, levelOf, type PageRef, type TreeNode, totalsOfNode } from './node.ts';

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
   * Stands before the root page of the folder; `tree` undefined is a folder without entries.
   * @param totals what the folder's entry says about it, to be checked; undefined for the root of a filetree.
   */
  constructor(store: FiletreeStore, tree: Hash | undefined, totals?: FolderTotals, options: CallOptions = {}) {
    this.#store = store;
    this.#options = options;
    this.#totals = totals;
    this.#frames = tree === undefined ? [] : [{ kind: 'root', hash: tree, at: 0 }];
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

  /** What will be read next, most probably: pages behind the one at the cursor, or folders from the cursor on. */
  upcoming(nodesMax: number): Hash[] {
    const frame = this.#frames.at(-1);
    if (frame?.kind === 'branch') return frame.pages.slice(frame.at, frame.at + nodesMax).map((page) => page.hash);
    const hashes: Hash[] = [];
    if (frame?.kind !== 'leaf') return hashes;
    for (let at = frame.at; at < frame.groups.length && hashes.length < nodesMax; at += 1) {
      const folder = frame.groups[at]?.folder;
      if (folder !== undefined) hashes.push(folder.tree);
    }
    return hashes;
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
    if (
      promised !== undefined &&
      (promised.files !== totals.files || promised.folders !== totals.folders || promised.bytes !== totals.bytes)
    ) {
      return 'it does not hold as much as its folder promises';
    }
    return undefined;
  }
}

/** The entries of one name in a folder, read through the pages on the way to it only. */
export async function findName(
  store: FiletreeStore,
  folder: { readonly tree: Hash; readonly totals?: FolderTotals | undefined },
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
