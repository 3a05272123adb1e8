import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { AppendQueue, type Block } from '../../src/journal/append-queue.ts';
import { openJournal } from '../../src/journal/journal.ts';
import { encodeRecord } from '../../src/journal/partition.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { collectGarbage, intercepted, settings, upload } from './journal-kit.ts';

const MiB = 1024 * 1024;
/** A record of about a kibibyte whose text all of them share. */
const text = 'x'.repeat(1000);
const kibibyte = (at: number) => upload(text, at);
const recordBytes = encodeRecord(kibibyte(100_000)).length;

interface Gate {
  readonly blocks: Block[];
  /** Lets the block that is being written be durable; without it the storage is stuck. */
  release(): void;
}

function queueOver(options: { bytesMax: number; callsMax?: number; blockBytesMax?: number }): [AppendQueue, Gate] {
  const blocks: Block[] = [];
  let waiting: (() => void) | undefined;
  const queue = new AppendQueue({
    source: 'photos',
    blockBytesMax: options.blockBytesMax ?? 4 * recordBytes,
    bytesMax: options.bytesMax,
    callsMax: options.callsMax ?? 100,
    recordsMax: () => 1000,
    sift: (records) => records,
    async write(block) {
      blocks.push(block);
      await new Promise<void>((resolve) => {
        waiting = resolve;
      });
      return [];
    },
  });
  return [
    queue,
    {
      blocks,
      release() {
        const resolve = waiting;
        waiting = undefined;
        resolve?.();
      },
    },
  ];
}

async function drain(gate: Gate, until: () => boolean): Promise<void> {
  while (!until()) {
    gate.release();
    await setImmediate();
  }
}

describe('appending faster than the storage takes it', () => {
  it('keeps what waits within its bound, and writes all of it in order', async () => {
    const [queue, gate] = queueOver({ bytesMax: 10 * recordBytes });
    const records = Array.from({ length: 500 }, (_, at) => kibibyte(at));
    let settled = 0;
    const calls = [records.slice(0, 400), records.slice(400)].map((each) =>
      queue.append(each).then(() => {
        settled += 1;
      }),
    );
    await drain(gate, () => settled === 2);
    await Promise.all(calls);
    expect(queue.depth).toMatchObject({ records: 0, bytes: 0 });
    expect(queue.depth.bytesPeak).toBeGreaterThan(9 * recordBytes);
    expect(queue.depth.bytesPeak).toBeLessThanOrEqual(11 * recordBytes);
    const written = Buffer.concat(gate.blocks.map(({ bytes }) => bytes));
    expect(written.equals(Buffer.concat(records.map(encodeRecord)))).toBe(true);
  });

  it('holds some megabytes of a hundred that are to be written', async () => {
    let appended = 0;
    const state = intercepted(createMemoryBlobStore(), {
      instead: async (call, _name, args) => {
        if (call !== 'append') return undefined;
        await setImmediate();
        appended += (args[1] as Buffer).length;
        return { offset: 0, blocks: 1, etag: '"1"' };
      },
    });
    const journal = openJournal(state, 'photos', { ...settings, recordsMax: 40_000, uploadBytesMax: 1e12 });
    await journal.append([upload('first')]);
    collectGarbage();
    const before = process.memoryUsage();
    let peakBytes = 0;
    const watch = setInterval(() => {
      collectGarbage();
      const { arrayBuffers, heapUsed } = process.memoryUsage();
      peakBytes = Math.max(peakBytes, arrayBuffers + heapUsed - before.arrayBuffers - before.heapUsed);
    }, 100);
    const once = upload('x'.repeat(10_000));
    const records = Array.from({ length: 10_000 }, () => once);
    await journal.append(records);
    clearInterval(watch);
    expect(appended).toBeGreaterThan(95 * MiB);
    expect(journal.metrics().queue.bytesPeak).toBeLessThanOrEqual(8 * MiB + encodeRecord(once).length);
    expect(peakBytes).toBeGreaterThan(0);
    expect(peakBytes).toBeLessThan(64 * MiB);
  });

  it('refuses calls beyond those that may wait, and records all the others', async () => {
    const [queue, gate] = queueOver({ bytesMax: recordBytes, callsMax: 3 });
    let settled = 0;
    const taken: Promise<unknown>[] = [];
    let refused = 0;
    for (let at = 0; at < 20; at += 1) {
      const call = queue.append([kibibyte(at)]);
      taken.push(
        call.then(
          () => {
            settled += 1;
          },
          (error: unknown) => {
            expect(error).toMatchObject({ code: 'FIRN_JOURNAL_BUSY', retryable: true });
            refused += 1;
          },
        ),
      );
    }
    await drain(gate, () => settled + refused === 20);
    await Promise.all(taken);
    expect(settled).toBeGreaterThanOrEqual(4);
    expect(gate.blocks.reduce((sum, { ids }) => sum + ids.length, 0)).toBe(settled);
    expect(refused).toBeGreaterThan(0);
    // There is room again.
    const after = queue.append([kibibyte(99)]);
    await drain(gate, () => queue.depth.records === 0);
    gate.release();
    await after;
  });

  it('lets a call that waits for room be cancelled, without holding up those behind it', async () => {
    const [queue, gate] = queueOver({ bytesMax: recordBytes });
    const controller = new AbortController();
    const first = queue.append([kibibyte(0)]);
    const second = queue.append([kibibyte(1)]);
    const cancelled = queue.append([kibibyte(2), kibibyte(3)], { signal: controller.signal });
    const last = queue.append([kibibyte(4)]);
    controller.abort();
    await expect(cancelled).rejects.toMatchObject({ name: 'AbortError' });
    let done = false;
    const rest = Promise.all([first, second, last]).then(() => {
      done = true;
    });
    await drain(gate, () => done);
    await rest;
    const expected = Buffer.concat([0, 1, 4].map((at) => encodeRecord(kibibyte(at))));
    expect(Buffer.concat(gate.blocks.map(({ bytes }) => bytes)).equals(expected)).toBe(true);
  });
});
