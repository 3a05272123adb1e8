/** Damage to what is stored, as a failing disk or an attacker would do it. */
import type { BlobStore } from '../../src/storage/blob-store.ts';

/** Changes one bit in the middle of a blob. */
export async function damage(store: BlobStore, name: string): Promise<void> {
  const { body, properties } = await store.read(name);
  const at = body.length >> 1;
  body[at] = (body[at] ?? 0) ^ 1;
  await store.replace(name, body, { ifMatch: properties.etag, metadata: properties.metadata });
}
