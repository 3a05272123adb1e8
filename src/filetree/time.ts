/** Times of filetree entries: RFC 3339 in UTC with up to nine decimals, and nanoseconds since 1970. Pure. */

const NANOSECONDS_PER_SECOND = 1_000_000_000n;
/** Of the years that RFC 3339 can write. */
const SECONDS_MIN = BigInt(Date.parse('0000-01-01T00:00:00Z') / 1000);
const SECONDS_MAX = BigInt(Date.parse('9999-12-31T23:59:59Z') / 1000);

/**
 * Nanoseconds since 1970 as RFC 3339 in UTC, with the decimals that are not zero; undefined for a time that RFC 3339
 * cannot write.
 */
export function timeOfNanoseconds(nanoseconds: bigint): string | undefined {
  let seconds = nanoseconds / NANOSECONDS_PER_SECOND;
  let fraction = nanoseconds % NANOSECONDS_PER_SECOND;
  if (fraction < 0n) {
    seconds -= 1n;
    fraction += NANOSECONDS_PER_SECOND;
  }
  if (seconds < SECONDS_MIN || seconds > SECONDS_MAX) return undefined;
  const decimals = fraction === 0n ? '' : `.${String(fraction).padStart(9, '0').replace(/0+$/, '')}`;
  return `${new Date(Number(seconds) * 1000).toISOString().slice(0, -5)}${decimals}Z`;
}

const timePattern = /^(.{19})(?:\.(\d{1,9}))?Z$/;

/** The time (RFC 3339 in UTC, up to nine decimals) in nanoseconds since 1970. @throws RangeError. */
export function nanosecondsOfTime(time: string): bigint {
  const [, whole, decimals = ''] = timePattern.exec(time) ?? [];
  const milliseconds = Date.parse(`${whole}Z`);
  if (Number.isNaN(milliseconds)) throw new RangeError(`«${time}» is not a time in UTC.`);
  return BigInt(milliseconds) * 1_000_000n + BigInt(decimals.padEnd(9, '0'));
}
