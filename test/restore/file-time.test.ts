import { lstat, lutimes, open, utimes } from 'node:fs/promises';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nanosecondsOfTime, timeOfNanoseconds } from '../../src/filetree/time.ts';
import { secondsForUtimes } from '../../src/restore/file-time.ts';
import { temporaryFolderOf } from '../kit/local-tree.ts';

/**
 * Nanoseconds that a file system keeps of a double of seconds, in whole numbers: Node cuts it to whole seconds, multiplies
 * the rest by 1e9, which is rounded to a double, and cuts that too.
 */
function stored(seconds: string): bigint {
  const bits = new BigUint64Array(Float64Array.of(Math.abs(Number(seconds))).buffer)[0]!;
  const exponent = bits >> 52n;
  const mantissa = BigInt.asUintN(52, bits) + (exponent === 0n ? 0n : 1n << 52n);
  // The double is mantissa / 2 ** shift.
  const shift = 1075n - (exponent || 1n);
  const whole = mantissa >> shift;
  const product = BigInt(Number((mantissa - (whole << shift)) * 1_000_000_000n));
  const nanoseconds = whole * 1_000_000_000n + (product >> shift);
  return Number(seconds) < 0 ? -nanoseconds : nanoseconds;
}

/** The next double below. */
function nextBelow(seconds: number): number {
  if (seconds === 0) return -Number.MIN_VALUE;
  const bits = new BigInt64Array(Float64Array.of(seconds).buffer);
  bits[0]! += seconds < 0 ? 1n : -1n;
  return new Float64Array(bits.buffer)[0]!;
}

/** 2 ** -31 to 2 ** 37 seconds: doubles that are far finer than a nanosecond, to some that are 30 µs apart in the year 9999. */
const powersOfTwo = Array.from({ length: 69 }, (_, at) => 2 ** (at - 31));
/** From a power of two to the next: a few steps from it, or anywhere between. */
const anyFactor = fc.oneof(
  fc.integer({ min: -8, max: 8 }).map((steps) => 1 + steps * Number.EPSILON),
  fc.double({ min: 1, max: 2, noNaN: true }),
);

// 1901 to 2446: what ext4 can keep.
const nanoseconds = fc.bigInt({ min: -2_147_483_648_000_000_000n, max: 15_032_385_535_000_000_000n });

describe('times on their way to a file system', () => {
  it('comes back never earlier and less than a step of the double later', () => {
    const anyOffset = fc.oneof(fc.bigInt({ min: -3n, max: 3n }), fc.bigInt({ min: -40_000n, max: 40_000n }));
    fc.assert(
      fc.property(anyFactor, anyOffset, (factor, offset) => {
        for (const seconds of powersOfTwo.flatMap((power) => [power * factor, -power * factor])) {
          const wanted = stored(String(seconds)) + offset;
          const time = timeOfNanoseconds(wanted);
          if (time === undefined) continue;
          const set = secondsForUtimes(time);
          if (stored(set) === wanted) continue;
          expect(stored(set), time).toBeGreaterThan(wanted);
          expect(stored(String(nextBelow(Number(set)))), time).toBeLessThan(wanted);
        }
      }),
    );
  });

  it('comes back in the same microsecond when it has no finer part, in this century', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 946_684_800_000_000n, max: 4_102_444_800_000_000n }), (microseconds) => {
        const back = stored(secondsForUtimes(timeOfNanoseconds(microseconds * 1000n)!));
        expect(back / 1000n).toBe(microseconds);
      }),
    );
  });

  it('comes back to the nanosecond when it was set from a double before', () => {
    fc.assert(
      fc.property(anyFactor, (factor) => {
        for (const seconds of powersOfTwo.flatMap((power) => [power * factor, -power * factor])) {
          const set = stored(String(seconds));
          const time = timeOfNanoseconds(set);
          if (time !== undefined) expect(stored(secondsForUtimes(time)), time).toBe(set);
        }
      }),
    );
  });

  // Here doubles are 1.86 ns apart, and the cut goes towards zero.
  it.each(['-14209875.679811189', '-16473236.94792559'])('comes back to the nanosecond from %s', (seconds) => {
    expect(stored(secondsForUtimes(timeOfNanoseconds(stored(seconds))!))).toBe(stored(seconds));
  });

  it.runIf(process.platform !== 'win32')('is on a file, an open file and a link what it was', async () => {
    const file = path.join(await temporaryFolderOf({ file: '', link: { type: 'link', target: 'file' } }), 'file');
    const link = path.join(path.dirname(file), 'link');
    const mtimeOf = async (at: string) => (await lstat(at, { bigint: true })).mtimeNs;
    await using handle = await open(file, 'r+');
    for (const seconds of ['-14209875.679811189', '-1e-9', '0.1', '16473236.94792559', '1700000000.1234567']) {
      const set = secondsForUtimes(timeOfNanoseconds(stored(seconds))!);
      for (const [at, setTime] of [
        [file, () => utimes(file, set, set)],
        [file, () => handle.utimes(set, set)],
        [link, () => lutimes(link, set, set)],
      ] as const) {
        await setTime();
        expect(await mtimeOf(at), seconds).toBe(stored(seconds));
      }
    }
  });

  it('reads what the archive writes', () => {
    fc.assert(
      fc.property(nanoseconds, (wanted) => {
        expect(nanosecondsOfTime(timeOfNanoseconds(wanted)!)).toBe(wanted);
      }),
    );
  });

  it('refuses what is no time', () => {
    expect(() => secondsForUtimes('yesterday')).toThrow(RangeError);
    expect(() => secondsForUtimes('2024-13-01T00:00:00Z')).toThrow(RangeError);
  });
});
