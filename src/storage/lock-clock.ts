/** The clock of locks: a machine's own, in which no other machine has a part, and which a test may move. */
import { abortable } from './abortable.ts';

export interface LockClock {
  /** Milliseconds that only grow. */
  now(): number;
  date(): Date;
  /**
   * Calls once after so many milliseconds; gives the way to call it off. It keeps the process alive only where that is
   * asked for: a lock that was forgotten must not, and who waits for one must.
   */
  after(ms: number, call: () => void, options?: { readonly keepAlive?: boolean }): () => void;
}

export const systemClock: LockClock = {
  now: () => performance.now(),
  date: () => new Date(),
  after(ms, call, { keepAlive = false } = {}) {
    const timer = setTimeout(call, ms);
    if (!keepAlive) timer.unref();
    return () => clearTimeout(timer);
  },
};

/** Waits between looks grow from the first to the second, each shortened by up to a half at random. */
const POLL_MS_MIN = 200;
const POLL_MS_MAX = 5_000;

/**
 * Looks, and looks again until the answer is there or the time is over, and once more then.
 * @param onWait called before the first wait.
 * @returns undefined when the time is over. Throws the signal's reason.
 */
export async function poll<T>(
  clock: LockClock,
  look: () => Promise<T | undefined>,
  options: {
    readonly waitMsMax: number;
    readonly signal?: AbortSignal | undefined;
    readonly onWait: () => Promise<void>;
  },
): Promise<T | undefined> {
  const giveUpAt = clock.now() + options.waitMsMax;
  for (let pollMs = POLL_MS_MIN, isFirst = true; ; pollMs = Math.min(2 * pollMs, POLL_MS_MAX), isFirst = false) {
    const found = await look();
    if (found !== undefined) return found;
    const leftMs = giveUpAt - clock.now();
    if (leftMs <= 0) return undefined;
    if (isFirst) await options.onWait();
    await pause(clock, Math.min(leftMs, pollMs * (0.5 + Math.random() / 2)), options.signal);
  }
}

function pause(clock: LockClock, ms: number, signal: AbortSignal | undefined): Promise<void> {
  const waited = Promise.withResolvers<void>();
  const cancel = clock.after(ms, waited.resolve, { keepAlive: true });
  return abortable(waited.promise, signal).finally(cancel);
}
