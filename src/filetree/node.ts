/**
 * The stored form of a filetree node, and its strict reader. Pure: bytes in, nodes out, nothing trusted.
 *
 * A folder is one leaf, or a tree of pages (see `paging.ts`): leaves hold the entries, branches hold references to pages
 * one level below. A node is canonical JSON, sealed as kind `filetree` under `filetrees/<hash>`, where the hash is the
 * keyed hash of exactly these bytes (UTF-8, no spaces, keys in this order, what is undefined left out):
 *
 *     {"format":1,"type":"leaf","entries":[<entry>,…]}
 *     {"format":1,"type":"branch","level":<1…>,"pages":[<page>,…]}
 *
 *     folder  {"name":…,"type":"folder","mtime":…,"mode":…,"files":…,"folders":…,"bytes":…,"tree":…}
 *             a small folder has "entries":[<entry>,…] in the place of "tree"
 *     file    {"name":…,"type":"file","mtime":…,"mode":…,"bytes":…,"content":…,"chunks":[…]}
 *             a file of more than 1,024 chunks has "chunkLists":[…] in the place of "chunks"
 *     link    {"name":…,"type":"link","mtime":…,"mode":…,"target":…}
 *     page    {"last":…,"hash":…,"files":…,"folders":…,"bytes":…}
 *
 * Strings are written as ECMAScript's JSON.stringify writes them, numbers are integers in decimal, hashes 64 hex digits.
 * Entries ascend by name (as UTF-8 bytes), each name at most once as a folder and then once as a file or link. A page
 * counts the files (and links), the folders and the bytes of its entries and of all below them; «last» is the name of
 * its last entry. The level of a branch is one more than that of its pages, and 64 at most; leaves have level 0. The root
 * of an empty folder is the empty leaf.
 *
 * A folder is small when it is one leaf of less than `min` bytes (`paging.ts`), with all that lies in it in the same way.
 * Its entries then lie in its own entry, and no node is written for it; only the root of a filetree always has one. So
 * the form of a folder depends on what it holds alone. A reader refuses a larger folder in this form, but takes a small
 * one that has a node.
 *
 * A chunk list is a blob `filetrees/<hash>` of kind `chunk-list`: 1 to 4,096 chunk hashes of 32 bytes, one after another;
 * its name is the keyed hash of these bytes. All lists of a file but the last are full.
 */
import { isUtf8 } from 'node:buffer';
import { FirnError } from '../errors.ts';
import { HASH_BYTES, type Hash, isHash } from '../sealing/keys.ts';
import {
  compareNames,
  type EntryAttributes,
  type FolderTotals,
  type FolderTree,
  type LeafNode,
  PATH_DEPTH_MAX,
  type TreeEntry,
} from './entry.ts';
import { isSmall, type PageLimits, pageLimits } from './paging.ts';

export const NODE_FORMAT = 1;
/** More chunks than these lie in chunk lists. */
export const INLINE_CHUNKS_MAX = 1024;
/** Chunk hashes in one chunk list. */
export const LIST_CHUNKS_MAX = 4096;
/** Pages hold two items at least, but for the last of a level: no folder has entries for more levels. */
const LEVEL_MAX = 64;

export interface PageRef extends FolderTotals {
  /** Name of the last entry in the page or below it. */
  readonly last: string;
  readonly hash: Hash;
}

export interface BranchNode {
  readonly type: 'branch';
  readonly level: number;
  readonly pages: readonly PageRef[];
}

export type TreeNode = LeafNode | BranchNode;

export const emptyLeaf: LeafNode = { type: 'leaf', entries: [] };
export const noTotals: FolderTotals = { files: 0, folders: 0, bytes: 0 };

export function addTotals(a: FolderTotals, b: FolderTotals): FolderTotals {
  return { files: a.files + b.files, folders: a.folders + b.folders, bytes: a.bytes + b.bytes };
}

/** The nodes that a node names, in the order of a walk: pages, or those of the folders among its entries. */
export function* nodesBelow(node: TreeNode): Generator<Hash> {
  if (node.type === 'branch') for (const { hash } of node.pages) yield hash;
  else for (const entry of node.entries) if (entry.type === 'folder') yield* nodesOf(entry.tree);
}

/** The root node of a folder; of a small one, which has none, those of the folders in it. */
export function* nodesOf(tree: FolderTree): Generator<Hash> {
  if (typeof tree === 'string') yield tree;
  else yield* nodesBelow(tree);
}

/** What an entry adds to the totals of the folder that holds it. */
export function totalsOfEntry(entry: TreeEntry): FolderTotals {
  if (entry.type === 'folder') return { files: entry.files, folders: entry.folders + 1, bytes: entry.bytes };
  return { files: 1, folders: 0, bytes: entry.type === 'file' ? entry.bytes : 0 };
}

export function totalsOfNode(node: TreeNode): FolderTotals {
  return node.type === 'leaf' ? node.entries.map(totalsOfEntry).reduce(addTotals, noTotals) : sumOf(node.pages);
}

function sumOf(parts: readonly FolderTotals[]): FolderTotals {
  return parts.reduce(addTotals, noTotals);
}

export function haveSameTotals(a: FolderTotals, b: FolderTotals): boolean {
  return a.files === b.files && a.folders === b.folders && a.bytes === b.bytes;
}

export function levelOf(node: TreeNode): number {
  return node.type === 'leaf' ? 0 : node.level;
}

/** Folders come before the file or link of the same name. */
function rankOf(entry: TreeEntry): number {
  return entry.type === 'folder' ? 0 : 1;
}

export function compareEntries(a: TreeEntry, b: TreeEntry): number {
  return compareNames(a.name, b.name) || rankOf(a) - rankOf(b);
}

// JSON.stringify keeps the order of the literal and leaves out what is undefined.

function storedEntry(entry: TreeEntry): object {
  const { name, type, mtime, mode } = entry;
  switch (type) {
    case 'folder': {
      const { files, folders, bytes, tree } = entry;
      const inside = typeof tree === 'string' ? { tree } : { entries: tree.entries.map(storedEntry) };
      return { name, type, mtime, mode, files, folders, bytes, ...inside };
    }
    case 'file': {
      const { bytes, content, refs } = entry;
      const chunks = 'chunks' in refs ? { chunks: refs.chunks } : { chunkLists: refs.chunkLists };
      return { name, type, mtime, mode, bytes, content, ...chunks };
    }
    case 'link':
      return { name, type, mtime, mode, target: entry.target };
  }
}

export function encodeEntry(entry: TreeEntry): string {
  return JSON.stringify(storedEntry(entry));
}

/** The bytes of a leaf as the page rule counts them. */
export function leafBytes(leaf: LeafNode): number {
  return leaf.entries.reduce((sum, entry) => sum + Buffer.byteLength(encodeEntry(entry)), 0);
}

export function encodePageRef(page: PageRef): string {
  const { last, hash, files, folders, bytes } = page;
  return JSON.stringify({ last, hash, files, folders, bytes });
}

export function encodeNode(node: TreeNode): Buffer {
  return Buffer.from(textOf(node));
}

function textOf(node: TreeNode, items = itemsOf(node)): string {
  return node.type === 'leaf'
    ? `{"format":${NODE_FORMAT},"type":"leaf","entries":[${items.join()}]}`
    : `{"format":${NODE_FORMAT},"type":"branch","level":${node.level},"pages":[${items.join()}]}`;
}

function itemsOf(node: TreeNode): string[] {
  return node.type === 'leaf' ? node.entries.map(encodeEntry) : node.pages.map(encodePageRef);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isHashList(value: unknown): value is Hash[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string' && isHash(item));
}

const mtimePattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/;

/** Says what is wrong with attributes, or undefined when they can be stored. */
export function attributesProblem(attributes: EntryAttributes): string | undefined {
  const { mtime, mode } = attributes;
  if (mtime !== undefined && (typeof mtime !== 'string' || !mtimePattern.test(mtime))) {
    return 'its mtime is not a time in UTC as RFC 3339 writes it';
  }
  if (mode !== undefined && (!isCount(mode) || mode > 0o7777)) return 'its mode is not a set of permission bits';
  return undefined;
}

/** Says what is wrong with the rest of an entry (all but its name and attributes), or undefined when it can be stored. */
export function contentProblem(entry: { readonly type: string }): string | undefined {
  const fields = entry as Readonly<Record<string, unknown>>;
  switch (fields.type) {
    case 'folder':
      return undefined;
    case 'link':
      return typeof fields.target === 'string' ? undefined : 'a link has no target';
    case 'file': {
      const refs = fields.refs as Readonly<Record<string, unknown>> | undefined;
      if (!isCount(fields.bytes)) return 'a file has no size';
      if (typeof fields.content !== 'string' || !isHash(fields.content)) return 'a file has no content hash';
      if (typeof refs !== 'object' || refs === null) return 'a file has no list of chunks';
      const { chunks, chunkLists } = refs;
      if (chunks !== undefined && chunkLists !== undefined) return 'a file has two lists of chunks';
      if (chunks !== undefined) {
        return isHashList(chunks) && chunks.length <= INLINE_CHUNKS_MAX ? undefined : 'a list of chunks is malformed';
      }
      return isHashList(chunkLists) && chunkLists.length > 0 ? undefined : 'a file has no list of chunks';
    }
    default:
      return 'an entry has an unknown type';
  }
}

interface Reading {
  readonly limits: PageLimits;
  damaged(problem: string): FirnError;
}

function recordOf(value: unknown, reading: Reading): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw reading.damaged('it does not have the form of a filetree node');
  }
  return value as Readonly<Record<string, unknown>>;
}

function checkName(name: unknown, reading: Reading): string {
  if (typeof name !== 'string' || !name.isWellFormed()) throw reading.damaged('a name is malformed');
  if (name === '' || name === '.' || name === '..' || name.includes('/') || name.includes('\0')) {
    throw new FirnError('FIRN_PATH_ESCAPES', { path: name });
  }
  return name;
}

function parseTotals(fields: Readonly<Record<string, unknown>>, reading: Reading): FolderTotals {
  const { files, folders, bytes } = fields;
  if (!isCount(files) || !isCount(folders) || !isCount(bytes)) throw reading.damaged('a total is malformed');
  return { files, folders, bytes };
}

function parseHash(value: unknown, reading: Reading): Hash {
  if (typeof value !== 'string' || !isHash(value)) throw reading.damaged('a hash is malformed');
  return value;
}

/** @param depth folders of the same node that it lies in. */
function parseEntry(value: unknown, depth: number, reading: Reading): TreeEntry {
  const entry = entryOf(recordOf(value, reading), depth, reading);
  const problem = attributesProblem(entry) ?? contentProblem(entry);
  if (problem !== undefined) throw reading.damaged(problem);
  return entry;
}

/** But for name, totals and tree nothing is checked yet. */
function entryOf(fields: Readonly<Record<string, unknown>>, depth: number, reading: Reading): TreeEntry {
  const name = checkName(fields.name, reading);
  const { type, mtime, mode, bytes, content, chunks, chunkLists, target } = fields;
  switch (type) {
    case 'folder': {
      const totals = parseTotals(fields, reading);
      return { name, type, mtime, mode, ...totals, tree: parseTree(fields, depth, reading) } as TreeEntry;
    }
    case 'file': {
      const refs = chunks === undefined ? { chunkLists } : { chunks, ...(chunkLists !== undefined && { chunkLists }) };
      return { name, type, mtime, mode, bytes, content, refs } as TreeEntry;
    }
    case 'link':
      return { name, type, mtime, mode, target } as TreeEntry;
    default:
      // `contentProblem` says so.
      return { name, type } as TreeEntry;
  }
}

function parseTree(fields: Readonly<Record<string, unknown>>, depth: number, reading: Reading): FolderTree {
  if (!Array.isArray(fields.entries)) return parseHash(fields.tree, reading);
  if (depth === PATH_DEPTH_MAX) throw reading.damaged('a folder lies deeper than any folder may');
  const leaf = parseLeaf(fields.entries, depth + 1, reading);
  if (!haveSameTotals(totalsOfNode(leaf), parseTotals(fields, reading))) {
    throw reading.damaged('a folder does not hold as much as its entry promises');
  }
  return leaf;
}

/**
 * For the entries of the node itself: what lies in a small folder is smaller still.
 * @param encoded the entry; where it is shorter than a folder may be, so is what lies in it.
 */
function checkSmall(entry: TreeEntry, encoded: string, { limits, damaged }: Reading): void {
  if (entry.type !== 'folder' || typeof entry.tree === 'string' || Buffer.byteLength(encoded) < limits.min) return;
  if (!isSmall(leafBytes(entry.tree), limits)) throw damaged('a folder is too large to lie in its entry');
}

function parseLeaf(entries: readonly unknown[], depth: number, reading: Reading): LeafNode {
  const leaf: LeafNode = { type: 'leaf', entries: entries.map((entry) => parseEntry(entry, depth, reading)) };
  checkAscending(leaf.entries, compareEntries, reading);
  return leaf;
}

function parsePageRef(value: unknown, reading: Reading): PageRef {
  const fields = recordOf(value, reading);
  const last = checkName(fields.last, reading);
  return { last, hash: parseHash(fields.hash, reading), ...parseTotals(fields, reading) };
}

function checkAscending<T>(items: readonly T[], compare: (a: T, b: T) => number, reading: Reading): void {
  items.forEach((item, at) => {
    const before = items[at - 1];
    if (before !== undefined && compare(before, item) >= 0) throw reading.damaged('its names are not in order');
  });
}

function parseShape(value: unknown, blob: string, reading: Reading): TreeNode {
  const fields = recordOf(value, reading);
  const { format, type, level, entries, pages } = fields;
  if (isCount(format) && format > NODE_FORMAT) {
    throw new FirnError('FIRN_REPOSITORY_NEWER', { what: `blob ${blob}`, version: format, supported: NODE_FORMAT });
  }
  if (format !== NODE_FORMAT) throw reading.damaged('it has no format version');
  if (type === 'leaf' && Array.isArray(entries)) return parseLeaf(entries, 0, reading);
  const isLevel = isCount(level) && level > 0 && level <= LEVEL_MAX;
  if (type === 'branch' && Array.isArray(pages) && pages.length > 0 && isLevel) {
    const branch: BranchNode = { type, level, pages: pages.map((page) => parsePageRef(page, reading)) };
    checkAscending(branch.pages, (a, b) => compareNames(a.last, b.last), reading);
    return branch;
  }
  throw reading.damaged('it is neither a leaf nor a branch');
}

/**
 * Reads the bytes of a node; `blob` is their name in messages. The caller has compared them with the hash they are
 * named by.
 * @throws FIRN_BLOB_DAMAGED for anything that `encodeNode` would not write, FIRN_PATH_ESCAPES for a name that no folder
 * can hold, FIRN_REPOSITORY_NEWER.
 */
export function parseNode(body: Buffer, blob: string, limits: PageLimits = pageLimits): TreeNode {
  const reading: Reading = { limits, damaged: (problem) => new FirnError('FIRN_BLOB_DAMAGED', { blob, problem }) };
  const text = body.toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FirnError('FIRN_BLOB_DAMAGED', { blob, problem: 'it is not JSON' }, { cause });
  }
  const node = parseShape(value, blob, reading);
  const { files, folders, bytes } = totalsOfNode(node);
  if (![files, folders, bytes].every(isCount)) throw reading.damaged('it holds more than there can be');
  const items = itemsOf(node);
  if (!isUtf8(body) || textOf(node, items) !== text) throw reading.damaged('it is not in canonical form');
  const entries = node.type === 'leaf' ? node.entries : [];
  for (const [at, entry] of entries.entries()) checkSmall(entry, items[at] ?? '', reading);
  return node;
}

export function encodeChunkList(hashes: readonly Hash[]): Buffer {
  if (hashes.length === 0 || hashes.length > LIST_CHUNKS_MAX || !isHashList(hashes)) {
    throw new RangeError(`A chunk list holds 1 to ${LIST_CHUNKS_MAX} hashes.`);
  }
  return Buffer.from(hashes.join(''), 'hex');
}

/** @throws FIRN_BLOB_DAMAGED when it is not a chunk list. */
export function parseChunkList(body: Buffer, blob: string): Hash[] {
  if (body.length === 0 || body.length % HASH_BYTES !== 0 || body.length > LIST_CHUNKS_MAX * HASH_BYTES) {
    throw new FirnError('FIRN_BLOB_DAMAGED', { blob, problem: 'it does not have the length of a chunk list' });
  }
  const hashes: Hash[] = [];
  for (let at = 0; at < body.length; at += HASH_BYTES) hashes.push(body.toString('hex', at, at + HASH_BYTES));
  return hashes;
}
