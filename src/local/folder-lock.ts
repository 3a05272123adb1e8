/**
 * Keeps a data folder to one process. The lock is the operating system's, taken by SQLite on an empty file: it goes with
 * the process, however that ends, so there is nothing to clean up after a crash and no process id to mistake.
 *
 * A second lock goes when the process begins to end. So another one is refused soon where a process stays, and waits where
 * it still saves.
 */
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/** The code of SQLite for «somebody else has it». */
const SQLITE_BUSY = 5;

/** What a process says that ends because it did not get the lock; its parent reads it. */
export const FOLDER_IN_USE_LINE = 'The data folder is in use.';

/** The locks of a process that stays, and of one that writes to the folder. */
export type FolderLock = 'lock-stays' | 'lock';

const held = new Map<FolderLock, DatabaseSync>();

/** Locks the folder for the rest of the process, or until it is unlocked. @returns false where another one has it for so long. */
export function lockFolder(folder: string, lock: FolderLock, waitMsMax: number): boolean {
  const database = new DatabaseSync(path.join(folder, lock), { timeout: waitMsMax });
  try {
    database.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if (error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY) return false;
    throw error;
  }
  held.set(lock, database);
  return true;
}

export function unlockFolder(lock: FolderLock): void {
  held.get(lock)?.close();
  held.delete(lock);
}
