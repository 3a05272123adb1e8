/** Works on the items of a stream with a bounded number of workers, in memory that does not grow with the stream. */

/**
 * Takes items as workers become free; there is no order among what is worked on at the same time. The first error stops
 * the taking, aborts the signal that `work` gets, and is thrown after every worker has ended.
 */
export async function forEachConcurrently<T>(
  items: AsyncGenerator<T>,
  workers: number,
  work: (item: T, signal: AbortSignal) => Promise<void>,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<void> {
  const failed = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, failed.signal]) : failed.signal;
  let failure: { readonly error: unknown } | undefined;
  const worker = async (): Promise<void> => {
    try {
      while (!signal.aborted) {
        const { done, value } = await items.next();
        if (done) return;
        await work(value, signal);
      }
    } catch (error) {
      failure ??= { error };
      failed.abort(error);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.max(1, workers) }, worker));
  } finally {
    await items.return(undefined);
  }
  if (failure) throw failure.error;
  options.signal?.throwIfAborted();
}
