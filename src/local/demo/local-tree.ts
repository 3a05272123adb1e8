/** What lies in a folder of the user, for the demo, which must get along with any. */
import { readdir } from 'node:fs/promises';
import path from 'node:path';

export interface LocalEntry {
  /** Relative to the folder, with slashes. */
  readonly name: string;
  readonly isFile: boolean;
}

/** Everything below a folder, in order of name, but for the paths in `without` and what is below them. */
export async function listTree(folder: string, without: ReadonlySet<string> = new Set()): Promise<LocalEntry[]> {
  const found: LocalEntry[] = [];
  const visit = async (at: string): Promise<void> => {
    const entries = await readdir(path.join(folder, at), { withFileTypes: true });
    for (const entry of entries) {
      const name = at === '' ? entry.name : `${at}/${entry.name}`;
      if (without.has(name)) continue;
      found.push({ name, isFile: entry.isFile() });
      if (entry.isDirectory()) await visit(name);
    }
  };
  await visit('');
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}
