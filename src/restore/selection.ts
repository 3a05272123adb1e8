/** Which parts of a snapshot are to be restored: the paths that a user named, found in its filetree. */
import { FirnError } from '../errors.ts';
import type { FileEntry, FolderEntry, FolderTotals, LinkEntry } from '../filetree/entry.ts';
import type { FiletreeStore } from '../filetree/filetree-store.ts';
import { findEntry, isDamage } from '../filetree/walk.ts';
import type { Snapshot } from '../snapshots/snapshot.ts';
import type { CallOptions } from '../storage/blob-store.ts';

export interface ParentFolder {
  readonly path: string;
  readonly entry: FolderEntry;
}

export interface SelectedPath {
  /** Empty for the whole snapshot. */
  readonly path: string;
  /** The folders above, from the top down. */
  readonly parents: readonly ParentFolder[];
  readonly folder?: FolderEntry | undefined;
  readonly file?: FileEntry | LinkEntry | undefined;
  /** What lies at the path and below. */
  readonly totals: FolderTotals;
}

/** A path as a user types it, in the form that filetrees have: «/docs/», «./docs» and «docs» are one. */
export function normalizePath(path: string): string {
  return path
    .split('/')
    .filter((name) => name !== '' && name !== '.')
    .join('/');
}

/** Leaves out what lies below another of the paths. Pure. */
export function outermost<T extends { readonly path: string }>(items: readonly T[]): T[] {
  const holds = (folder: string, path: string) => folder === '' || path.startsWith(`${folder}/`);
  return items.filter(({ path }) => !items.some((other) => other.path !== path && holds(other.path, path)));
}

/** A path that damage on the way to it hides goes to `onDamaged`. @throws FIRN_PATH_UNKNOWN, and storage errors. */
export async function selectPaths(
  filetrees: FiletreeStore,
  snapshot: Snapshot,
  paths: readonly string[],
  options: CallOptions & { readonly onDamaged: (path: string, error: FirnError) => void },
): Promise<SelectedPath[]> {
  const { signal, onDamaged } = options;
  const selected: SelectedPath[] = [];
  // Every one of them is looked for, so that a mistyped one is told even where another would hold it.
  for (const path of new Set(paths.length === 0 ? [''] : paths.map(normalizePath))) {
    try {
      selected.push(await selectPath(filetrees, snapshot, path, { signal }));
    } catch (error) {
      if (!isDamage(error)) throw error;
      onDamaged(path, error);
    }
  }
  return outermost(selected);
}

async function selectPath(
  filetrees: FiletreeStore,
  snapshot: Snapshot,
  path: string,
  options?: CallOptions,
): Promise<SelectedPath> {
  if (path === '') return { path, parents: [], totals: snapshot.totals };
  const names = path.split('/');
  const parents: ParentFolder[] = [];
  for (let depth = 1; depth < names.length; depth += 1) {
    const above = names.slice(0, depth).join('/');
    const { folder } = await findEntry(filetrees, snapshot.root, above, options);
    if (folder === undefined) throw new FirnError('FIRN_PATH_UNKNOWN', { path, snapshot: snapshot.id });
    parents.push({ path: above, entry: folder });
  }
  const { folder, file } = await findEntry(filetrees, snapshot.root, path, options);
  if (folder === undefined && file === undefined) {
    throw new FirnError('FIRN_PATH_UNKNOWN', { path, snapshot: snapshot.id });
  }
  const totals = {
    files: (folder?.files ?? 0) + (file ? 1 : 0),
    folders: (folder?.folders ?? 0) + (folder ? 1 : 0),
    bytes: (folder?.bytes ?? 0) + (file?.type === 'file' ? file.bytes : 0),
  };
  return { path, parents, folder, file, totals };
}
