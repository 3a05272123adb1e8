/** Where bytes of the journal are kept that could not be understood, when the partition they were in is gone. */
import type { BlobStore, CallOptions } from '../storage/blob-store.ts';

export function setAsidePrefix(source: string): string {
  return `journal-set-aside/${source}/`;
}

/** How many blobs of a source were set aside. */
export async function countSetAside(state: BlobStore, source: string, options: CallOptions = {}): Promise<number> {
  let count = 0;
  for await (const _ of state.list({ ...options, prefix: setAsidePrefix(source) })) count += 1;
  return count;
}
