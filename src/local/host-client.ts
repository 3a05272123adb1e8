/**
 * Runs the local functions host in a child process, for `npm start`, the demo and the tests: starts it, waits until it
 * is ready, stops it gracefully or kills it. The child never outlives this process.
 *
 * It runs in a process group of its own, so that Ctrl-C in a terminal reaches only this process, which stops it.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type ErrorCode, errorCodes, FirnError } from '../errors.ts';
import type { HostOptions } from './host.ts';
import type { FromHost, ToHost } from './host-process.ts';
import type { HostLogEntry } from './log.ts';

const START_MS_MAX = 60_000;

export interface SpawnHostOptions extends Omit<HostOptions, 'log' | 'abortSignal'> {
  /** The environment of the process, below its settings; that of this one where undefined. */
  readonly environment?: NodeJS.ProcessEnv | undefined;
  /** Every entry as a line: level, function, message; and what the app prints. */
  readonly onLog?: ((line: string) => void) | undefined;
  /** Every entry as it is. */
  readonly onLogEntry?: ((entry: HostLogEntry) => void) | undefined;
}

export interface FunctionsHostProcess {
  readonly url: string;
  readonly functions: readonly string[];
  readonly pid: number;
  /** Resolves when the process has ended, for whatever reason. */
  readonly exited: Promise<void>;
  /** As `FunctionsHost.idle`; false when the process is gone. */
  idle(): Promise<boolean>;
  /** Lets running invocations end and ends the process. May be called again. */
  stop(): Promise<void>;
  /** Ends the process at once, as a crash would (SIGKILL). */
  kill(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Fails as `startFunctionsHost` does; then nothing is left running. */
export async function spawnFunctionsHost(options: SpawnHostOptions): Promise<FunctionsHostProcess> {
  const { onLog, onLogEntry, environment = process.env, ...hostOptions } = options;
  const child = fork(fileURLToPath(new URL('./host-process.ts', import.meta.url)), [], {
    cwd: options.appRoot,
    env: environment,
    detached: true,
    execArgv: [],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  let lastLine = '';
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) continue;
    createInterface({ input: stream }).on('line', (line) => {
      lastLine = line;
      onLog?.(line);
    });
  }
  child.on('message', (message: FromHost) => {
    if (message.type !== 'log') return;
    onLogEntry?.(message.entry);
    onLog?.(logLine(message.entry));
  });

  const send = (message: ToHost): void => {
    if (child.connected) child.send(message);
  };
  send({ type: 'start', options: hostOptions });
  let ready: { url: string; functions: readonly string[] };
  try {
    ready = await readiness(child, exited, () => lastLine);
  } catch (error) {
    child.kill('SIGKILL');
    await exited;
    throw error;
  }

  const stop = async (): Promise<void> => {
    send({ type: 'stop' });
    await exited;
  };
  return {
    ...ready,
    pid: child.pid ?? -1,
    exited,
    async idle() {
      const answer = Promise.withResolvers<boolean>();
      const listen = (message: FromHost): void => {
        if (message.type === 'idle') answer.resolve(message.idle);
      };
      child.on('message', listen);
      send({ type: 'idle' });
      try {
        return await Promise.race([answer.promise, exited.then(() => false)]);
      } finally {
        child.off('message', listen);
      }
    },
    stop,
    async kill() {
      child.kill('SIGKILL');
      await exited;
    },
    [Symbol.asyncDispose]: stop,
  };
}

async function readiness(
  child: ChildProcess,
  exited: Promise<void>,
  lastLine: () => string,
): Promise<{ url: string; functions: readonly string[] }> {
  const ready = Promise.withResolvers<{ url: string; functions: readonly string[] }>();
  const failed = (problem: string): void => ready.reject(new FirnError('FIRN_LOCAL_STACK_FAILED', { problem }));
  const timer = setTimeout(
    () => failed(`the functions host is not ready after ${START_MS_MAX / 1000} s`),
    START_MS_MAX,
  );
  const listen = (message: FromHost): void => {
    if (message.type === 'ready') ready.resolve({ url: message.url, functions: message.functions });
    if (message.type === 'failed') {
      const { code, details, message: problem } = message;
      if (code !== undefined && code in errorCodes) ready.reject(new FirnError(code as ErrorCode, details));
      else failed(problem);
    }
  };
  child.on('message', listen);
  child.once('error', (error) => failed(error.message));
  exited.then(() => failed(`the functions host ended: ${lastLine() || 'it said nothing'}`));
  try {
    return await ready.promise;
  } finally {
    clearTimeout(timer);
    child.off('message', listen);
  }
}

/** For people: `warning archiveBatch: …`. */
export function logLine({ level, functionName, message }: HostLogEntry): string {
  return `${level} ${functionName === undefined ? 'host' : functionName}: ${message}`;
}
