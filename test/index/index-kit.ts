/** What the tests of the chunk index share: sessions with small shards, and stores that die or count. */
import type { ChunkLocation } from '../../src/chunks/location.ts';
import { ChunkIndex } from '../../src/index/chunk-index.ts';
import { keysFromMaster } from '../../src/sealing/keys.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
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
  after?: (call: string, name: string) => Promise<void> | void;
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
        const result: unknown = await Reflect.apply(method, target, args);
        await hooks.after?.(String(key), String(args[0]));
        return result;
      };
    },
  });
}

/** The store of a process that dies at its n-th call: before the call has an effect, or after. */
export function mortal(store: BlobStore, at: number, when: 'before' | 'after'): BlobStore {
  let calls = 0;
  const die = () => {
    throw new Error('the process is dead');
  };
  return hooked(store, {
    before: () => {
      calls += 1;
      if (calls > at || (calls === at && when === 'before')) die();
    },
    after: () => {
      if (calls >= at) die();
    },
  });
}

/** Names what is called, as `read chunk-index/aa`. */
export function watched(store: BlobStore): { store: BlobStore; calls: string[] } {
  const calls: string[] = [];
  return { calls, store: hooked(store, { before: (call, name) => void calls.push(`${call} ${name}`) }) };
}
