/** Locks that let everybody in, as leases do that ended while their holders were paused. Nothing may rest on a lock. */
import type { Locks } from '../../src/storage/locks.ts';

export const lawlessLocks: Locks = {
  async acquire(name) {
    return {
      name,
      token: 1,
      signal: new AbortController().signal,
      release: async () => true,
      leave() {},
      async [Symbol.asyncDispose]() {},
    };
  },
  async tryAcquire(name, options) {
    return await lawlessLocks.acquire(name, { ...options, waitMsMax: 0 });
  },
  releaseLeft: async () => true,
  owner: async () => undefined,
  async waitForHolders() {},
};
