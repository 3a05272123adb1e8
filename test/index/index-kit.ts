/** What the tests of the chunk index share: sessions with small shards, and stores that fail or count. */
import type { ChunkLocation } from '../../src/chunks/location.ts';
import { FirnError } from '../../src/errors.ts';
import { ChunkIndex } from '../../src/index/chunk-index.ts';
import { keysFromMaster } from '../../src/sealing/keys.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import { type BlobStore, BlobStoreError } from '../../src/storage/blob-store.ts';
import { hashOf, locationOf } from '../kit/arbitraries.ts';

export const keys = keysFromMaster(Buffer.alloc(32, 7));

/** A session as a fresh process has it. */
export function open(store: BlobStore, shardEntriesMax = 8): ChunkIndex {
  return new ChunkIndex(new SealedBlobs(store, keys), { cacheBytesMax: 1024 * 1024, shardEntriesMax });
}

/** Locations whose hashes begin with these digits. */
export function locationsIn(prefix: string, count: number, name = ''): ChunkLocation[] {
  return Array.from({ length: count }, (_, n) => locationOf(prefix + hashOf(`${name} ${n}`).slice(prefix.length)));
}

export async function flushed(index: ChunkIndex, locations: readonly ChunkLocation[]): Promise<ChunkIndex> {
  index.record(locations);
  await index.flush();
  return index;
}

export async function shardNames(store: BlobStore): Promise<string[]> {
  return await Array.fromAsync(store.list({ prefix: 'chunk-index/' }), ({ name }) => name.slice('chunk-index/'.length));
}

/** Those of the locations that a fresh session does not find, in the shards. */
export async function missingFrom(index: ChunkIndex, locations: readonly ChunkLocation[]): Promise<string[]> {
  const found = await index.lookup(locations.map(({ hash }) => hash));
  return locations.map(({ hash }) => hash).filter((hash) => found.get(hash)?.pending !== false);
}

export interface Hooks {
  before?: (call: string, name: string) => Promise<void> | void;
  /** May give another answer than the call gave. */
  after?: (call: string, name: string) => Promise<void> | { answer: unknown } | undefined | void;
  /** Instead of `after` where the store refused the call. */
  refused?: (call: string, name: string) => Promise<void> | void;
}

/** Calls the hooks around every call of the port; a listing is one call, read to its end. */
export function hooked(store: BlobStore, hooks: Hooks): BlobStore {
  return new Proxy(store, {
    get(target, key, receiver) {
      const method: unknown = Reflect.get(target, key, receiver);
      if (typeof method !== 'function') return method;
      if (key === 'list') {
        return async function* (options: { prefix: string }) {
          await hooks.before?.('list', options.prefix);
          const items = await Array.fromAsync(target.list(options));
          await hooks.after?.('list', options.prefix);
          yield* items;
        };
      }
      return async (...args: unknown[]) => {
        await hooks.before?.(String(key), String(args[0]));
        let result: unknown;
        try {
          result = await Reflect.apply(method, target, args);
        } catch (error) {
          await hooks.refused?.(String(key), String(args[0]));
          throw error;
        }
        const instead = await hooks.after?.(String(key), String(args[0]));
        return instead === undefined ? result : instead.answer;
      };
    },
  });
}

export interface Interruption {
  /** The call that it happens to; the first is 1. 0: to none, the calls are counted. */
  readonly at: number;
  /**
   * The call fails before it has its effect, or after; or its effect is there and its answer is lost, so that the adapter's
   * own second try is answered as the service answers that.
   */
  readonly how: 'failure before' | 'failure after' | 'lost answer';
  /** Calls so far, over all stores that share this. */
  calls: number;
}

/** The store of a process that meets one failure and lives; one that dies is in `../kit/mortal.ts`. */
export function interrupted(store: BlobStore, interruption: Interruption): BlobStore {
  const { at, how } = interruption;
  const fail = (): never => {
    throw new FirnError('FIRN_STORAGE_FAILED', { url: store.url, problem: 'the service is ill' });
  };
  const numbers = new Map<string, number>();
  const isIt = (call: string, name: string) => numbers.get(`${call} ${name}`) === at;
  return hooked(store, {
    before(call, name) {
      interruption.calls += 1;
      const number = interruption.calls;
      numbers.set(`${call} ${name}`, number);
      if (number === at && how.endsWith('before')) fail();
    },
    after(call, name) {
      if (!isIt(call, name)) return undefined;
      if (how.endsWith('after')) fail();
      if (how !== 'lost answer') return undefined;
      if (call === 'create') throw new BlobStoreError('exists', name);
      if (call === 'replace') throw new BlobStoreError('changed', name);
      return call === 'delete' ? { answer: false } : undefined;
    },
    refused(call, name) {
      if (isIt(call, name) && how.endsWith('after')) fail();
    },
  });
}

/** Names what is called, as `read chunk-index/a`. */
export function watched(store: BlobStore): { store: BlobStore; calls: string[] } {
  const calls: string[] = [];
  return { calls, store: hooked(store, { before: (call, name) => void calls.push(`${call} ${name}`) }) };
}
