/**
 * Binds the command line to the process: its arguments, environment, streams and signals. The first SIGINT or SIGTERM
 * asks the work to stop; one that follows more than half a second later ends the process at once (a terminal and the
 * launcher may both deliver the first).
 */
import { run } from './main.ts';

const REPEATED_SIGNAL_MS_MAX = 500;

export async function runProcess(): Promise<void> {
  const cancelled = new AbortController();
  let askedAt: number | undefined;
  const stop = (): void => {
    const now = performance.now();
    askedAt ??= now;
    if (cancelled.signal.aborted && now - askedAt > REPEATED_SIGNAL_MS_MAX) process.exit(130);
    cancelled.abort();
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, stop);
  const { stdin, stdout, stderr } = process;
  const code = await run(process.argv.slice(2), {
    env: process.env,
    cwd: process.cwd(),
    stdout,
    stderr,
    stdin,
    signal: cancelled.signal,
  });
  await Promise.all([drained(stdout), drained(stderr)]);
  // Connections that are kept alive would hold the process for a while.
  process.exit(code);
}

async function drained(stream: NodeJS.WriteStream): Promise<void> {
  if (stream.destroyed || stream.errored) return;
  await new Promise<void>((resolve) => stream.write('', () => resolve()));
}
