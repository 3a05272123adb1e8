/**
 * NCRONTAB expressions, the schedules of timer triggers: `{second} {minute} {hour} {day} {month} {day of week}`, in UTC.
 * Pure.
 *
 * The grammar is that of the library which the real host uses, and no more, so that a schedule that works here works in
 * Azure: numbers, names of months and days, `*`, ranges, lists and steps. A day must satisfy the day *and* the day of
 * week. Five fields (without seconds) and a time span (`00:05:00`: every five minutes) are accepted as well.
 */
import { FirnError } from '../errors.ts';
import { timeSpanMs } from './host-json.ts';

export interface Schedule {
  /** The first occurrence after the given moment; undefined where there is none within forty years. */
  next(after: Date): Date | undefined;
}

interface Field {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  readonly words?: readonly string[];
}

const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const fields: readonly Field[] = [
  { name: 'second', min: 0, max: 59 },
  { name: 'minute', min: 0, max: 59 },
  { name: 'hour', min: 0, max: 23 },
  { name: 'day', min: 1, max: 31 },
  { name: 'month', min: 1, max: 12, words: MONTHS },
  { name: 'day of week', min: 0, max: 6, words: DAYS },
];

/** 29 February falls on a given day of the week within forty years; what has not come then never comes. */
const DAYS_MAX = 366 * 40;
const DAY_MS = 86_400_000;

/** FIRN_FUNCTION_INVALID names the function and the field. */
export function parseSchedule(expression: string, functionName: string): Schedule {
  const everyMs = timeSpanMs(expression);
  if (everyMs !== undefined && everyMs > 0) return { next: (after) => new Date(after.getTime() + everyMs) };

  const refuse = (problem: string): never => {
    throw new FirnError('FIRN_FUNCTION_INVALID', {
      function: functionName,
      problem: `its schedule «${expression}» ${problem}`,
    });
  };
  const parts = expression.trim().split(/\s+/);
  if (parts.length === 5) parts.unshift('0');
  if (parts.length !== fields.length) refuse('must have six fields: second minute hour day month day-of-week');
  const allowed = fields.map((field, index) => {
    const values = parseField(parts[index] ?? '', field);
    return values ?? refuse(`has a ${field.name} that cannot be read: «${parts[index]}»`);
  });
  const [seconds, minutes, hours, days, months, weekdays] = allowed as [
    Set<number>,
    Set<number>,
    Set<number>,
    Set<number>,
    Set<number>,
    Set<number>,
  ];

  function nextTimeOfDay(from: number): number | undefined {
    for (let hour = Math.floor(from / 3600); hour < 24; hour += 1) {
      if (!hours.has(hour)) continue;
      for (let minute = 0; minute < 60; minute += 1) {
        if (!minutes.has(minute)) continue;
        for (let second = 0; second < 60; second += 1) {
          const time = hour * 3600 + minute * 60 + second;
          if (time >= from && seconds.has(second)) return time;
        }
      }
    }
    return undefined;
  }

  return {
    next(after) {
      const fromSecond = Math.floor(after.getTime() / 1000) + 1;
      let day = Math.floor(fromSecond / 86_400) * DAY_MS;
      let from = fromSecond - day / 1000;
      for (let tried = 0; tried < DAYS_MAX; tried += 1) {
        const date = new Date(day);
        if (months.has(date.getUTCMonth() + 1) && days.has(date.getUTCDate()) && weekdays.has(date.getUTCDay())) {
          const time = nextTimeOfDay(from);
          if (time !== undefined) return new Date(day + time * 1000);
        }
        day += DAY_MS;
        from = 0;
      }
      return undefined;
    },
  };
}

function parseField(text: string, field: Field): Set<number> | undefined {
  const values = new Set<number>();
  for (const part of text.split(',')) {
    const match = /^(\*|[A-Za-z0-9]+)(?:-([A-Za-z0-9]+))?(?:\/([0-9]+))?$/.exec(part);
    if (match === null) return undefined;
    const [, first = '', last, step] = match;
    if (first === '*' && last !== undefined) return undefined;
    const from = first === '*' ? field.min : fieldValue(first, field);
    // A step after a single number runs to the end of the field.
    const to =
      first === '*' || (last === undefined && step !== undefined) ? field.max : fieldValue(last ?? first, field);
    const by = step === undefined ? 1 : Number(step);
    if (from === undefined || to === undefined || from > to || by < 1) return undefined;
    for (let value = from; value <= to; value += by) values.add(value);
  }
  return values;
}

function fieldValue(text: string, field: Field): number | undefined {
  if (/^[0-9]+$/.test(text)) {
    const value = Number(text);
    return value >= field.min && value <= field.max ? value : undefined;
  }
  const index = field.words?.indexOf(text.toLowerCase().slice(0, 3)) ?? -1;
  return index < 0 || text.length < 3 ? undefined : index + field.min;
}
