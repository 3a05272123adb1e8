/**
 * What is read before it is needed: how much of it, and how the reader of chunks is told.
 *
 * How many bytes of chunks may be in memory before they are needed, over all files that are read at the same time. It
 * never makes anyone wait: what is needed now is taken whatever is left, what would be read ahead is refused when nothing
 * is left. So memory is bounded by the budget and one chunk for each file, and nobody waits for another.
 */
import type { ChunkReader } from '../chunks/chunk-reader.ts';
import type { ChunkLocation } from '../chunks/location.ts';

export interface ReadAheadBudget {
  /** Takes bytes that are needed now. @returns the function that gives them back; calling it again does nothing. */
  take(bytes: number): () => void;
  /** Takes bytes to be read ahead; undefined when they do not fit. */
  tryTake(bytes: number): (() => void) | undefined;
  readonly bytesTaken: number;
}

const READ_AHEAD_BYTES_MAX = 16 * 1024 * 1024;

export function createReadAheadBudget(bytesMax = READ_AHEAD_BYTES_MAX): ReadAheadBudget {
  let taken = 0;
  const take = (bytes: number): (() => void) => {
    taken += bytes;
    let held = true;
    return () => {
      if (held) taken -= bytes;
      held = false;
    };
  };
  return {
    take,
    tryTake: (bytes) => (taken + bytes > bytesMax ? undefined : take(bytes)),
    get bytesTaken() {
      return taken;
    },
  };
}

/** Tells the reader of chunks what comes, group by group. */
export interface Expectations {
  /** The group before the last is over by now. */
  expect(locations: readonly ChunkLocation[]): void;
  /** All of it is over. */
  release(): void;
}

export function createExpectations(chunks: Pick<ChunkReader, 'expect'>): Expectations {
  // Of the last group some may still be read when the next begins.
  const groups: (() => void)[] = [];
  return {
    expect(locations) {
      groups.push(chunks.expect(locations));
      if (groups.length > 2) groups.shift()?.();
    },
    release() {
      for (const release of groups.splice(0)) release();
    },
  };
}
