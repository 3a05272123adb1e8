/** A filetree as a test sees it: two maps in memory, changed one change after another, and compared with the real one. */
import { type Change, comparePaths, type PutContent, type TreeEntry } from '../../src/filetree/entry.ts';
import type { FiletreeStore } from '../../src/filetree/filetree-store.ts';
import { walkTree } from '../../src/filetree/walk.ts';
import { plainKeys } from '../../src/sealing/keys.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';

interface Attributes {
  readonly mtime?: string | undefined;
  readonly mode?: number | undefined;
}

export class TreeModel {
  readonly folders = new Map<string, Attributes>();
  readonly files = new Map<string, PutContent>();

  clone(): TreeModel {
    const copy = new TreeModel();
    for (const [path, attributes] of this.folders) copy.folders.set(path, attributes);
    for (const [path, content] of this.files) copy.files.set(path, content);
    return copy;
  }

  apply(changes: readonly Change[]): void {
    const putFolders = new Set(
      changes.filter((each) => each.op === 'put' && each.entry.type === 'folder').map((each) => each.path),
    );
    for (const change of changes) {
      if (change.op === 'remove') {
        if (this.#remove(change.path)) this.#dropImplied(change.path, putFolders);
        continue;
      }
      for (const parent of parentsOf(change.path)) if (!this.folders.has(parent)) this.folders.set(parent, {});
      if (change.entry.type !== 'folder') this.files.set(change.path, change.entry);
      else this.folders.set(change.path, { mtime: change.entry.mtime, mode: change.entry.mode });
    }
  }

  #remove(path: string): boolean {
    let removed = false;
    for (const map of [this.folders, this.files]) {
      for (const each of [...map.keys()]) {
        if (each === path || each.startsWith(`${path}/`)) {
          map.delete(each);
          removed = true;
        }
      }
    }
    return removed;
  }

  #dropImplied(path: string, kept: ReadonlySet<string>): void {
    for (const parent of parentsOf(path).reverse()) {
      const attributes = this.folders.get(parent);
      const held = [...this.folders.keys(), ...this.files.keys()].some((each) => each.startsWith(`${parent}/`));
      const implied = attributes?.mtime === undefined && attributes?.mode === undefined;
      if (attributes === undefined || held || !implied || kept.has(parent)) return;
      this.folders.delete(parent);
    }
  }

  /** All that would make this tree from nothing. */
  changes(): Change[] {
    const folders = [...this.folders].map(([path, attributes]): [string, PutContent] => [
      path,
      { ...attributes, type: 'folder' },
    ]);
    return [...folders, ...this.files]
      .sort(([a], [b]) => comparePaths(a, b))
      .map(([path, entry]): Change => ({ path, op: 'put', entry }));
  }

  /** One line an entry, in the order of a walk. */
  lines(): string[] {
    return this.changes().map((change) => (change.op === 'put' ? lineOf(change.path, change.entry) : ''));
  }

  totals(): { files: number; folders: number; bytes: number } {
    let bytes = 0;
    for (const content of this.files.values()) if (content.type === 'file') bytes += content.bytes;
    return { files: this.files.size, folders: this.folders.size, bytes };
  }
}

function parentsOf(path: string): string[] {
  const names = path.split('/');
  return names.slice(1).map((_, at) => names.slice(0, at + 1).join('/'));
}

export function lineOf(path: string, entry: TreeEntry | PutContent): string {
  const attributes = `${entry.mtime ?? '-'} ${entry.mode ?? '-'}`;
  if (entry.type === 'folder') return `${path} folder ${attributes}`;
  if (entry.type === 'link') return `${path} link ${attributes} ${entry.target}`;
  return `${path} file ${attributes} ${entry.bytes} ${entry.content} ${JSON.stringify(entry.refs)}`;
}

export async function linesOf(store: FiletreeStore, root: string, path?: string): Promise<string[]> {
  const lines: string[] = [];
  for await (const walked of walkTree(store, root, { path })) lines.push(lineOf(walked.path, walked.entry));
  return lines;
}

export function fileOf(text: string, attributes: Attributes = {}): PutContent {
  const content = plainKeys.hash(Buffer.from(text));
  return { type: 'file', bytes: text.length, content, refs: { chunks: [content] }, ...attributes };
}

export function put(path: string, entry: PutContent): Change {
  return { path, op: 'put', entry };
}

export function remove(path: string): Change {
  return { path, op: 'remove' };
}

/** Counts what goes to storage. */
export function counting(store: BlobStore): { store: BlobStore; count: { reads: number; creates: number } } {
  const count = { reads: 0, creates: 0 };
  const counted: BlobStore = {
    ...store,
    read: (name, options) => {
      count.reads += 1;
      return store.read(name, options);
    },
    create: (name, body, options) => {
      count.creates += 1;
      return store.create(name, body, options);
    },
  };
  return { store: counted, count };
}
