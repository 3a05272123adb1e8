/** `firn archive` */
import path from 'node:path';
import type { HeadDifference } from '../../snapshots/head-difference.ts';
import type { SkippedPaths } from '../../snapshots/snapshot.ts';
import { type ArchivedFolder, archiveAndPublish } from '../archive-and-publish.ts';
import { BegunScan } from '../begun-scan.ts';
import { type Command, exitCodes } from '../command.ts';
import { counted, formatBytes, formatCount, formatSeconds, printable } from '../format.ts';
import type { Output } from '../output.ts';

/** The option of what compares the files of a folder. */
export const ignoreCtime = {
  type: 'flag',
  about: 'rest on size, time and mode, on file systems that touch files by themselves',
} as const;

export const archive: Command = {
  name: 'archive',
  summary: 'archive a folder as a new snapshot of a source',
  about: [
    'Stores what differs between a folder and the latest snapshot of the source, and publishes it as a new snapshot. A file is not read again where its size, time and mode are those of the snapshot and its file system has changed nothing of it since the last scan. Where nothing differs, no snapshot is made.',
    'Symbolic links are archived as links. What cannot be read is named and left out (its earlier version stays), and so are devices, sockets and pipes; the exit code is 3 then, and the snapshot names them too.',
  ],
  args: [{ name: 'folder' }],
  options: {
    source: { type: 'text', value: 'name', required: true, about: 'the source that the snapshot belongs to' },
    rehash: { type: 'flag', about: 'read every file, whatever its times say' },
    'ignore-ctime': ignoreCtime,
  },
  examples: [
    ['firn archive ~/documents --source documents', 'archive a folder'],
    ['firn archive . --source site --json | tail -1', 'the same for a script'],
  ],
  exitCodes: { 3: 'done, but some files could not be read; each is named' },
  async run({ args, options, output, connect, open, cwd, signal, now }) {
    const [name = ''] = args;
    const folder = path.resolve(cwd, name);
    const source = options.text('source') ?? '';
    const startedAt = performance.now();
    using begun = new BegunScan({ ...(await connect()), folder, source, now, signal });
    const repository = await open();
    const archived = await archiveAndPublish(repository, folder, source, {
      begun,
      rehash: options.flag('rehash'),
      ignoreCtime: options.flag('ignore-ctime'),
      signal,
      onProgress: ({ files, bytes, path: at }) =>
        output.progress(() => `archiving  ${counted(files, 'file')}  ${formatBytes(bytes)}  ${printable(at)}`),
      onWait: (busy) => output.waiting(busy),
      onPublish: () => output.progress(() => 'publishing'),
      onScanAgain: (difference) => output.message(`${reasonOf(source, difference)}; scanning again.`),
    });
    const seconds = (performance.now() - startedAt) / 1000;
    const { skipped } = archived.outcome;
    nameSkipped(output, skipped);
    await output.result(jsonOf(archived, seconds), () => textOf(archived, seconds));
    return skipped.count > 0 ? exitCodes.incomplete : exitCodes.done;
  },
};

function reasonOf(source: string, difference: HeadDifference | undefined): string {
  if (difference === undefined) return 'What the scan found could not be published';
  const { known, actual } = difference;
  const followed = known === undefined ? '' : ` after ${known}`;
  return `Another publish of ${source} was faster (snapshot ${actual ?? 'none'}${followed})`;
}

/** Names on stderr what was left out. */
export function nameSkipped(output: Output, { count, paths }: SkippedPaths): void {
  for (const { path: at, code, problem } of paths) {
    const isSentence = problem.startsWith('The ');
    const text = isSentence ? problem : `${at} was left out: ${problem}`;
    output.warning(text, { code, path: at });
  }
  if (count > paths.length) output.warning(`${formatCount(count - paths.length)} more paths were left out.`);
}

function jsonOf({ snapshot, unchanged, outcome, stored }: ArchivedFolder, seconds: number) {
  const { id, source, time, parent, totals, changes } = snapshot;
  const { added, changed, removed } = unchanged ? { added: 0, changed: 0, removed: 0 } : changes;
  return {
    snapshot: id,
    source,
    time,
    files: totals.files,
    folders: totals.folders,
    bytes: totals.bytes,
    newChunks: stored.newChunks,
    newBytes: stored.newBytes,
    storedBytes: stored.storedBytes,
    unchanged,
    parent: parent ?? null,
    added,
    changed,
    removed,
    skippedCount: outcome.skipped.count,
    skipped: outcome.skipped.paths,
    seconds: Number(seconds.toFixed(3)),
  };
}

function textOf({ snapshot, unchanged, stored }: ArchivedFolder, seconds: number): string {
  const { id, source, totals, changes } = snapshot;
  const holds = `${counted(totals.files, 'file')}, ${formatBytes(totals.bytes)}`;
  if (unchanged) return `Nothing changed: ${source} is as snapshot ${id} has it (${holds}).`;
  const { added, changed, removed } = changes;
  return [
    `Snapshot ${id} of ${source}: ${holds}`,
    `  added ${formatCount(added)}, changed ${formatCount(changed)}, removed ${formatCount(removed)}`,
    `  ${counted(stored.newChunks, 'new chunk')} of ${formatBytes(stored.newBytes)}, stored in ${formatBytes(stored.storedBytes)}`,
    `  ${formatSeconds(seconds)}`,
  ].join('\n');
}
