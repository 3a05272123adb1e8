/** Damage to what is stored, as a failing disk or an attacker would do it. */
import { type FiletreeStore, filetreeBlob } from '../../src/filetree/filetree-store.ts';
import { findEntry } from '../../src/filetree/walk.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';

/** The root node of a folder that is too large to lie in its entry (see `manyBytesOfLinks`). */
export async function folderBlob(
  { filetrees }: { readonly filetrees: FiletreeStore },
  { root }: { readonly root: string },
  path: string,
): Promise<string> {
  const { folder } = await findEntry(filetrees, root, path);
  if (typeof folder?.tree !== 'string') throw new Error(`${path} is no folder with a node of its own`);
  return filetreeBlob(folder.tree);
}

/** Changes one bit in the middle of a blob. */
export async function damage(store: BlobStore, name: string): Promise<void> {
  const { body, properties } = await store.read(name);
  const at = body.length >> 1;
  body[at] = (body[at] ?? 0) ^ 1;
  await store.replace(name, body, { ifMatch: properties.etag, metadata: properties.metadata });
}
