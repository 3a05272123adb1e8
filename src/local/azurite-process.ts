/**
 * The child process in which Azurite runs: Azurite's own program, plus the end of it when the parent is gone.
 *
 * The channel to the parent closes when the parent stops it, ends or is killed. Azurite then gets the signal at which
 * it closes its services and saves; should that hang, the process ends anyway.
 */
import { createRequire } from 'node:module';

const SHUTDOWN_MS_MAX = 10_000;

process.once('disconnect', () => {
  const handled = process.emit('SIGTERM');
  if (!handled) process.exit(0);
  setTimeout(() => process.exit(1), SHUTDOWN_MS_MAX).unref();
});
if (!process.connected) process.exit(0);

// The parent no longer reads when it is gone; what Azurite then says about its end must not end it early.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);

createRequire(import.meta.url)('azurite/dist/src/azurite.js');
