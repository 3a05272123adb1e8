/**
 * What a journal counts while it is open. Durations are of this process's clock; percentiles are exact to one percent. The
 * figures are of one `Journal`, not of all processes that append to the source.
 */
import { createHistogram, performance, type RecordableHistogram } from 'node:perf_hooks';
import type { QueueDepth } from './append-queue.ts';

export interface JournalMetrics {
  /** Made durable. */
  readonly records: number;
  readonly bytes: number;
  /** Blocks written. */
  readonly flushes: number;
  /** From the first request of a block to the answer that it is durable; zeros before the first. */
  readonly flushMs: { readonly p50: number; readonly p99: number; readonly max: number };
  readonly compactions: number;
  /** The one write of a compaction that others have to wait for. */
  readonly compactionSwapMs: { readonly last: number; readonly max: number };
  /** Ranges of bytes met in reading that are no record. */
  readonly corruptRecords: number;
  /** Records that were not appended because they are durable already. */
  readonly duplicatesDropped: number;
  readonly queue: QueueDepth;
}

/** A longer flush counts as this. */
const FLUSH_MICROSECONDS_MAX = 600_000_000;
const MICROSECONDS_PER_MS = 1_000;

export class MetricsRecorder {
  #records = 0;
  #bytes = 0;
  /** Made when it is needed: it takes some 25 KB, and most journals of a process are only read. */
  #flushes: RecordableHistogram | undefined;
  #compactions = 0;
  #swapMs = { last: 0, max: 0 };
  #corruptRecords = 0;
  #duplicatesDropped = 0;

  flushed(block: { readonly records: number; readonly bytes: number }, startedAt: number): void {
    this.#records += block.records;
    this.#bytes += block.bytes;
    this.#flushes ??= createHistogram({ lowest: 1, highest: FLUSH_MICROSECONDS_MAX, figures: 2 });
    const microseconds = Math.round((performance.now() - startedAt) * MICROSECONDS_PER_MS);
    this.#flushes.record(Math.min(Math.max(1, microseconds), FLUSH_MICROSECONDS_MAX));
  }

  compacted(swapMs: number): void {
    this.#compactions += 1;
    this.#swapMs = { last: swapMs, max: Math.max(swapMs, this.#swapMs.max) };
  }

  metCorrupt(): void {
    this.#corruptRecords += 1;
  }

  droppedDuplicate(): void {
    this.#duplicatesDropped += 1;
  }

  read(queue: QueueDepth): JournalMetrics {
    const flushes = this.#flushes;
    const ms = (microseconds: number) => microseconds / MICROSECONDS_PER_MS;
    return {
      records: this.#records,
      bytes: this.#bytes,
      flushes: flushes?.count ?? 0,
      flushMs: {
        p50: ms(flushes?.percentile(50) ?? 0),
        p99: ms(flushes?.percentile(99) ?? 0),
        max: ms(flushes?.max ?? 0),
      },
      compactions: this.#compactions,
      compactionSwapMs: { ...this.#swapMs },
      corruptRecords: this.#corruptRecords,
      duplicatesDropped: this.#duplicatesDropped,
      queue,
    };
  }
}
