/**
 * A clock that a test moves. Timers fire in their order while it moves, and what they start gets to run before the next.
 */
import { setImmediate as afterIo } from 'node:timers/promises';
import type { LockClock } from '../../src/storage/lock-clock.ts';

export interface FakeClock extends LockClock {
  /** Milliseconds since the epoch, for a memory account. */
  wallMs(): number;
  /** Moves on, stopping at every timer. */
  advance(ms: number): Promise<void>;
  /** Jumps as a process does that was paused: all timers are late. */
  jump(ms: number): Promise<void>;
  /** Moves on in small steps until the promise settles; fails after `limitMs`. */
  settle<T>(promise: Promise<T>, limitMs?: number): Promise<T>;
  /** Timers that are set. */
  pending(): number;
}

const STEP_MS = 50;

export function createFakeClock(): FakeClock {
  let nowMs = 0;
  const epochMs = 1_700_000_000_000;
  const timers = new Set<{ at: number; call: () => void }>();

  /** Lets all that needs no timer run to its end. */
  async function quiet(): Promise<void> {
    for (let i = 0; i < 5; i += 1) await afterIo();
  }

  async function fireDue(): Promise<void> {
    while (true) {
      // As in a real event loop: all that are due, in order, before any input or output.
      const due = [...timers].filter((timer) => timer.at <= nowMs).sort((a, b) => a.at - b.at);
      if (due.length === 0) return;
      for (const timer of due) if (timers.delete(timer)) timer.call();
      await quiet();
    }
  }

  async function jump(ms: number): Promise<void> {
    nowMs += ms;
    await fireDue();
  }

  async function advance(ms: number): Promise<void> {
    const end = nowMs + ms;
    await quiet();
    while (true) {
      const next = Math.min(end, ...[...timers].map((timer) => timer.at));
      nowMs = Math.max(nowMs, next);
      await fireDue();
      if (nowMs >= end) return;
    }
  }

  return {
    now: () => nowMs,
    date: () => new Date(epochMs + nowMs),
    wallMs: () => epochMs + nowMs,
    after(ms, call) {
      const timer = { at: nowMs + ms, call };
      timers.add(timer);
      return () => timers.delete(timer);
    },
    advance,
    jump,
    async settle(promise, limitMs = 3_600_000) {
      let settled = false;
      promise.then(
        () => {
          settled = true;
        },
        () => {
          settled = true;
        },
      );
      await quiet();
      for (let waited = 0; !settled; waited += STEP_MS) {
        if (waited > limitMs) throw new Error(`nothing settled within ${limitMs} ms of the fake clock`);
        await advance(STEP_MS);
      }
      return await promise;
    },
    pending: () => timers.size,
  };
}
