/** A store that counts what it is asked for, as a storage service would bill it. */
import type { BlobContent, BlobItem, BlobStore, BlobStream } from '../../src/storage/blob-store.ts';

/** Items that the service gives in one page of a listing. */
export const LIST_PAGE_ITEMS = 5_000;

/** Requests by the kinds that they are billed as, and the bytes of bodies. */
export interface Traffic {
  /** Pages of listings. */
  lists: number;
  /** Bodies read. */
  reads: number;
  /** Blobs written, whether it took effect or not. */
  writes: number;
  deletes: number;
  /** Properties and leases. */
  others: number;
  bytesRead: number;
  bytesWritten: number;
}

export function noTraffic(): Traffic {
  return { lists: 0, reads: 0, writes: 0, deletes: 0, others: 0, bytesRead: 0, bytesWritten: 0 };
}

export function sumOfTraffic(all: Iterable<Traffic>): Traffic {
  const total = noTraffic();
  for (const each of all) {
    for (const key of Object.keys(total) as (keyof Traffic)[]) total[key] += each[key];
  }
  return total;
}

export interface CountedStore {
  readonly store: BlobStore;
  /** What was asked since it was last taken. */
  takeTraffic(): Traffic;
}

const writing = new Set<PropertyKey>(['create', 'replace', 'append', 'createAppend', 'writeLeased', 'seal']);

/** Counts every call but those that write streams, which it refuses. */
export function createCountedStore(inner: BlobStore): CountedStore {
  let traffic = noTraffic();
  const store = new Proxy(inner, {
    get(target, key, receiver) {
      const method: unknown = Reflect.get(target, key, receiver);
      if (typeof method !== 'function') return method;
      if (key === 'list' || key === 'listFolders') {
        return async function* (options: object) {
          traffic.lists += 1;
          let items = 0;
          const listing: AsyncIterable<BlobItem | string> = Reflect.apply(method, target, [options]);
          for await (const item of listing) {
            if (items > 0 && items % LIST_PAGE_ITEMS === 0) traffic.lists += 1;
            items += 1;
            yield item;
          }
        };
      }
      return async (...args: unknown[]) => {
        if (/FromStream$/.test(String(key))) throw new Error(`${String(key)} is not counted`);
        if (key === 'read' || key === 'readStream') traffic.reads += 1;
        else if (key === 'delete') traffic.deletes += 1;
        else if (writing.has(key)) {
          traffic.writes += 1;
          if (args[1] instanceof Uint8Array) traffic.bytesWritten += args[1].length;
        } else traffic.others += 1;
        const result: unknown = await Reflect.apply(method, target, args);
        if (key === 'read') traffic.bytesRead += (result as BlobContent).body.length;
        if (key !== 'readStream') return result;
        const { body, properties } = result as BlobStream;
        async function* counted(): AsyncGenerator<Buffer> {
          for await (const piece of body) {
            traffic.bytesRead += piece.length;
            yield piece;
          }
        }
        return { body: counted(), properties } satisfies BlobStream;
      };
    },
  });
  return {
    store,
    takeTraffic() {
      const taken = traffic;
      traffic = noTraffic();
      return taken;
    },
  };
}
