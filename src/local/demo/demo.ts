/**
 * `npm run demo [-- <folder>]`: the main job, end to end, on this machine: a folder dropped into the inbox becomes a
 * snapshot, some of it changes, a second snapshot follows, both are restored, and every byte, mode and time is compared.
 * Exit code 0 only if every comparison held. Leaves nothing running and nothing behind.
 */
import { randomUUID } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { recordInJournal } from '../../archive/batches.ts';
import { checkFolder } from '../../archive/folder-source.ts';
import { uploadFolder } from '../../archive/upload-folder.ts';
import { counted, formatBytes, formatCount, formatSeconds, formatTable, printable } from '../../cli/format.ts';
import { Output } from '../../cli/output.ts';
import { FirnError, isFirnError, problemOf } from '../../errors.ts';
import { openFromEnvironment } from '../../open-from-environment.ts';
import type { Repository } from '../../repository.ts';
import { restoreTree } from '../../restore/restore-tree.ts';
import type { Snapshot } from '../../snapshots/snapshot.ts';
import { appRoot, type Stack, startStack } from '../stack.ts';
import { type Comparison, compareFolders, type Expected } from './compare-folders.ts';
import { publishNow, waitForSnapshot, waitUntilRecorded } from './watch.ts';

/** A folder of some 3,000 small files that every clone has after `npm ci`. */
const DEFAULT_FOLDER = path.join(appRoot, 'node_modules', '@opentelemetry', 'sdk-node');
const SOURCE = 'demo';
const DIFFERENCES_SHOWN = 20;

interface Stage {
  readonly name: string;
  readonly seconds: number;
  readonly what: string;
}

const output = new Output(process.stdout, process.stderr, { json: false, quiet: false, debug: false });
const stages: Stage[] = [];

async function stage<T>(name: string, work: () => Promise<T>, what: (result: T) => string): Promise<T> {
  const startedAt = performance.now();
  const result = await work();
  const seconds = (performance.now() - startedAt) / 1000;
  const done = { name, seconds, what: what(result) };
  stages.push(done);
  await output.line(`  ${name.padEnd(32)} ${formatSeconds(seconds).padStart(8)}   ${done.what}`);
  await output.flush();
  return result;
}

async function demo(folder: string, work: string, signal: AbortSignal): Promise<boolean> {
  const logs: string[] = [];
  const stack = await stage(
    'start the local stack',
    () =>
      startStack({
        folder: path.join(work, 'firn'),
        blobPort: 0,
        queuePort: 0,
        httpPort: 0,
        onLog: (line) => logs.push(line),
      }),
    () => 'Azurite, an encrypted repository, the functions',
  );
  try {
    return await Promise.race([run(folder, work, stack, signal), stack.failed]);
  } catch (error) {
    for (const line of logs.slice(-30)) output.message(`  | ${line}`);
    throw error;
  } finally {
    await stack.stop();
  }
}

async function run(folder: string, work: string, stack: Stack, signal: AbortSignal): Promise<boolean> {
  const { repository } = await openFromEnvironment(stack.environment);

  const uploaded = await stage(
    'upload into the inbox',
    () => upload(repository, folder, signal),
    ({ files, bytes }) => `${counted(files, 'file')}, ${formatBytes(bytes)}`,
  );
  for (const { path: at, problem } of uploaded.skipped) output.warning(`${at} was left out: ${problem}`);
  const first = await archiveAndPublish(stack, repository, undefined, uploaded.files + uploaded.folders, signal);

  const changes = await stage(
    'change, add and delete some',
    () => changeSome(repository, folder, signal),
    ({ records }) => `${records} files`,
  );
  const second = await archiveAndPublish(stack, repository, first, changes.records, signal);

  const restores: { snapshot: Snapshot; target: string; expected: Expected }[] = [
    { snapshot: first, target: path.join(work, 'first'), expected: new Map() },
    { snapshot: second, target: path.join(work, 'second'), expected: changes.expected },
  ];
  let whole = uploaded.skipped.length === 0;
  for (const { snapshot, target, expected } of restores) {
    const name = snapshot === first ? 'first' : 'second';
    await stage(
      `restore the ${name} snapshot`,
      () =>
        restoreTree(repository, snapshot, target, {
          signal,
          onProgress: ({ files, filesExpected }) =>
            output.progress(() => `  restoring ${formatCount(files)} of ${formatCount(filesExpected)}`),
          onFailed: (at, error) => output.problem(error, at),
        }),
      ({ files, bytes }) => `${counted(files, 'file')}, ${formatBytes(bytes)}`,
    );
    const comparison = await stage(
      'compare bytes, modes and times',
      () => compareFolders(folder, target, expected),
      ({ entries, differences }) =>
        differences.length === 0
          ? `${counted(entries, 'entry', 'entries')}, all equal`
          : `${counted(differences.length, 'difference')}`,
    );
    whole = report(comparison) && whole;
  }
  await summary(uploaded.bytes, [first, second]);
  return whole;
}

async function upload(repository: Repository, folder: string, signal: AbortSignal) {
  return await uploadFolder(repository.inbox, SOURCE, folder, {
    uploadsInFlightMax: repository.settings.filesInFlightMax,
    signal,
    onProgress: ({ files, bytes }) =>
      output.progress(() => `  uploading ${counted(files, 'file')}, ${formatBytes(bytes)}`),
  });
}

async function archiveAndPublish(
  stack: Stack,
  repository: Repository,
  parent: Snapshot | undefined,
  records: number,
  signal: AbortSignal,
): Promise<Snapshot> {
  await stage(
    'record the uploads',
    () =>
      waitUntilRecorded(repository, SOURCE, records, {
        signal,
        onProgress: (recorded) =>
          output.progress(() => `  recorded ${formatCount(recorded)} of ${formatCount(records)} uploads`),
      }),
    () => `blob trigger: ${counted(records, 'event')}`,
  );
  return await stage(
    'archive and publish',
    async () => {
      await publishNow(stack.hostUrl, SOURCE, signal);
      return await waitForSnapshot(repository, SOURCE, parent, {
        signal,
        onProgress: (state) => output.progress(() => `  ${state}`),
      });
    },
    ({ id, batches, changes }) =>
      `snapshot ${id} of ${counted(batches.length, 'batch', 'batches')}: +${formatCount(changes.added)} ~${formatCount(changes.changed)} -${formatCount(changes.removed)}`,
  );
}

/** Changes some files, adds one and removes one: in the inbox, not in the user's folder. */
async function changeSome(
  repository: Repository,
  folder: string,
  signal: AbortSignal,
): Promise<{ expected: Expected; records: number }> {
  const expected = new Map<string, { content: Buffer; mode: number; mtimeMs: number } | null>();
  const [removed, ...changed] = await someFiles(folder);
  const contents = new Map(changed.map((name) => [name, Buffer.from(`changed: ${name}\n`.repeat(40))]));
  contents.set('added – née 雪.txt', Buffer.from('a new file with an odd name\n'));
  const mtime = '2026-01-02T03:04:05.678Z';
  for (const [name, content] of contents) {
    const blob = `${SOURCE}/${name}`;
    await repository.inbox.delete(blob, { signal });
    await repository.inbox.create(blob, content, { metadata: { mtime, mode: '0640' }, signal });
    expected.set(name, { content, mode: 0o640, mtimeMs: Date.parse(mtime) });
  }
  if (removed !== undefined) {
    await recordInJournal(repository, SOURCE, { kind: 'removal', path: removed, nonce: randomUUID() }, { signal });
    expected.set(removed, null);
  }
  return { expected, records: expected.size };
}

/** Up to five files, spread over the folder. */
async function someFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => path.join(entry.parentPath, entry.name));
  const step = Math.max(1, Math.floor(files.length / 5));
  return files
    .sort()
    .filter((_, n) => n % step === 0)
    .slice(0, 5)
    .map((file) => path.relative(folder, file));
}

function report({ differences }: Comparison): boolean {
  for (const difference of differences.slice(0, DIFFERENCES_SHOWN)) output.warning(difference);
  return differences.length === 0;
}

async function summary(bytesIn: number, snapshots: readonly Snapshot[]): Promise<void> {
  const rows = snapshots.map(({ id, totals, stored, changes }) => [
    id.slice(0, 8),
    formatCount(totals.files),
    formatBytes(totals.bytes),
    `+${changes.added} ~${changes.changed} -${changes.removed}`,
    formatBytes(stored.newBytes),
    formatBytes(stored.storedBytes),
  ]);
  const right = { align: 'right' } as const;
  const columns = [
    { title: 'SNAPSHOT' },
    { title: 'FILES', ...right },
    { title: 'SIZE', ...right },
    { title: 'CHANGES' },
    { title: 'NEW', ...right },
    { title: 'STORED', ...right },
  ];
  await output.line(`\n${formatTable(columns, rows)}\n`);
  const [first] = snapshots;
  if (first === undefined) return;
  const { newBytes, storedBytes } = first.stored;
  const percent = (part: number, whole: number) => `${whole === 0 ? 0 : Math.round((100 * part) / whole)} %`;
  await output.line(`  bytes in       ${formatBytes(bytesIn)}`);
  await output.line(`  deduplicated   ${formatBytes(bytesIn - newBytes)} (${percent(bytesIn - newBytes, bytesIn)})`);
  await output.line(
    `  compressed     ${formatBytes(newBytes)} to ${formatBytes(storedBytes)} (${percent(storedBytes, newBytes)})`,
  );
  await output.line(`  bytes stored   ${formatBytes(storedBytes)} (${percent(storedBytes, bytesIn)} of what came in)`);
}

async function main(): Promise<number> {
  const [named, ...more] = process.argv.slice(2);
  const folder = path.resolve(named ?? DEFAULT_FOLDER);
  const cancelled = new AbortController();
  const cancel = () => cancelled.abort(new FirnError('FIRN_CANCELLED'));
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, cancel);
  const work = await mkdtemp(path.join(tmpdir(), 'firn-demo-'));
  try {
    if (more.length > 0) throw new FirnError('FIRN_USAGE', { problem: 'The demo takes one folder at most.' });
    await checkFolder(folder);
    await output.line(`Firn demo: ${printable(path.relative(process.cwd(), folder) || folder)}\n`);
    const startedAt = performance.now();
    const whole = await demo(folder, work, cancelled.signal);
    const seconds = (performance.now() - startedAt) / 1000;
    await output.line(
      whole
        ? `\nBoth snapshots came back byte for byte, with their modes and times, in ${formatSeconds(seconds)}.`
        : '\nSomething did not come back as it was: see above.',
    );
    return whole ? 0 : 1;
  } catch (error) {
    output.failure(
      isFirnError(error) ? error : new FirnError('FIRN_INTERNAL', { problem: problemOf(error) }, { cause: error }),
    );
    return isFirnError(error) && error.usage ? 2 : 1;
  } finally {
    output.close();
    await output.flush();
    await rm(work, { recursive: true, force: true });
  }
}

process.exitCode = await main();
