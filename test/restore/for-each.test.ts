import { describe, expect, it } from 'vitest';
import { forEachConcurrently } from '../../src/restore/for-each.ts';

async function* numbers(count: number, seen: { ended: boolean } = { ended: false }): AsyncGenerator<number> {
  try {
    for (let i = 0; i < count; i += 1) yield i;
  } finally {
    seen.ended = true;
  }
}

describe('working on a stream of items', () => {
  it('works on every item once, on no more at a time than it may', async () => {
    const done: number[] = [];
    let running = 0;
    let most = 0;
    await forEachConcurrently(numbers(50), 4, async (item) => {
      running += 1;
      most = Math.max(most, running);
      await new Promise<void>((resolve) => setImmediate(resolve));
      running -= 1;
      done.push(item);
    });
    expect(done.sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, i) => i));
    expect(most).toBe(4);
  });

  it('stops at the first error, tells the others by their signal, and ends the stream', async () => {
    const seen = { ended: false };
    const started: number[] = [];
    let told = 0;
    const working = forEachConcurrently(numbers(50, seen), 3, async (item, signal) => {
      started.push(item);
      if (item === 2) throw new Error('the third');
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      told += 1;
    });
    await expect(working).rejects.toThrow('the third');
    expect(started).toEqual([0, 1, 2]);
    expect(told).toBe(2);
    expect(seen.ended).toBe(true);
  });

  it('fails with the error of the stream', async () => {
    async function* broken(): AsyncGenerator<number> {
      yield 1;
      throw new Error('no more');
    }
    await expect(forEachConcurrently(broken(), 2, async () => {})).rejects.toThrow('no more');
  });

  it('ends with the reason of the signal', async () => {
    const cancelled = new AbortController();
    let worked = 0;
    const working = forEachConcurrently(
      numbers(50),
      1,
      async () => {
        worked += 1;
        if (worked === 3) cancelled.abort(new Error('enough'));
      },
      { signal: cancelled.signal },
    );
    await expect(working).rejects.toThrow('enough');
    expect(worked).toBe(3);
  });
});
