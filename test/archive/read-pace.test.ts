import { expect, test } from 'vitest';
import { ReadPace } from '../../src/archive/read-pace.ts';

/** Where each of so many short reads belongs, of which those here take so long. */
function placesOf(pace: ReadPace, reads: number, ms: number): ('here' | 'in the pool')[] {
  return Array.from({ length: reads }, () => {
    const place = pace.next(4096);
    if (place === 'here') pace.tookHere(ms);
    return place;
  });
}

test('short reads stay here while none of them has to wait', () => {
  expect(new Set(placesOf(new ReadPace(), 1000, 0.02))).toEqual(new Set(['here']));
});

test('of reads that have to wait, few are made here', () => {
  expect(placesOf(new ReadPace(), 1000, 5).filter((place) => place === 'here').length).toBeLessThan(20);
});

test('reads come back here when they do not have to wait any more', () => {
  const pace = new ReadPace();
  placesOf(pace, 1, 5);
  expect(placesOf(pace, 1000, 0.02).at(-1)).toBe('here');
});

test('long reads are never made here', () => {
  expect(new ReadPace().next(1024 * 1024)).toBe('in the pool');
});
