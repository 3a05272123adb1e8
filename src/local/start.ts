/**
 * `npm start`: the local stack, staying up. Data lies in `.firn/` below the project and survives restarts; what was under
 * way when it stopped goes on when it is started again. Ctrl-C lets running functions end and stops everything.
 */
import { appendFile, mkdir } from 'node:fs/promises';
import path from 'node:path';
import { FirnError, isFirnError, problemOf } from '../errors.ts';
import { appRoot, startStack } from './stack.ts';

const folder = path.join(appRoot, '.firn');
const logFile = path.join(folder, 'host.log');

function portOf(name: string, fallback: number): number {
  const text = process.env[name];
  if (text === undefined || text === '') return fallback;
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new FirnError('FIRN_SETTING_INVALID', { name, problem: `«${text}» is no port` });
  }
  return port;
}

/** Lines in order, without waiting for each. */
function logTo(file: string): (line: string) => void {
  let last: Promise<void> = Promise.resolve();
  return (line) => {
    last = last.then(() => appendFile(file, `${line}\n`));
  };
}

async function main(): Promise<number> {
  const stopRequested = new Promise<void>((resolve) => {
    for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => resolve());
  });
  await mkdir(folder, { recursive: true });
  const stack = await startStack({
    folder,
    environment: process.env,
    blobPort: portOf('FIRN_LOCAL_BLOB_PORT', 10_000),
    queuePort: portOf('FIRN_LOCAL_QUEUE_PORT', 10_001),
    httpPort: portOf('FIRN_HTTP_PORT', 7071),
    onLog: logTo(logFile),
  });
  say(welcome(stack.hostUrl, stack.created, stack.passphraseFile));
  try {
    await Promise.race([stopRequested, stack.failed]);
    say('\nStopping…');
  } finally {
    await stack.stop();
  }
  say('Stopped. `npm start` goes on where this left off.');
  return 0;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function welcome(hostUrl: string, created: boolean, passphraseFile: string): string {
  const file = path.relative(process.cwd(), passphraseFile);
  return `Firn is running: Azurite and the functions, with ${created ? 'a new' : 'the'} encrypted repository in .firn/.
The log is .firn/host.log; Ctrl-C stops everything.

In another terminal, in this folder:

  export FIRN_STORAGE=UseDevelopmentStorage=true
  export FIRN_PASSPHRASE=$(cat ${file})

  npx firn upload <folder> --source photos          drop a folder into the inbox
  curl -X POST ${hostUrl}/api/publish/photos     publish now (else after about a minute)
  npx firn snapshots                                list what was published
  npx firn ls latest:photos                         list a snapshot
  npx firn restore latest:photos <empty folder>     bring it back`;
}

try {
  process.exitCode = await main();
} catch (error) {
  const failure = isFirnError(error) ? error : new FirnError('FIRN_INTERNAL', { problem: problemOf(error) });
  process.stderr.write(`firn: ${failure.message}\n${failure.advice}\n`);
  process.exitCode = failure.usage ? 2 : 1;
}
