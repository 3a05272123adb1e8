/**
 * The journey of a folder through a running stack: uploaded, archived and published; some of it changed and published
 * again; both snapshots restored and compared. The folder is only read.
 */
import path from 'node:path';
import { uploadFolder } from '../../archive/upload-folder.ts';
import { counted, formatBytes, formatCount } from '../../cli/format.ts';
import type { Output } from '../../cli/output.ts';
import { FirnError } from '../../errors.ts';
import { openFromEnvironment } from '../../open-from-environment.ts';
import type { Repository } from '../../repository.ts';
import { restoreTree } from '../../restore/restore-tree.ts';
import type { Snapshot } from '../../snapshots/snapshot.ts';
import type { Stack } from '../stack.ts';
import { changeSome } from './change-some.ts';
import { compareFolders, type Expected } from './compare-folders.ts';
import type { Stages } from './stages.ts';
import { changesOf, summaryOf } from './summary.ts';
import { publishNow, waitForSnapshot, waitUntilRecorded } from './watch.ts';

const SOURCE = 'demo';
const DIFFERENCES_SHOWN = 20;

export interface JourneyOptions {
  readonly folder: string;
  /** An empty folder for what is restored. */
  readonly work: string;
  readonly stack: Stack;
  readonly stages: Stages;
  readonly output: Output;
  readonly signal: AbortSignal;
}

export interface JourneyResult {
  /** True when every comparison held. */
  readonly whole: boolean;
  /** Paths that could not be read and were left out. */
  readonly skipped: number;
}

interface Journey extends JourneyOptions {
  readonly repository: Repository;
}

export async function travel(options: JourneyOptions): Promise<JourneyResult> {
  const { repository } = await openFromEnvironment(options.stack.environment);
  const journey = { ...options, repository };
  const { folder, work, stages, output, signal } = journey;

  const uploaded = await upload(journey);
  const without = new Set(uploaded.skipped.map((skipped) => skipped.path));
  const records = uploaded.files + uploaded.folders;
  if (records === 0) throw new FirnError('FIRN_USAGE', { problem: `The folder ${folder} holds nothing to archive.` });
  const first = await publish(journey, records, undefined);

  const changes = await stages.run(
    'change, add, remove',
    () => changeSome(repository, folder, { source: SOURCE, without, signal }),
    ({ expected }) => `${counted(expected.size, 'file')} in the inbox`,
  );
  const second = await publish(journey, changes.expected.size, first.at(-1));

  const backs = [
    { name: 'first', snapshot: first.at(-1), expected: new Map() as Expected },
    { name: 'second', snapshot: second.at(-1), expected: changes.expected },
  ];
  let whole = true;
  for (const { name, snapshot, expected } of backs) {
    if (snapshot === undefined) throw new FirnError('FIRN_INTERNAL', { problem: `the ${name} snapshot is gone` });
    const target = path.join(work, name);
    const failed = await restore(journey, name, snapshot, target);
    const equal = await compare(journey, name, target, expected, without);
    whole = whole && failed === 0 && equal;
  }
  const publishes = [
    { bytesIn: uploaded.bytes, snapshots: first },
    { bytesIn: changes.bytes, snapshots: second },
  ];
  await output.line(`\n${summaryOf(publishes)}\n`);
  return { whole, skipped: uploaded.skipped.length };
}

async function upload({ repository, folder, stages, output, signal }: Journey) {
  const uploaded = await stages.run(
    'upload to the inbox',
    (progress) =>
      uploadFolder(repository.inbox, SOURCE, folder, {
        uploadsInFlightMax: repository.settings.filesInFlightMax,
        signal,
        onProgress: ({ files, bytes }) => progress(`${counted(files, 'file')}, ${formatBytes(bytes)}`),
      }),
    ({ files, folders, bytes }) => `${counted(files, 'file')} in ${counted(folders, 'folder')}, ${formatBytes(bytes)}`,
  );
  for (const { path: at, problem } of uploaded.skipped) output.warning(`${at} was left out: ${problem}`, { path: at });
  return uploaded;
}

/** @returns the snapshots that were published after `parent`, oldest first; one at least. */
async function publish(
  { repository, stack, stages, signal }: Journey,
  records: number,
  parent: Snapshot | undefined,
): Promise<Snapshot[]> {
  await stages.run(
    'record in the journal',
    (progress) =>
      waitUntilRecorded(repository, SOURCE, records, {
        signal,
        onProgress: (recorded) => progress(`${formatCount(recorded)} of ${counted(records, 'upload')}`),
      }),
    () => `${counted(records, 'record')}`,
  );
  return await stages.run(
    'archive and publish',
    async (progress) => {
      await publishNow(stack.hostUrl, SOURCE, signal);
      await waitForSnapshot(repository, SOURCE, parent, { signal, onProgress: progress });
      const all = await Array.fromAsync(repository.snapshots.list({ source: SOURCE, signal }));
      return all.slice(all.findIndex(({ id }) => id === parent?.id) + 1);
    },
    (snapshots) => `snapshot ${snapshots.at(-1)?.id}: ${changesOf(snapshots)}`,
  );
}

/** @returns the number of paths that could not be restored; each is named. */
async function restore(
  { repository, stages, output, signal }: Journey,
  name: string,
  snapshot: Snapshot,
  target: string,
): Promise<number> {
  const { failed } = await stages.run(
    `restore the ${name}`,
    (progress) =>
      restoreTree(repository, snapshot, target, {
        signal,
        onProgress: ({ files, filesExpected }) =>
          progress(`${formatCount(files)} of ${counted(filesExpected, 'file')}`),
        onFailed: (at, error) => output.problem(error, at),
      }),
    ({ files, links, folders, bytes }) =>
      `${counted(files + links, 'file')} in ${counted(folders, 'folder')}, ${formatBytes(bytes)}`,
  );
  return failed;
}

/** @returns whether all is as it should be; differences are shown. */
async function compare(
  { folder, stages, output, signal }: Journey,
  name: string,
  target: string,
  changes: Expected,
  without: ReadonlySet<string>,
): Promise<boolean> {
  const { differences } = await stages.run(
    `compare the ${name}`,
    (progress) =>
      compareFolders(folder, target, {
        changes,
        without,
        signal,
        onProgress: (entries) => progress(counted(entries, 'entry', 'entries')),
      }),
    ({ entries, differences }) =>
      differences.length === 0
        ? `all equal: bytes, modes and times of ${counted(entries, 'entry', 'entries')}`
        : counted(differences.length, 'difference'),
  );
  for (const difference of differences.slice(0, DIFFERENCES_SHOWN)) output.warning(difference);
  if (differences.length > DIFFERENCES_SHOWN) {
    output.warning(`${formatCount(differences.length - DIFFERENCES_SHOWN)} more differences`);
  }
  return differences.length === 0;
}
