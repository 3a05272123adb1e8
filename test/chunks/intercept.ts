/** A store whose calls a test may delay, watch or make fail. */
import type { BlobStore } from '../../src/storage/blob-store.ts';

type Interceptors = {
  [K in keyof BlobStore]?: BlobStore[K] extends (...args: infer A) => infer R
    ? (next: (...args: A) => R, ...args: A) => R
    : never;
};

export function intercept(store: BlobStore, interceptors: Interceptors): BlobStore {
  const wrapped = Object.entries(interceptors).map(([name, interceptor]) => {
    const next = (store[name as keyof BlobStore] as (...args: unknown[]) => unknown).bind(store);
    return [name, (...args: unknown[]) => (interceptor as (...args: unknown[]) => unknown)(next, ...args)];
  });
  return { ...store, ...Object.fromEntries(wrapped) };
}
