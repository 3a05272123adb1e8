/**
 * Keeps a data folder to one process. The lock is the operating system's, taken by SQLite on an empty file: it goes with
 * the process, however that ends, so there is nothing to clean up after a crash and no process id to mistake.
 */
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/** The code of SQLite for «somebody else has it». */
const SQLITE_BUSY = 5;

/** What a process says that ends because it did not get the lock; its parent reads it. */
export const FOLDER_IN_USE_LINE = 'The data folder is in use.';

const held: DatabaseSync[] = [];

/** Locks the folder for the rest of the process, waiting for another one to end. @returns false where it does not. */
export function lockFolder(folder: string, waitMsMax: number): boolean {
  const database = new DatabaseSync(path.join(folder, 'lock'), { timeout: waitMsMax });
  try {
    database.exec('BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if (error instanceof Error && 'errcode' in error && error.errcode === SQLITE_BUSY) return false;
    throw error;
  }
  held.push(database);
  return true;
}
