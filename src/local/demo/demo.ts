/**
 * `npm run demo [-- <folder>]`: the main job, end to end, on this machine. A folder dropped into the inbox becomes a
 * snapshot, some of it changes, a second snapshot follows, both are restored, and every byte, mode and time is compared.
 * It leaves nothing running and nothing behind.
 *
 * Exit codes: 0 every comparison held; 1 one did not, or something failed; 2 wrong usage; 3 every comparison held, but
 * files that could not be read were left out; 130 stopped by a signal.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { checkFolder } from '../../archive/folder-source.ts';
import { counted, formatSeconds, printable } from '../../cli/format.ts';
import { Output } from '../../cli/output.ts';
import { listenForStop } from '../../cli/stop-signals.ts';
import { FirnError, isFirnError, problemOf } from '../../errors.ts';
import { appRoot, type Stack, startStack } from '../stack.ts';
import { type JourneyResult, travel } from './journey.ts';
import { createStages } from './stages.ts';

/** A folder of some 3,000 small files that every clone has after `npm ci`. */
const DEFAULT_FOLDER = path.join(appRoot, 'node_modules', '@opentelemetry', 'sdk-node');
const LOG_LINES_SHOWN = 30;
const USAGE = `npm run demo                 archive, publish, change and restore ${path.relative(appRoot, DEFAULT_FOLDER)}
npm run demo -- <folder>     the same with a folder of yours, which is only read`;

const output = new Output(process.stdout, process.stderr, {
  json: false,
  quiet: false,
  debug: Boolean(process.env.FIRN_DEBUG),
});

function readArguments(): { help: boolean; folder: string } {
  const [named, ...more] = process.argv.slice(2);
  const help = named === '--help' || named === '-h';
  if (!help && (more.length > 0 || named?.startsWith('-'))) {
    throw new FirnError('FIRN_USAGE', { problem: 'The demo takes one folder at most, and no options.' });
  }
  // npm runs its scripts in the folder of the project, wherever the user is.
  return { help, folder: named === undefined ? DEFAULT_FOLDER : path.resolve(process.env.INIT_CWD ?? '', named) };
}

async function main(signal: AbortSignal): Promise<number> {
  const { help, folder } = readArguments();
  if (help) {
    await output.line(USAGE);
    return 0;
  }
  await checkFolder(folder);
  const named = folder.startsWith(appRoot) ? path.relative(appRoot, folder) : folder;
  await output.line(`Firn demo: ${printable(named)}\n`);
  const startedAt = performance.now();
  const { whole, skipped } = await inTemporaryFolder((work) => demo(folder, work, signal));
  const seconds = formatSeconds((performance.now() - startedAt) / 1000);
  if (!whole) {
    await output.line('Something did not come back as it was: see above.');
    return 1;
  }
  const leftOut = skipped === 0 ? '' : `, but for ${counted(skipped, 'path')} that could not be read`;
  await output.line(`Both snapshots came back byte for byte, with modes and times${leftOut}. It took ${seconds}.`);
  return skipped === 0 ? 0 : 3;
}

async function inTemporaryFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(path.join(tmpdir(), 'firn-demo-'));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

async function demo(folder: string, work: string, signal: AbortSignal): Promise<JourneyResult> {
  const logs: string[] = [];
  const onLog = (line: string): void => {
    logs.push(line);
    if (logs.length > LOG_LINES_SHOWN) logs.shift();
  };
  const stages = createStages(output);
  try {
    const stack = await stages.run(
      'start the local stack',
      () => startStack({ folder: path.join(work, 'stack'), blobPort: 0, queuePort: 0, httpPort: 0, onLog, signal }),
      () => 'Azurite, an encrypted repository, the functions',
    );
    try {
      return await untilFailure(stack, signal, (either) =>
        travel({ folder, work, stack, stages, output, signal: either }),
      );
    } finally {
      // Nothing of it is kept, so nobody waits for functions that run.
      await stack.kill();
    }
  } catch (error) {
    if (!isUsersDoing(error)) for (const line of logs) output.message(`  | ${line}`);
    throw error;
  }
}

/** Does the work until it is done, the stack fails or the signal aborts; in every case the work has ended then. */
async function untilFailure<T>(
  stack: Stack,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const broken = new AbortController();
  stack.failed.catch((error: unknown) => broken.abort(error));
  const either = AbortSignal.any([signal, broken.signal]);
  try {
    return await work(either);
  } catch (error) {
    // Why the work was stopped says more than how it took that.
    throw either.aborted ? either.reason : error;
  }
}

function isUsersDoing(error: unknown): boolean {
  return isFirnError(error) && (error.usage || error.code === 'FIRN_CANCELLED');
}

const { stop } = listenForStop({ reason: new FirnError('FIRN_CANCELLED'), endsWithNpm: true });
try {
  process.exitCode = await main(stop);
} catch (error) {
  const failure = isFirnError(error)
    ? error
    : new FirnError('FIRN_INTERNAL', { problem: problemOf(error) }, { cause: error });
  output.failure(failure);
  if (failure.code === 'FIRN_USAGE') output.message(USAGE);
  process.exitCode = stop.aborted ? 130 : failure.usage ? 2 : 1;
} finally {
  output.close();
  await output.flush().catch(() => undefined);
}
