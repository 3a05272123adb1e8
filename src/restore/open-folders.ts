/**
 * Folders that are being filled. A folder gets its mode and time when all that goes into it is there: whatever is written
 * into it would change its time, and without rights it would close the way. Held in memory are those that are not
 * finished: the folders on the way to what is being written.
 */
import type { FolderEntry } from '../filetree/entry.ts';

interface OpenFolder {
  readonly entry: FolderEntry;
  /** What is still to come: files and links under way, folders that are open, and one until it is closed. */
  pending: number;
}

export class OpenFolders {
  readonly #finish: (path: string, entry: FolderEntry) => Promise<void>;
  readonly #folders = new Map<string, OpenFolder>();

  constructor(finish: (path: string, entry: FolderEntry) => Promise<void>) {
    this.#finish = finish;
  }

  /** A folder was made; the one that it is in stays open as long. */
  open(path: string, entry: FolderEntry): void {
    this.expect(path);
    this.#folders.set(path, { entry, pending: 1 });
  }

  /** Something is to be written at this path. */
  expect(path: string): void {
    const folder = this.#folders.get(folderOf(path));
    if (folder !== undefined) folder.pending += 1;
  }

  /** It is there, or failed. */
  async arrived(path: string): Promise<void> {
    await this.#less(folderOf(path));
  }

  /** Nothing more is going to be expected in the folder; of one that is not open there is nothing to say. */
  async close(path: string): Promise<void> {
    await this.#less(path);
  }

  async #less(path: string): Promise<void> {
    const folder = this.#folders.get(path);
    if (folder === undefined) return;
    folder.pending -= 1;
    if (folder.pending > 0) return;
    this.#folders.delete(path);
    await this.#finish(path, folder.entry);
    await this.arrived(path);
  }
}

/** Empty for what is at the top. */
function folderOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}
