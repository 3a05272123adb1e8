/**
 * Binds the command line to the process: its arguments, environment, streams and signals. The first signal asks the work
 * to stop; one that follows later (`stop-signals.ts`) ends the process at once.
 */
import { exitCodes } from './command.ts';
import { run } from './main.ts';
import { listenForStop } from './stop-signals.ts';

export async function runProcess(): Promise<void> {
  const { stop, stopAtOnce } = listenForStop();
  stopAtOnce.addEventListener('abort', () => process.exit(exitCodes.cancelled));
  const { stdin, stdout, stderr } = process;
  const code = await run(process.argv.slice(2), {
    env: process.env,
    cwd: process.cwd(),
    stdout,
    stderr,
    stdin,
    signal: stop,
  });
  await Promise.all([drained(stdout), drained(stderr)]);
  // Connections that are kept alive would hold the process for a while.
  process.exit(code);
}

async function drained(stream: NodeJS.WriteStream): Promise<void> {
  if (stream.destroyed || stream.errored) return;
  await new Promise<void>((resolve) => stream.write('', () => resolve()));
}
