/** `firn ls` */
import { FirnError } from '../../errors.ts';
import type { FolderEntry, TreeEntry } from '../../filetree/entry.ts';
import { findEntry, listFolder, type WalkedEntry, type WalkOptions, walkTree } from '../../filetree/walk.ts';
import type { Repository } from '../../repository.ts';
import { normalizePath } from '../../restore/selection.ts';
import type { Snapshot } from '../../snapshots/snapshot.ts';
import { type Command, exitCodes } from '../command.ts';
import { formatBytes, formatMode, formatTime, printable } from '../format.ts';

export const ls: Command = {
  name: 'ls',
  summary: 'list what a snapshot holds',
  about: [
    'Lists the files, links and folders of a snapshot with their full paths: all of them, or all below a path. Without a snapshot it takes the latest. Times are in UTC.',
    'With --json each line has path, type (file, folder or link), size (bytes of a file, else 0), mtime and mode (a number; both null where they are not known), and target of a link.',
  ],
  args: [
    { name: 'snapshot', optional: true },
    { name: 'path', optional: true },
  ],
  options: { 'no-recursive': { type: 'flag', about: 'only what lies directly in the folder' } },
  examples: [
    ['firn ls', 'list the latest snapshot'],
    ['firn ls latest:documents letters', 'what lies below letters in the latest snapshot of documents'],
    ['firn ls 3f2a --no-recursive', 'the top folder of the snapshot whose id begins with 3f2a'],
  ],
  async run({ args, options, output, open, signal }) {
    const [name = 'latest', at = ''] = args;
    const repository = await open();
    const snapshot = await repository.snapshots.resolve(name, { signal });
    let damaged = 0;
    const onDamaged = (path: string, error: FirnError) => {
      damaged += 1;
      output.problem(error, path);
    };
    const entries = entriesAt(repository, snapshot, normalizePath(at), {
      recursive: !options.flag('no-recursive'),
      signal,
      onDamaged,
    });
    for await (const { path, entry } of entries) {
      await output.result(jsonOf(path, entry), () => textOf(path, entry));
    }
    return damaged > 0 ? exitCodes.failed : exitCodes.done;
  },
};

async function* entriesAt(
  { filetrees }: Repository,
  { root, id }: Snapshot,
  path: string,
  options: WalkOptions & { readonly recursive: boolean },
): AsyncGenerator<WalkedEntry> {
  const { recursive, signal } = options;
  let folder: FolderEntry | undefined;
  if (path !== '') {
    const found = await findEntry(filetrees, root, path, { signal });
    if (found.folder === undefined && found.file === undefined) {
      throw new FirnError('FIRN_PATH_UNKNOWN', { path, snapshot: id });
    }
    if (found.file !== undefined) yield { path, entry: found.file };
    if (found.folder === undefined) return;
    folder = found.folder;
  }
  if (recursive) {
    const below = path === '' ? undefined : path;
    for await (const walked of walkTree(filetrees, root, { ...options, path: below })) {
      if (walked.path !== path) yield walked;
    }
    return;
  }
  const prefix = path === '' ? '' : `${path}/`;
  for await (const entry of listFolder(filetrees, folder?.tree ?? root, { signal })) {
    yield { path: prefix + entry.name, entry };
  }
}

function jsonOf(path: string, entry: TreeEntry) {
  return {
    path,
    type: entry.type,
    size: entry.type === 'file' ? entry.bytes : 0,
    mtime: entry.mtime ?? null,
    mode: entry.mode ?? null,
    ...(entry.type === 'link' && { target: entry.target }),
  };
}

function textOf(path: string, entry: TreeEntry): string {
  const size = entry.type === 'file' ? formatBytes(entry.bytes) : '-';
  const end = entry.type === 'folder' ? '/' : entry.type === 'link' ? ` -> ${printable(entry.target)}` : '';
  return `${formatMode(entry.type, entry.mode)}  ${size.padStart(8)}  ${formatTime(entry.mtime).padEnd(19)}  ${printable(path)}${end}`;
}
