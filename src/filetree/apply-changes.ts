/**
 * Turns one filetree into the next by a sorted list of changes.
 *
 * Reads and writes only what the changes touch: folders and pages without a change keep their hash and are not read
 * (save a page or two beside a changed one, until the pages fall together again). The same tree has the same root hash
 * whatever changes led to it. Memory is bounded by the depth of the tree times a page; the list is streamed. All nodes
 * are durable before it resolves; when it fails, nothing refers to what it wrote.
 *
 * A folder on the way to a file need not be put. Such an implied folder has no attributes, and goes when the last thing
 * in it is removed, as it does in blob storage. A folder with attributes, or one that is put in the same list, stays.
 */
import type { Hash } from '../sealing/keys.ts';
import { ChangeCursor } from './change-cursor.ts';
import {
  type Change,
  compareNames,
  type FileEntry,
  type FolderEntry,
  type FolderTotals,
  type FolderTree,
  type LinkEntry,
  type PutContent,
} from './entry.ts';
import type { FiletreeStore } from './filetree-store.ts';
import { FolderCursor, type NameGroup } from './folder-cursor.ts';
import { createNodeWriter, FolderWriter, type NodeWriter, type WrittenFolder } from './folder-writer.ts';
import { emptyLeaf, encodeEntry, noTotals } from './node.ts';

export interface AppliedChanges {
  readonly root: Hash;
  readonly totals: FolderTotals;
  /**
   * Files and links (not folders) that are new, have another content or attributes, or are gone. A file below a path that
   * the list removes first counts as removed, and as added where the list puts it again.
   */
  readonly added: number;
  readonly changed: number;
  readonly removed: number;
}

interface Run {
  readonly store: FiletreeStore;
  readonly nodes: NodeWriter;
  readonly changes: ChangeCursor;
  readonly signal: AbortSignal | undefined;
  added: number;
  changed: number;
  removed: number;
}

/**
 * @param root the tree to start from; undefined for an empty one.
 * @param changes strictly ascending by `compareChanges`.
 * @throws FIRN_PATH_UNUSABLE, FIRN_INTERNAL (see `ChangeCursor`), what `readNode` throws, and what `changes` throws.
 */
export async function applyChanges(
  store: FiletreeStore,
  root: Hash | undefined,
  changes: AsyncIterable<Change> | Iterable<Change>,
  { signal }: { readonly signal?: AbortSignal | undefined } = {},
): Promise<AppliedChanges> {
  const nodes = createNodeWriter(store, { signal });
  await using cursor = new ChangeCursor(changes, signal);
  const run: Run = { store, nodes, changes: cursor, signal, added: 0, changed: 0, removed: 0 };
  await cursor.advance();
  const { tree, totals } = (await applyToFolder(run, '', { tree: root })) ?? { tree: emptyLeaf, totals: noTotals };
  const hash = typeof tree === 'string' ? tree : await nodes.write(tree);
  await nodes.flush();
  return { root: hash, totals, added: run.added, changed: run.changed, removed: run.removed };
}

/**
 * Applies all changes whose path begins with `prefix`.
 * @returns undefined when nothing is left in the folder.
 */
async function applyToFolder(
  run: Run,
  prefix: string,
  folder: { readonly tree: FolderTree | undefined; readonly totals?: FolderTotals },
): Promise<WrittenFolder | undefined> {
  const { store, changes, signal } = run;
  const cursor = new FolderCursor(store, folder.tree, folder.totals, { signal });
  const writer = new FolderWriter(store, run.nodes, { signal });
  for (;;) {
    const name = changes.nameUnder(prefix);
    const head = cursor.head();
    if (head?.kind === 'page') {
      const { below, rightmost } = head;
      const untouched = name === undefined || (!rightmost && below && compareNames(name, below.ref.last) > 0);
      if (untouched && below && writer.aligned(below.level)) {
        await writer.pushPage(below.level + 1, below.ref);
        cursor.skip();
      } else {
        await cursor.expand();
      }
      continue;
    }
    const group = head?.group;
    if (group !== undefined && (name === undefined || compareNames(group.name, name) < 0)) {
      await writer.pushGroup(group);
      cursor.skip();
    } else if (name !== undefined) {
      const before = group?.name === name ? group : undefined;
      if (before !== undefined) cursor.skip();
      const after = await applyToName(run, prefix, name, before);
      if (after.folder !== undefined || after.file !== undefined) await writer.pushGroup(after);
    } else {
      return await writer.finish();
    }
  }
}

function fileEntry(name: string, entry: PutContent): FileEntry | LinkEntry | undefined {
  return entry.type === 'folder' ? undefined : { ...entry, name };
}

function isImplied(folder: FolderEntry | undefined): boolean {
  return folder?.mtime === undefined && folder?.mode === undefined;
}

function isEmpty(totals: FolderTotals): boolean {
  return totals.files === 0 && totals.folders === 0;
}

/** Applies the changes of one name, and of all below it. */
async function applyToName(run: Run, prefix: string, name: string, before: NameGroup | undefined): Promise<NameGroup> {
  const { changes } = run;
  const path = prefix + name;
  let folder = before?.folder;
  let file = before?.file;
  let folderWasPut = false;
  for (let change = changes.current; change?.path === path; change = changes.current) {
    if (change.op === 'remove') {
      run.removed += folder?.files ?? 0;
      folder = undefined;
      file = undefined;
    } else if (change.entry.type === 'folder') {
      const { mtime, mode } = change.entry;
      folder = { ...(folder ?? emptyFolder(name)), mtime, mode };
      folderWasPut = true;
    } else {
      file = fileEntry(name, change.entry);
    }
    await changes.advance();
  }
  if (changes.nameUnder(`${path}/`) !== undefined) {
    folder = await applyBelow(run, path, folder, { stays: folderWasPut || !isImplied(folder) });
  }
  count(run, before?.file, file);
  return { name, ...(folder && { folder }), ...(file && { file }) };
}

function emptyFolder(name: string): FolderEntry {
  return { name, type: 'folder', tree: emptyLeaf, ...noTotals };
}

async function applyBelow(
  run: Run,
  path: string,
  folder: FolderEntry | undefined,
  { stays }: { readonly stays: boolean },
): Promise<FolderEntry | undefined> {
  const name = path.slice(path.lastIndexOf('/') + 1);
  const written = await applyToFolder(run, `${path}/`, { tree: folder?.tree, ...(folder && { totals: folder }) });
  if (written !== undefined) {
    const { mtime, mode } = folder ?? {};
    return { name, type: 'folder', mtime, mode, ...written.totals, tree: written.tree };
  }
  // An implied folder that was stored empty was put so: removals that found nothing in it leave it alone.
  if (folder !== undefined && (stays || isEmpty(folder))) return { ...folder, ...emptyFolder(name) };
  return undefined;
}

function count(run: Run, before: FileEntry | LinkEntry | undefined, after: FileEntry | LinkEntry | undefined): void {
  if (before === undefined) run.added += after === undefined ? 0 : 1;
  else if (after === undefined) run.removed += 1;
  else if (encodeEntry(before) !== encodeEntry(after)) run.changed += 1;
}
