/** Creates a blob of which the writer knows that nobody else writes the same bytes: they are its signature. */
import { type BlobStore, type CallOptions, isBlobFailure } from './blob-store.ts';

/**
 * @returns false where a blob of that name with other bytes is there. One with these bytes is this write: its first answer
 * was lost, and the repeated request met its own work.
 */
export async function createOwn(store: BlobStore, name: string, body: Buffer, options?: CallOptions): Promise<boolean> {
  try {
    await store.create(name, body, options);
    return true;
  } catch (error) {
    if (!isBlobFailure(error, 'exists')) throw error;
    return (await store.read(name, options)).body.equals(body);
  }
}
