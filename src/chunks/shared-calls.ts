/**
 * Callers that want the same thing at the same time share one call for it. A caller that is cancelled leaves at once; the
 * call itself is cancelled when its last caller has left. Results are not kept: that is a cache's work.
 */
import { abortable } from '../storage/abortable.ts';

export interface SharedCalls<T> {
  /** Joins the call under this key, or makes it. */
  join(key: string, call: (signal: AbortSignal) => Promise<T>, signal: AbortSignal | undefined): Promise<T>;
}

interface SharedCall<T> {
  readonly result: Promise<T>;
  readonly stop: AbortController;
  callers: number;
}

export function createSharedCalls<T>(): SharedCalls<T> {
  const calls = new Map<string, SharedCall<T>>();

  function begin(key: string, call: (signal: AbortSignal) => Promise<T>): SharedCall<T> {
    const stop = new AbortController();
    const shared: SharedCall<T> = { result: call(stop.signal), stop, callers: 0 };
    calls.set(key, shared);
    const forget = () => {
      if (calls.get(key) === shared) calls.delete(key);
    };
    shared.result.then(forget, forget);
    return shared;
  }

  return {
    async join(key, call, signal) {
      signal?.throwIfAborted();
      const shared = calls.get(key) ?? begin(key, call);
      shared.callers += 1;
      try {
        return await abortable(shared.result, signal);
      } finally {
        shared.callers -= 1;
        if (shared.callers === 0) {
          // Nobody may join what is being cancelled.
          if (calls.get(key) === shared) calls.delete(key);
          shared.stop.abort();
        }
      }
    },
  };
}
