/** What the journal's tests share: records, a clock, and all that a journal holds. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Journal } from '../../src/journal/journal.ts';
import type { JournalRecord } from '../../src/journal/record.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';

export const settings = { recordsMax: 1000, uploadBytesMax: 1_000_000, ageSecondsMax: 60 };

export function upload(path: string | number, bytes = 1): JournalRecord {
  return { kind: 'upload', path: String(path), etag: '"1"', bytes };
}

export interface Clock {
  ms: number;
  readonly now: () => Date;
}

export function createClock(): Clock {
  const clock = { ms: Date.parse('2024-01-01T00:00:00Z'), now: () => new Date(clock.ms) };
  return clock;
}

export function createState(clock: Clock): BlobStore {
  return createMemoryBlobStore({ now: () => clock.ms });
}

/** The number at the beginning of a batch's name. */
export function numberOf(batch: string): number {
  const digits = /^(\d{10})-[0-9a-f]{8}$/.exec(batch)?.[1];
  if (digits === undefined) throw new Error(`${batch} is no name of a batch`);
  return Number(digits);
}

export async function pathsOf(journal: Journal, batch: string): Promise<string[]> {
  return await Array.fromAsync(journal.read(batch), ({ path }) => path);
}

/** The paths in all batches, in the order of the batches, after whatever was open became one. */
export async function allPaths(journal: Journal): Promise<string[]> {
  await journal.sealDue({ force: true });
  const paths: string[] = [];
  for (const { batch } of await journal.batches()) paths.push(...(await pathsOf(journal, batch)));
  return paths;
}

export async function partitionBlobs(state: BlobStore, source: string): Promise<string[]> {
  const names = await Array.fromAsync(state.list({ prefix: `journal/${source}/` }), ({ name }) => name);
  return names.filter((name) => !name.endsWith('/manifest') && !name.endsWith('.filter'));
}

/**
 * Calls `before` ahead of every call of the port and `after` behind it; what they throw, the caller gets. What `instead`
 * gives is the answer in the place of the store's, unless it is undefined.
 */
export function intercepted(
  store: BlobStore,
  hooks: {
    before?: (call: string, name: string) => void;
    instead?: (call: string, name: string, args: readonly unknown[]) => Promise<unknown>;
    after?: (call: string, name: string) => void;
  },
): BlobStore {
  return new Proxy(store, {
    get(target, key, receiver) {
      const method: unknown = Reflect.get(target, key, receiver);
      if (typeof method !== 'function' || key === 'list' || key === 'listFolders') return method;
      return async (...args: unknown[]) => {
        hooks.before?.(String(key), String(args[0]));
        const other = await hooks.instead?.(String(key), String(args[0]), args);
        const result: unknown = other ?? (await Reflect.apply(method, target, args));
        hooks.after?.(String(key), String(args[0]));
        return result;
      };
    },
  });
}

let gc: (() => void) | undefined;

/** Collects all garbage now, so that a test can see what is held. */
export function collectGarbage(): void {
  if (gc === undefined) {
    setFlagsFromString('--expose-gc');
    gc = runInNewContext('gc') as () => void;
  }
  gc();
}
