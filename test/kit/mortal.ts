/**
 * Processes that die at a chosen storage operation, or are told that it failed. All containers of one process share one `Life`; once it is over,
 * every further call of that process fails too, and has no effect.
 */
import { FirnError } from '../../src/errors.ts';
import type { Containers } from '../../src/repository.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';

/**
 * `before`: the operation has no effect. `after`: it took effect, and the caller never learned of it. `failing` and `failed`
 * are the same of a process that lives on: it is told that the storage failed.
 */
export type DeathMoment = 'before' | 'after' | 'failing' | 'failed';

export interface Death {
  /** Counted from 1. */
  readonly operation: number;
  readonly moment: DeathMoment;
}

export class ProcessDied extends Error {}

/** Calls that change nothing: dying after one is dying before the next. */
const reads = new Set(['read', 'readStream', 'properties', 'list', 'listFolders']);

export class Life {
  readonly #death: Death | undefined;
  #over = false;
  /** It came to the operation. */
  struck = false;
  /** Operations so far, as `create chunks/…`. */
  readonly operations: string[] = [];

  /** Without a death it only counts. */
  constructor(death?: Death) {
    this.#death = death;
  }

  get over(): boolean {
    return this.#over;
  }

  begin(call: string, name: string): number {
    this.#throwIfOver();
    this.operations.push(`${call} ${name}`);
    const operation = this.operations.length;
    this.#strike(operation, 'before', 'failing');
    return operation;
  }

  end(operation: number): void {
    this.#strike(operation, 'after', 'failed');
  }

  #strike(operation: number, dies: DeathMoment, fails: DeathMoment): void {
    const { moment } = operation === this.#death?.operation ? this.#death : {};
    if (moment === dies || moment === fails) this.struck = true;
    if (moment === dies) this.#over = true;
    if (moment === fails) throw new FirnError('FIRN_STORAGE_FAILED', { url: 'memory', problem: 'the service is ill' });
    this.#throwIfOver();
  }

  #throwIfOver(): void {
    if (this.#over) throw new ProcessDied(`the process is dead (operation ${this.#death?.operation})`);
  }
}

export function mortalStore(store: BlobStore, life: Life): BlobStore {
  return new Proxy(store, {
    get(target, key, receiver) {
      const method: unknown = Reflect.get(target, key, receiver);
      if (typeof method !== 'function') return method;
      if (key === 'list' || key === 'listFolders') {
        return async function* (options?: { prefix?: string }) {
          life.end(life.begin(key, options?.prefix ?? ''));
          yield* Reflect.apply(method, target, [options]) as AsyncIterable<unknown>;
        };
      }
      return async (...args: unknown[]) => {
        const operation = life.begin(String(key), String(args[0]));
        try {
          return (await Reflect.apply(method, target, args)) as unknown;
        } finally {
          // Also where the store refuses: nobody learns of that either.
          life.end(operation);
        }
      };
    },
  });
}

/** The store of a process that dies there. */
export function dyingStore(store: BlobStore, operation: number, moment: DeathMoment): BlobStore {
  return mortalStore(store, new Life({ operation, moment }));
}

export function mortalContainers(containers: Containers, life: Life): Containers {
  return { container: (name) => mortalStore(containers.container(name), life) };
}

/** Every way to die within a life that was lived to its end: before each operation, and after each that changes something. */
export function deathsOf(life: Life): Death[] {
  return momentsOf(life, ['before'], ['after']);
}

/** The same of storage that fails once, and a process that lives on. */
export function failuresOf(life: Life): Death[] {
  return momentsOf(life, ['failing'], ['failed']);
}

function momentsOf(life: Life, before: readonly DeathMoment[], after: readonly DeathMoment[]): Death[] {
  return life.operations.flatMap((operation, at) => {
    const [call = ''] = operation.split(' ', 1);
    const moments = reads.has(call) ? before : [...before, ...after];
    return moments.map((moment) => ({ operation: at + 1, moment }));
  });
}
