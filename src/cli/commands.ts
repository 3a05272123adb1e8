/** The commands, in the order in which the help shows them. */
import type { Command } from './command.ts';
import { archive } from './commands/archive.ts';
import { cat } from './commands/cat.ts';
import { diff } from './commands/diff.ts';
import { init } from './commands/init.ts';
import { journal } from './commands/journal.ts';
import { locks } from './commands/locks.ts';
import { ls } from './commands/ls.ts';
import { passphrase } from './commands/passphrase.ts';
import { publish } from './commands/publish.ts';
import { remove } from './commands/remove.ts';
import { repairIndex } from './commands/repair-index.ts';
import { restore } from './commands/restore.ts';
import { snapshots } from './commands/snapshots.ts';
import { stats } from './commands/stats.ts';
import { unlock } from './commands/unlock.ts';
import { upload } from './commands/upload.ts';
import { verify } from './commands/verify.ts';

export const commands: readonly Command[] = [
  init,
  archive,
  snapshots,
  ls,
  cat,
  restore,
  verify,
  diff,
  stats,
  upload,
  publish,
  remove,
  journal,
  repairIndex,
  locks,
  unlock,
  passphrase,
];
