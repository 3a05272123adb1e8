/**
 * Processes that die at a chosen storage operation. All containers of one process share one `Life`; once it is over,
 * every further call of that process fails too, and has no effect.
 */
import type { Containers } from '../../src/repository.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';

/** `before`: the operation has no effect. `after`: it took effect, and the caller never learned of it. */
export type DeathMoment = 'before' | 'after';

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
    if (operation === this.#death?.operation && this.#death.moment === 'before') this.#over = true;
    this.#throwIfOver();
    return operation;
  }

  end(operation: number): void {
    if (operation === this.#death?.operation) this.#over = true;
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
  return life.operations.flatMap((operation, at) => {
    const [call = ''] = operation.split(' ', 1);
    const moments: DeathMoment[] = reads.has(call) ? ['before'] : ['before', 'after'];
    return moments.map((moment) => ({ operation: at + 1, moment }));
  });
}
