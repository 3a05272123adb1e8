/** Waiting for several things at once, so that nothing goes on behind the caller's back. */

/** The values, or the error that is first in the list; either when all have ended. */
export async function allEnded<T extends readonly unknown[] | []>(
  calls: T,
): Promise<{ -readonly [P in keyof T]: Awaited<T[P]> }> {
  await Promise.allSettled(calls);
  return await Promise.all(calls);
}
