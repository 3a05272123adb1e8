/**
 * The child process in which the functions host runs. The parent sends the options as the first message; the process
 * answers `{ready}` or `{failed}`, sends log lines, and stops gracefully at `{stop}`, SIGTERM or SIGINT. When the channel
 * to the parent closes, the parent is gone (however it ended), and the host stops too.
 */
import { isFirnError, problemOf } from '../errors.ts';
import { type FunctionsHost, type HostOptions, startFunctionsHost } from './host.ts';
import type { HostLogEntry } from './log.ts';

export type ToHost =
  | { readonly type: 'start'; readonly options: Omit<HostOptions, 'log' | 'abortSignal'> }
  | { readonly type: 'stop' }
  | { readonly type: 'idle' };

export type FromHost =
  | { readonly type: 'ready'; readonly url: string; readonly functions: readonly string[] }
  | {
      readonly type: 'failed';
      readonly message: string;
      readonly code?: string;
      readonly details?: Readonly<Record<string, string | number>>;
    }
  | { readonly type: 'log'; readonly entry: HostLogEntry }
  | { readonly type: 'idle'; readonly idle: boolean }
  | { readonly type: 'ended' };

/** After the host has had its time to drain, and then some. */
const EXIT_MS_AFTER_DRAIN = 10_000;

let host: Promise<FunctionsHost> | undefined;
let drainMsMax = 30_000;

function tell(message: FromHost): void {
  if (process.connected) process.send?.(message);
}

function end(code: number): void {
  // Messages on their way to the parent are sent before the process ends.
  if (process.connected) process.send?.({ type: 'ended' } satisfies FromHost, () => process.exit(code));
  else process.exit(code);
}

let stopping = false;
function stop(): void {
  if (stopping) return;
  stopping = true;
  // What hangs on past the drain must not keep the process.
  setTimeout(() => process.exit(1), drainMsMax + EXIT_MS_AFTER_DRAIN).unref();
  Promise.resolve(host)
    .then((started) => started?.stop())
    .then(() => end(0))
    .catch(() => end(1));
}

function start(options: Omit<HostOptions, 'log' | 'abortSignal'>): void {
  drainMsMax = options.drainMsMax ?? drainMsMax;
  host = startFunctionsHost({ ...options, log: (entry) => tell({ type: 'log', entry }) });
  host
    .then(({ url, functions }) => tell({ type: 'ready', url, functions }))
    .catch((error: unknown) => {
      tell({
        type: 'failed',
        message: problemOf(error),
        ...(isFirnError(error) ? { code: error.code, details: error.details } : {}),
      });
      end(1);
    });
}

process.on('message', (message: ToHost) => {
  if (message.type === 'start') start(message.options);
  else if (message.type === 'stop') stop();
  else void Promise.resolve(host).then((started) => tell({ type: 'idle', idle: started?.idle() ?? false }));
});
process.on('SIGTERM', stop);
process.on('SIGINT', stop);
process.once('disconnect', stop);
if (!process.connected) process.exit(1);

// A handler that breaks outside its promise must not take the others with it; the real worker logs it as well.
process.on('unhandledRejection', (reason) => {
  const message = `A promise was rejected and nobody looked: ${problemOf(reason)}`;
  tell({ type: 'log', entry: { time: new Date().toISOString(), level: 'error', category: 'host', message } });
});
// The parent no longer reads when it is gone; what the app then prints must not end the drain.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
