/**
 * Modification times on their way back to a file system. A snapshot keeps nanoseconds; Node sets times as a double of
 * seconds and the system cuts what it stores to whole nanoseconds, so in our days a time can be set in steps of about
 * 238 ns only. What comes back is never earlier than the snapshot says and less than a step later, so every time in
 * whole microseconds comes back as that microsecond, and a time that Node set before comes back to the nanosecond. Pure.
 */
import { nanosecondsOfTime } from '../filetree/time.ts';

/** Nanoseconds that a file system stores for this double of seconds: the fraction is cut towards zero. */
function nanosecondsStored(seconds: number): bigint {
  const whole = Math.trunc(seconds);
  return BigInt(whole) * 1_000_000_000n + BigInt(Math.trunc((seconds - whole) * 1e9));
}

/** One for all files: to make it takes as long as the rest. */
const bits = new DataView(new ArrayBuffer(8));

/** The next double of seconds above. */
function nextAbove(seconds: number): number {
  bits.setFloat64(0, seconds === 0 ? 0 : seconds);
  bits.setBigInt64(0, bits.getBigInt64(0) + (seconds < 0 ? -1n : 1n));
  return bits.getFloat64(0);
}

/**
 * The time for `utimes`: a double of seconds that is stored as this time, else the smallest that is stored as one after
 * it. As text, because Node takes a negative number for «now».
 * @throws RangeError when it is no time.
 */
export function secondsForUtimes(time: string): string {
  const wanted = nanosecondsOfTime(time);
  const near = Number(wanted / 1_000_000_000n) + Number(wanted % 1_000_000_000n) / 1e9;
  // Where doubles are fine enough to have this time, the nearest has it, or falls short of it and is cut to a neighbour.
  const farther = Math.sign(near) * nextAbove(Math.abs(near));
  const exact = [near, farther].find((each) => nanosecondsStored(each) === wanted);
  let seconds = exact ?? near;
  while (nanosecondsStored(seconds) < wanted) seconds = nextAbove(seconds);
  return String(seconds);
}
