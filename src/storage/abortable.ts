/**
 * Waiting that a signal can end. What is waited for is not stopped by this: pass the signal down to it as well.
 */

/** Settles as `promise` does, or rejects with the signal's reason as soon as the signal fires. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/**
 * The pieces of `source` until the signal fires; then the loop ends with the signal's reason, even while the source
 * keeps it waiting. The source is closed in every case; a source that is stuck is not waited for.
 */
export async function* abortablePieces<T>(
  source: AsyncIterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  let ended = false;
  try {
    while (true) {
      signal?.throwIfAborted();
      const next = iterator.next();
      const piece = await abortable(next, signal);
      if (piece.done) {
        ended = true;
        return;
      }
      yield piece.value;
    }
  } finally {
    if (!ended) {
      const closed = Promise.resolve(iterator.return?.());
      if (signal?.aborted) closed.catch(() => undefined);
      else await closed.catch(() => undefined);
    }
  }
}
