/**
 * Starts Azurite, the storage of the local stack and of the tests, as a child process, and stops it.
 *
 * It listens on 127.0.0.1 only, sends no telemetry and never outlives its parent: the child watches the channel to the
 * parent and shuts down when that closes, which the system does even for a parent that is killed. It runs in a process
 * group of its own, so that Ctrl-C in a terminal reaches only the parent, which stops it when its own work is done.
 *
 * Azurite writes its catalogue to disk every five seconds and when it is stopped; what was stored since is lost when
 * Azurite itself is killed. That is a limit of the emulator, not of Firn.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { FirnError } from '../errors.ts';
import { FOLDER_IN_USE_LINE } from './folder-lock.ts';

export const AZURITE_BLOB_PORT = 10_000;
export const AZURITE_QUEUE_PORT = 10_001;
/** The settings that choose other ports and another folder, for messages. */
export const azuritePortSettings = { blob: 'FIRN_LOCAL_BLOB_PORT', queue: 'FIRN_LOCAL_QUEUE_PORT' } as const;
export const FOLDER_SETTING = 'FIRN_LOCAL_FOLDER';

const START_MS_MAX = 60_000;
/** Azurite gives requests under way this long; then it is killed. */
const STOP_MS_MAX = 15_000;
const LOG_LINES_KEPT = 20;

/** The account that Azurite makes; name and key are public and the same everywhere. */
const ACCOUNT = 'devstoreaccount1';
const ACCOUNT_KEY = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';

export interface AzuriteOptions {
  /** Where its data lives; it is created. In memory where undefined. */
  readonly dataFolder?: string | undefined;
  /** 10000 where undefined; 0 takes any free port. */
  readonly blobPort?: number | undefined;
  /** 10001 where undefined; 0 takes any free port. */
  readonly queuePort?: number | undefined;
}

export interface Azurite {
  readonly connectionString: string;
  readonly blobUrl: string;
  readonly queueUrl: string;
  readonly blobPort: number;
  readonly queuePort: number;
  readonly pid: number;
  /** Resolves when the process has ended, for whatever reason. */
  readonly exited: Promise<void>;
  /** Lets requests under way finish, saves, and ends the process. May be called again. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Fails with FIRN_PORT_IN_USE, FIRN_LOCAL_FOLDER_IN_USE (one Azurite to a data folder) or FIRN_LOCAL_STACK_FAILED; then
 * nothing is left running.
 */
export async function startAzurite(options: AzuriteOptions = {}): Promise<Azurite> {
  const wanted = {
    blob: options.blobPort ?? AZURITE_BLOB_PORT,
    queue: options.queuePort ?? AZURITE_QUEUE_PORT,
  };
  if (options.dataFolder !== undefined) await mkdir(options.dataFolder, { recursive: true });

  const child = fork(
    fileURLToPath(new URL('./azurite-process.ts', import.meta.url)),
    azuriteArguments(wanted, options),
    {
      detached: true,
      execArgv: [],
      env: childEnvironment(),
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    },
  );
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });

  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopping ??= stopChild(child, exited);
    return stopping;
  };

  let ports: { blob: number; queue: number };
  try {
    ports = await listening(child, exited, wanted, options.dataFolder);
  } catch (error) {
    child.kill('SIGKILL');
    await exited;
    throw error;
  }

  const blobUrl = `http://127.0.0.1:${ports.blob}/${ACCOUNT}`;
  const queueUrl = `http://127.0.0.1:${ports.queue}/${ACCOUNT}`;
  return {
    connectionString:
      `DefaultEndpointsProtocol=http;AccountName=${ACCOUNT};AccountKey=${ACCOUNT_KEY};` +
      `BlobEndpoint=${blobUrl};QueueEndpoint=${queueUrl};`,
    blobUrl,
    queueUrl,
    blobPort: ports.blob,
    queuePort: ports.queue,
    pid: child.pid ?? -1,
    exited,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

function azuriteArguments(ports: { blob: number; queue: number }, options: AzuriteOptions): string[] {
  const services = { blob: ports.blob, queue: ports.queue, table: 0 };
  return [
    ...Object.entries(services).flatMap(([service, port]) => [
      `--${service}Host`,
      '127.0.0.1',
      `--${service}Port`,
      String(port),
    ]),
    ...(options.dataFolder === undefined ? ['--inMemoryPersistence'] : ['--location', options.dataFolder]),
    '--silent',
    '--disableTelemetry',
    // The SDK may speak a newer version of the protocol than Azurite knows by name.
    '--skipApiVersionCheck',
  ];
}

/** Azurite reads settings of its own from the environment; a developer's must not change what Firn runs on. */
function childEnvironment(): NodeJS.ProcessEnv {
  const environment = { ...process.env };
  for (const name of Object.keys(environment)) {
    if (name.startsWith('AZURITE_') || name === 'NODE_OPTIONS') delete environment[name];
  }
  return environment;
}

/** Waits until both services say on which port they listen. */
async function listening(
  child: ChildProcess,
  exited: Promise<void>,
  wanted: { blob: number; queue: number },
  dataFolder: string | undefined,
): Promise<{ blob: number; queue: number }> {
  const found: { blob?: number; queue?: number } = {};
  const lines: string[] = [];
  const ready = Promise.withResolvers<{ blob: number; queue: number }>();
  const failed = (problem: string): void => ready.reject(new FirnError('FIRN_LOCAL_STACK_FAILED', { problem }));

  const timer = setTimeout(() => failed(`Azurite is not ready after ${START_MS_MAX / 1000} s`), START_MS_MAX);
  child.once('error', (error) => failed(error.message));
  const outputEnded: Promise<void>[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) continue;
    const reader = createInterface({ input: stream });
    outputEnded.push(new Promise((resolve) => reader.once('close', resolve)));
    reader.on('line', (line) => {
      lines.push(line);
      if (lines.length > LOG_LINES_KEPT) lines.shift();
      const service = /^Azurite (Blob|Queue) service is successfully listening at .*:(\d+)$/.exec(line);
      if (service?.[1] === 'Blob') found.blob = Number(service[2]);
      if (service?.[1] === 'Queue') found.queue = Number(service[2]);
      if (found.blob !== undefined && found.queue !== undefined)
        ready.resolve({ blob: found.blob, queue: found.queue });
    });
  }
  exited
    .then(() => Promise.all(outputEnded))
    .then(() => ready.reject(folderInUse(lines, dataFolder) ?? portInUse(lines, wanted) ?? endedEarly(lines)))
    .catch(ready.reject);
  try {
    return await ready.promise;
  } finally {
    clearTimeout(timer);
  }
}

function folderInUse(lines: readonly string[], dataFolder: string | undefined): FirnError | undefined {
  if (dataFolder === undefined || !lines.includes(FOLDER_IN_USE_LINE)) return undefined;
  return new FirnError('FIRN_LOCAL_FOLDER_IN_USE', { path: dataFolder, setting: FOLDER_SETTING });
}

function portInUse(lines: readonly string[], wanted: { blob: number; queue: number }): FirnError | undefined {
  const port = Number(/EADDRINUSE.*:(\d+)/.exec(lines.join('\n'))?.[1]);
  if (port === wanted.blob) {
    return new FirnError('FIRN_PORT_IN_USE', { port, what: 'blob storage', setting: azuritePortSettings.blob });
  }
  if (port === wanted.queue) {
    return new FirnError('FIRN_PORT_IN_USE', { port, what: 'queue storage', setting: azuritePortSettings.queue });
  }
  return undefined;
}

function endedEarly(lines: readonly string[]): FirnError {
  const last = lines.at(-1) ?? 'it said nothing';
  return new FirnError('FIRN_LOCAL_STACK_FAILED', { problem: `Azurite ended: ${last}` });
}

async function stopChild(child: ChildProcess, exited: Promise<void>): Promise<void> {
  if (child.connected) child.disconnect();
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX);
  await exited;
  clearTimeout(timer);
}
