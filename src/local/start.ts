/**
 * `npm start`: the local stack, staying up; with `-- --package`, on what `npm run package` built. Its data lies in one folder (`.firn/` below the project, or FIRN_LOCAL_FOLDER)
 * and survives restarts; what was under way when it stopped goes on when it is started again.
 *
 * Ctrl-C lets running functions end and stops everything; a second one does not wait for them. Exit codes: 0 stopped as
 * asked; 1 failed; 2 a setting is wrong; 130 stopped without waiting.
 */
import path from 'node:path';
import { aborted, listenForStop, type StopSignals } from '../cli/stop-signals.ts';
import { FirnError, isFirnError, problemOf } from '../errors.ts';
import { readSettings } from '../settings.ts';
import { logFile } from './log-file.ts';
import { appRoot, type Stack, startStack } from './stack.ts';
import { readStartOptions } from './start-options.ts';
import { welcome } from './welcome.ts';

async function main(): Promise<number> {
  const signals = listenForStop({ reason: new FirnError('FIRN_CANCELLED'), endsWithNpm: true });
  const options = readStartOptions(process.env, appRoot, process.argv.slice(2));
  const { settings, warnings } = readSettings(process.env);
  for (const warning of warnings) complain(`warning: ${warning}`);

  const logPath = path.join(options.folder, 'host.log');
  const log = logFile(logPath, (error) => complain(`warning: the log cannot be written: ${error.message}`));
  let stack: Stack;
  try {
    say('Starting Azurite and the functions…');
    stack = await startStack({
      ...options,
      environment: process.env,
      onLog: (line) => log.line(line),
      signal: signals.stop,
    });
  } catch (error) {
    await log.close();
    if (signals.stop.aborted && isFirnError(error, 'FIRN_CANCELLED')) return 0;
    throw error;
  }
  if (!signals.stop.aborted) {
    const { repository } = settings;
    say(welcome({ ...stack, cwd: process.cwd(), folder: options.folder, logFile: logPath, repository }));
  }
  try {
    return await stayUp(stack, signals);
  } finally {
    await log.close();
  }
}

async function stayUp(stack: Stack, { stop, stopAtOnce }: StopSignals): Promise<number> {
  try {
    await Promise.race([aborted(stop), stack.failed]);
  } catch (error) {
    await stack.kill();
    throw error;
  }
  say('\nStopping: running functions may end (Ctrl-C again does not wait for them).');
  const atOnce = aborted(stopAtOnce).then(() => stack.kill());
  await Promise.race([stack.stop(), atOnce]);
  if (stopAtOnce.aborted) {
    await atOnce;
    say('Stopped without waiting. `npm start` takes up what was under way.');
    return 130;
  }
  say('Stopped. `npm start` goes on where this left off.');
  return 0;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function complain(text: string): void {
  process.stderr.write(`${text}\n`);
}

// Whoever read the output may be gone; the stack is to be stopped in order all the same.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
try {
  process.exitCode = await main();
} catch (error) {
  const failure = isFirnError(error) ? error : new FirnError('FIRN_INTERNAL', { problem: problemOf(error) });
  complain(`firn: ${failure.message}\n${failure.advice}`);
  if (process.env.FIRN_DEBUG) complain(error instanceof Error ? (error.stack ?? '') : '');
  process.exitCode = failure.usage ? 2 : 1;
}
