/**
 * The child process in which Azurite runs: Azurite's own program, plus a lock on its data folder, and the end of it when
 * the parent is gone.
 *
 * The channel to the parent closes when the parent stops it, ends or is killed. Azurite then gets the signal at which
 * it closes its services and saves; should that hang, the process ends anyway.
 * The lock is held here and not by the parent, because this process may write to the folder when the parent has died.
 */
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';
import { FOLDER_IN_USE_LINE, lockFolder, unlockFolder } from './folder-lock.ts';

const SHUTDOWN_MS_MAX = 10_000;
/** An earlier one that was not stopped in order needs a moment to learn that its parent is gone. */
const STAYS_WAIT_MS_MAX = 4_000;
/** And then it saves and ends. */
const LOCK_WAIT_MS_MAX = SHUTDOWN_MS_MAX + 5_000;

process.once('disconnect', () => {
  unlockFolder('lock-stays');
  const handled = process.emit('SIGTERM');
  if (!handled) process.exit(0);
  setTimeout(() => process.exit(1), SHUTDOWN_MS_MAX).unref();
});
if (!process.connected) process.exit(0);

// The parent no longer reads when it is gone; what Azurite then says about its end must not end it early.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);

const { location } = parseArgs({ options: { location: { type: 'string' } }, strict: false }).values;
const isFree = (folder: string): boolean =>
  lockFolder(folder, 'lock-stays', STAYS_WAIT_MS_MAX) && lockFolder(folder, 'lock', LOCK_WAIT_MS_MAX);
if (typeof location === 'string' && !isFree(location)) {
  process.stderr.write(`${FOLDER_IN_USE_LINE}\n`, () => process.exit(1));
} else {
  createRequire(import.meta.url)('azurite/dist/src/azurite.js');
}
