import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseSchedule } from '../../src/local/ncrontab.ts';

function occurrences(expression: string, from: string, count: number): string[] {
  const schedule = parseSchedule(expression, 'f');
  const found: string[] = [];
  let at = new Date(from);
  for (let n = 0; n < count; n += 1) {
    const next = schedule.next(at);
    if (next === undefined) break;
    found.push(next.toISOString().replace('.000Z', ''));
    at = next;
  }
  return found;
}

test.each([
  ['*/5 * * * * *', '2024-01-01T00:00:02.500Z', ['2024-01-01T00:00:05', '2024-01-01T00:00:10']],
  ['0 */20 9-10 * * *', '2024-01-01T09:20:00Z', ['2024-01-01T09:40:00', '2024-01-01T10:00:00']],
  ['0 0 0 1,15 * *', '2024-01-01T00:00:00Z', ['2024-01-15T00:00:00', '2024-02-01T00:00:00']],
  ['0 30 9 * Jan Mon-Fri', '2024-01-05T09:30:00Z', ['2024-01-08T09:30:00', '2024-01-09T09:30:00']],
  ['0 0 0 13 * 5', '2024-01-01T00:00:00Z', ['2024-09-13T00:00:00', '2024-12-13T00:00:00']],
  ['10-30/10 0 0 * * 0', '2024-01-06T00:00:00Z', ['2024-01-07T00:00:10', '2024-01-07T00:00:20']],
  ['5/25 0 0 1 1 *', '2024-01-01T00:00:00Z', ['2024-01-01T00:00:05', '2024-01-01T00:00:30']],
  ['0 0 0 29 2 *', '2024-03-01T00:00:00Z', ['2028-02-29T00:00:00', '2032-02-29T00:00:00']],
  ['*/15 * * * *', '2024-01-01T00:01:00Z', ['2024-01-01T00:15:00', '2024-01-01T00:30:00']],
  ['00:05:00', '2024-01-01T00:01:00Z', ['2024-01-01T00:06:00', '2024-01-01T00:11:00']],
])('%s after %s', (expression, from, expected) => {
  expect(occurrences(expression, from, 2)).toEqual(expected);
});

test('a date that never comes has no occurrence', () => {
  expect(occurrences('0 0 0 30 2 *', '2024-01-01T00:00:00Z', 1)).toEqual([]);
});

test.each([
  '',
  '* * * *',
  '60 * * * * *',
  '0 0 24 * * *',
  '* * * 0 * *',
  '* * * * 13 *',
  '* * * * * 7',
  '5-1 * * * * *',
])('«%s» is refused', (expression) => {
  expect(() => parseSchedule(expression, 'f')).toThrow(expect.objectContaining({ code: 'FIRN_FUNCTION_INVALID' }));
});

test.each(['*/0 * * * * *', '1,,2 * * * * *', '? * * * * *', 'L * * * * *', '0 0 0 * * Monty#2', 'a * * * * *'])(
  'what only other dialects of cron know is refused: «%s»',
  (expression) => {
    expect(() => parseSchedule(expression, 'f')).toThrow(expect.objectContaining({ code: 'FIRN_FUNCTION_INVALID' }));
  },
);

test('the next occurrence is the first second after the moment that fits', () => {
  const field = (max: number) => fc.uniqueArray(fc.integer({ min: 0, max }), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(field(59), field(59), fc.integer({ min: 0, max: 7_200 }), (seconds, minutes, offset) => {
      const from = Date.UTC(2024, 0, 1) + offset * 1_000;
      const next = parseSchedule(`${seconds.join()} ${minutes.join()} * * * *`, 'f').next(new Date(from));
      let expected = from + 1_000;
      const fits = (at: Date) => seconds.includes(at.getUTCSeconds()) && minutes.includes(at.getUTCMinutes());
      while (!fits(new Date(expected))) expected += 1_000;
      expect(next?.getTime()).toBe(expected);
    }),
  );
});
