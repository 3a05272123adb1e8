import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nanosecondsOfTime, timeOfNanoseconds } from '../../src/filetree/time.ts';
import { secondsForUtimes } from '../../src/restore/file-time.ts';

/** What a file system keeps of a double of seconds. */
function stored(seconds: string): bigint {
  const whole = Math.trunc(Number(seconds));
  return BigInt(whole) * 1_000_000_000n + BigInt(Math.trunc((Number(seconds) - whole) * 1e9));
}

// 1901 to 2446: what ext4 can keep.
const nanoseconds = fc.bigInt({ min: -2_147_483_648_000_000_000n, max: 15_032_385_535_000_000_000n });

describe('times on their way to a file system', () => {
  it('comes back never earlier and less than a step of the double later', () => {
    fc.assert(
      fc.property(nanoseconds, (wanted) => {
        const back = stored(secondsForUtimes(timeOfNanoseconds(wanted)!));
        expect(back).toBeGreaterThanOrEqual(wanted);
        expect(back - wanted).toBeLessThan(2_000n);
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
      fc.property(fc.double({ min: -2_147_483_648, max: 15_032_385_535, noNaN: true }), (seconds) => {
        const set = stored(String(seconds));
        expect(stored(secondsForUtimes(timeOfNanoseconds(set)!))).toBe(set);
      }),
    );
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
