/**
 * SIGINT, SIGTERM and SIGHUP as two requests: the first one asks to stop, a later one to stop at once.
 *
 * Ctrl-C in a terminal reaches a program that npm runs twice within moments, from the terminal and handed on by npm. So a
 * signal that follows the first within two seconds says nothing new, and never ends the process by itself.
 *
 * A signal to npm alone may end npm and its shell and never arrive here. Where `endsWithNpm` says so, a process that npm
 * started and that has lost its parent takes that for a request too. Others may well outlive their parent.
 */
const REPEATED_MS_MAX = 2_000;
const PARENT_LOOK_MS = 500;

export interface StopSignals {
  /** Aborts at the first signal. */
  readonly stop: AbortSignal;
  /** Aborts at one that follows later. */
  readonly stopAtOnce: AbortSignal;
}

export interface StopOptions {
  /** What the signals abort with; an `AbortError` where undefined. */
  readonly reason?: Error;
  readonly endsWithNpm?: boolean;
}

/** Takes these signals for the rest of the process. */
export function listenForStop({ reason, endsWithNpm = false }: StopOptions = {}): StopSignals {
  const stop = new AbortController();
  const stopAtOnce = new AbortController();
  let firstAt: number | undefined;
  const heard = (): void => {
    const now = performance.now();
    firstAt ??= now;
    stop.abort(reason);
    if (now - firstAt > REPEATED_MS_MAX) stopAtOnce.abort(reason);
  };
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, heard);
  if (endsWithNpm && process.env.npm_lifecycle_event !== undefined) whenOrphaned(heard);
  return { stop: stop.signal, stopAtOnce: stopAtOnce.signal };
}

function whenOrphaned(then: () => void): void {
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    then();
  }, PARENT_LOOK_MS);
  timer.unref();
}

/** Resolves when the signal aborts. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
