/** How many blobs are read at the same moment. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { intercept } from '../chunks/intercept.ts';

export function watchReads(data: BlobStore): { store: BlobStore; atOnceMax(): number } {
  let reading = 0;
  let readingMax = 0;
  const store = intercept(data, {
    read: async (next, ...args) => {
      reading += 1;
      readingMax = Math.max(readingMax, reading);
      await nextTurn();
      return await next(...args).finally(() => {
        reading -= 1;
      });
    },
  });
  return { store, atOnceMax: () => readingMax };
}
