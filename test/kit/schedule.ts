/**
 * Runs several processes over stores in memory, one storage operation at a time, in an order that a seed decides. Between
 * two operations everything runs until it waits, so the same seed gives the same run, and `trace` tells it. Time is an
 * operation too: the clock stands until the schedule lets the next timer fire.
 *
 * For a seed to mean the same run, nothing may wait for real threads or timers: a test that compresses or pauses uses
 * `synchronousZstd` and `scheduledTimeout` (see there).
 */
import { setImmediate as afterIo } from 'node:timers/promises';
import type * as zlib from 'node:zlib';
import type { Containers } from '../../src/repository.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import type { LockClock } from '../../src/storage/lock-clock.ts';
import { type Choose, chooserFrom } from './random.ts';

interface Waiting {
  readonly label: string;
  go(): void;
}

interface Timer {
  readonly atMs: number;
  readonly call: () => void;
}

const IDLE_TURNS_MAX = 2_000;
/** One in so many steps holds the process that it chose until no other has anything to do: mistakes that need a long pause at one place. */
const HOLD_ODDS = 150;

export class Schedule {
  readonly #choose: Choose;
  readonly #startMs: number;
  readonly #timerOdds: number;
  readonly #waiting: Waiting[] = [];
  readonly #timers = new Set<Timer>();
  #held: string | undefined;
  #nowMs = 0;
  /** What was let through, in order. */
  readonly trace: string[] = [];

  /** @param timerOdds one in so many steps lets a timer fire though an operation waits: then its process is slow. */
  constructor(seed: number, { startMs = Date.parse('2026-01-01T00:00:00Z'), timerOdds = 300 } = {}) {
    this.#choose = chooserFrom(seed);
    this.#startMs = startMs;
    this.#timerOdds = timerOdds;
  }

  /** Milliseconds since the epoch, for accounts and repositories. */
  readonly wallMs = (): number => this.#startMs + this.#nowMs;

  readonly clock: LockClock = {
    now: () => this.#nowMs,
    date: () => new Date(this.wallMs()),
    after: (ms, call) => {
      const timer: Timer = { atMs: this.#nowMs + ms, call };
      this.#timers.add(timer);
      return () => this.#timers.delete(timer);
    },
  };

  /** Waits until the schedule lets it through. */
  pass(label: string): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push({ label, go: resolve });
    return promise;
  }

  /** Every operation of the store waits for its turn. */
  store(process: string, store: BlobStore): BlobStore {
    return new Proxy(store, {
      get: (target, key, receiver) => {
        const method: unknown = Reflect.get(target, key, receiver);
        if (typeof method !== 'function') return method;
        const turn = (name: unknown) => this.pass(`${process}: ${String(key)} ${String(name)}`);
        if (key === 'list' || key === 'listFolders') {
          return async function* (options?: { prefix?: string }) {
            await turn(options?.prefix ?? '');
            yield* (await Array.fromAsync(
              Reflect.apply(method, target, [options]) as AsyncIterable<unknown>,
            )) as never[];
          };
        }
        return async (...args: unknown[]) => {
          await turn(args[0]);
          return await (Reflect.apply(method, target, args) as Promise<unknown>);
        };
      },
    });
  }

  containers(process: string, containers: Containers): Containers {
    return { container: (name) => this.store(process, containers.container(name)) };
  }

  /** Runs to the end of all processes. @throws when nothing can go on any more. */
  async run<T>(processes: readonly (() => Promise<T>)[]): Promise<PromiseSettledResult<T>[]> {
    let ended = false;
    const results = Promise.allSettled(processes.map((process) => process())).finally(() => {
      ended = true;
    });
    let idleTurns = 0;
    for (;;) {
      await afterIo();
      if (ended) return await results;
      if (this.#step()) idleTurns = 0;
      else idleTurns += 1;
      if (idleTurns > IDLE_TURNS_MAX) throw new Error(`nothing goes on after ${this.trace.length} operations`);
    }
  }

  #chosen(): Waiting | undefined {
    const isFree = ({ label }: Waiting) => this.#held === undefined || !label.startsWith(this.#held);
    if (this.#held === undefined && this.#choose(HOLD_ODDS) === 0) {
      this.#held = this.#waiting[this.#choose(this.#waiting.length)]?.label.split(':', 1)[0];
    }
    let free = this.#waiting.filter(isFree);
    if (free.length === 0) {
      this.#held = undefined;
      free = this.#waiting;
    }
    return free[this.#choose(free.length)];
  }

  /** One operation, or one timer: that is chosen least often, or when nothing else is left. */
  #step(): boolean {
    const timers = this.#timers.size > 0 && (this.#waiting.length === 0 || this.#choose(this.#timerOdds) === 0);
    if (timers) {
      const next = [...this.#timers].reduce((first, timer) => (timer.atMs < first.atMs ? timer : first));
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      this.trace.push(`the clock shows ${this.#nowMs} ms`);
      next.call();
      return true;
    }
    const chosen = this.#chosen();
    if (chosen === undefined) return false;
    this.#waiting.splice(this.#waiting.indexOf(chosen), 1);
    this.trace.push(chosen.label);
    chosen.go();
    return true;
  }
}

/** For `vi.mock('node:zlib')`: zstd without threads, so that it takes no time that a schedule does not know of. */
export function synchronousZstd(original: typeof zlib): typeof zlib {
  type Done = (error: Error | null, result: Buffer) => void;
  const calling =
    (work: (bytes: Uint8Array, options: object) => Buffer) =>
    (bytes: Uint8Array, options: object, done: Done): void => {
      try {
        const result = work(bytes, options);
        queueMicrotask(() => done(null, result));
      } catch (error) {
        queueMicrotask(() => done(error as Error, Buffer.alloc(0)));
      }
    };
  return {
    ...original,
    zstdCompress: calling(original.zstdCompressSync) as typeof zlib.zstdCompress,
    zstdDecompress: calling(original.zstdDecompressSync) as typeof zlib.zstdDecompress,
  };
}
