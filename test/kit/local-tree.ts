/** Folders on the local disk for tests: made from a description, and read back as one. */
import { type BigIntStats, constants } from 'node:fs';
import {
  chmod,
  lstat,
  lutimes,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { pageLimits } from '../../src/filetree/paging.ts';

/** A folder that is removed when the test ends. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'firn-test-'));
  onTestFinished(() => removeFolder(folder));
  return folder;
}

export async function removeFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true });
}

/** A folder with this in it, that is removed when the test ends. */
export async function temporaryFolderOf(tree: LocalTree): Promise<string> {
  const folder = await temporaryFolder();
  await makeTree(folder, tree);
  return folder;
}

interface NodeAttributes {
  readonly mode?: number | undefined;
  /** Seconds since 1970. */
  readonly mtime?: number | undefined;
}

export type LocalNode =
  | (NodeAttributes & { readonly type: 'file'; readonly content: string | Buffer })
  | (NodeAttributes & { readonly type: 'folder'; readonly entries: LocalTree })
  | { readonly type: 'link'; readonly target: string; readonly mtime?: number | undefined };

export interface LocalTree {
  readonly [name: string]: LocalNode | string;
}

/** Links that make the folder they are in so large that it has a filetree node of its own. */
export function manyBytesOfLinks(): LocalTree {
  const targetBytes = 4000;
  const links = Array.from({ length: Math.ceil(pageLimits.min / targetBytes) }, (_, at): [string, LocalNode] => [
    `link ${at}`,
    { type: 'link', target: 'x'.repeat(targetBytes) },
  ]);
  return Object.fromEntries(links);
}

/** Makes what the tree describes inside a folder that exists; a text is a file. */
export async function makeTree(folder: string, tree: LocalTree): Promise<void> {
  for (const [name, node] of Object.entries(tree)) {
    const local = path.join(folder, name);
    if (typeof node === 'string') await writeFile(local, node);
    else if (node.type === 'file') {
      await writeFile(local, node.content);
      await setAttributes(local, node);
    } else if (node.type === 'link') {
      await symlink(node.target, local);
      if (node.mtime !== undefined) await lutimes(local, String(node.mtime), String(node.mtime));
    } else {
      await mkdir(local);
      await makeTree(local, node.entries);
      await setAttributes(local, node);
    }
  }
}

async function setAttributes(local: string, { mode, mtime }: NodeAttributes): Promise<void> {
  if (mode !== undefined) await chmod(local, mode);
  if (mtime !== undefined) await utimes(local, String(mtime), String(mtime));
}

/** Path, `__proto__` too, → all that a restore is to bring back: type, mode, time in nanoseconds, content or target. */
export async function describeTree(folder: string): Promise<Record<string, string>> {
  const found: Record<string, string> = Object.create(null);
  const visit = async (at: string): Promise<void> => {
    for (const name of (await readdir(path.join(folder, at))).sort()) {
      const entry = at === '' ? name : `${at}/${name}`;
      const local = path.join(folder, entry);
      const stats = await lstat(local, { bigint: true });
      found[entry] = `${await contentOf(local, stats)} mtime ${stats.mtimeNs}`;
      if (stats.isDirectory()) await visit(entry);
    }
  };
  await visit('');
  return found;
}

async function contentOf(local: string, stats: BigIntStats): Promise<string> {
  const mode = (Number(stats.mode) & 0o7777).toString(8);
  if (stats.isSymbolicLink()) return `link to ${await readlink(local)}`;
  if (stats.isDirectory()) return `folder ${mode}`;
  const handle = await open(local, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    return `file ${mode} ${(await handle.readFile()).toString('base64')}`;
  } finally {
    await handle.close();
  }
}

/** Path → content of the regular files, for tests that look at nothing else. */
export async function filesIn(folder: string): Promise<Record<string, string>> {
  const found: Record<string, string> = Object.create(null);
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const local = path.join(entry.parentPath, entry.name);
    if (entry.isFile()) found[path.relative(folder, local)] = (await readFile(local)).toString();
  }
  return found;
}
