/** Choices of tests that a seed decides: whole numbers from 0 up to, and without, `below`. */
export type Choose = (below: number) => number;

/** What a failed run printed, to run it again: TEST_SEED=<seed>. */
export const testSeed = process.env.TEST_SEED === undefined ? undefined : Number(process.env.TEST_SEED);

/** Mulberry32: 32 bits of state are enough for a test's choices. */
export function chooserFrom(seed: number): Choose {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
