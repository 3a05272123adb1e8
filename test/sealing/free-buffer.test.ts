import { expect, it } from 'vitest';
import { freeBuffer } from '../../src/sealing/free-buffer.ts';

const LONG_BYTES = 200_000;

it('empties a long buffer and every view of it', () => {
  const bytes = Buffer.alloc(LONG_BYTES, 1);
  const view = bytes.subarray(10, 20);
  freeBuffer(bytes);
  expect([bytes.length, view.length, bytes.buffer.byteLength]).toEqual([0, 0, 0]);
});

it('leaves alone what shares its memory with others: buffers in a pool, however long that is, and parts from its middle', () => {
  const poolSize = Buffer.poolSize;
  Buffer.poolSize = 2 * LONG_BYTES;
  try {
    const shorts = Array.from({ length: 200 }, (_, i) => Buffer.from(`${i}`.repeat(1_000)));
    const long = Buffer.alloc(LONG_BYTES, 1);
    for (const bytes of [...shorts, long.subarray(1)]) freeBuffer(bytes);
    expect(shorts.map(String)).toEqual(shorts.map((_, i) => `${i}`.repeat(1_000)));
    expect(shorts.some(({ byteOffset, buffer }) => byteOffset === 0 && buffer.byteLength > LONG_BYTES)).toBe(true);
    expect(long.length).toBe(LONG_BYTES);
  } finally {
    Buffer.poolSize = poolSize;
  }
});
