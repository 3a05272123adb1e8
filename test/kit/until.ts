/** Waiting for what other processes do: looked for again and again, since nobody tells. */
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 20;
const WAIT_MS_MAX = 120_000;

/** Waits until the condition answers with something; the limit only ends a broken test. */
export async function until<T>(what: string, look: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const deadline = performance.now() + WAIT_MS_MAX;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await delay(POLL_MS);
  }
}
