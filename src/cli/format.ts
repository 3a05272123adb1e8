/** How things look to a person: sizes, counts, times, tables, and names that a terminal must not interpret. Pure. */

// biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the purpose
const unprintable = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|\p{Cs}/gu;
const shortEscapes: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** A name with control characters, line breaks and changes of direction made visible, so that none acts on a terminal. */
export function printable(text: string): string {
  return text.replace(unprintable, (char) => {
    const code = char.codePointAt(0) ?? 0;
    return shortEscapes[char] ?? (code < 0x100 ? `\\x${hex(code, 2)}` : `\\u{${hex(code, 4)}}`);
  });
}

/** The same for a text of several lines that Firn wrote itself: its line breaks stay. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n');
}

function hex(code: number, digits: number): string {
  return code.toString(16).padStart(digits, '0');
}

const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** Bytes with three significant digits and a binary unit: «0 B», «1.50 KiB», «12.3 MiB». */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // 999.5 would be shown with four digits.
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const decimals = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${value.toFixed(decimals)} ${units[unit]}`;
}

export function formatCount(count: number): string {
  return count.toLocaleString('en-US');
}

/** «1 file», «2,000 files». */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

export function formatSeconds(seconds: number): string {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60) % 60;
  const hours = Math.floor(whole / 3600);
  return hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}

/** RFC 3339 to the second, without «T». */
export function formatTime(time: string | undefined): string {
  return time === undefined ? '-' : `${time.slice(0, 10)} ${time.slice(11, 19)}`;
}

const rights = ['---', '--x', '-w-', '-wx', 'r--', 'r-x', 'rw-', 'rwx'];

/** As `ls -l` writes it: type and permission bits. */
export function formatMode(type: 'file' | 'folder' | 'link', mode: number | undefined): string {
  const first = { file: '-', folder: 'd', link: 'l' }[type];
  if (mode === undefined) return `${first}?????????`;
  const chars = [...[6, 3, 0].map((shift) => rights[(mode >> shift) & 7] ?? '').join('')];
  const special = (bit: number, at: number, letter: string): void => {
    if ((mode & bit) !== 0) chars[at] = chars[at] === 'x' ? letter : letter.toUpperCase();
  };
  special(0o4000, 2, 's');
  special(0o2000, 5, 's');
  special(0o1000, 8, 't');
  return first + chars.join('');
}

export interface Column {
  readonly title: string;
  readonly align?: 'left' | 'right';
}

/** A table with its titles; the last column is not padded. Widths count UTF-16 units. */
export function formatTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map(({ title }, at) => Math.max(title.length, ...rows.map((row) => row[at]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, at) =>
        columns[at]?.align === 'right' ? cell.padStart(widths[at] ?? 0) : cell.padEnd(widths[at] ?? 0),
      )
      .join('  ')
      .trimEnd();
  return [line(columns.map(({ title }) => title)), ...rows.map(line)].join('\n');
}

const SHORT_ID_DIGITS = 8;

/** The length to which ids can be cut and still be told apart; 8 at least. */
export function shortIdLength(ids: readonly string[]): number {
  const sorted = [...new Set(ids)].sort();
  let length = SHORT_ID_DIGITS;
  sorted.forEach((id, at) => {
    const before = sorted[at - 1];
    while (before !== undefined && length < id.length && id.slice(0, length) === before.slice(0, length)) length += 1;
  });
  return length;
}

/** The nearest of some words to a mistyped one, if any is near: at most a third of it, and two letters, differ. */
export function nearest(word: string, words: readonly string[]): string | undefined {
  const limit = Math.min(2, Math.max(1, Math.floor(word.length / 3)));
  const ranked = words.map((each) => ({ each, distance: editDistance(word, each) }));
  ranked.sort((a, b) => a.distance - b.distance);
  const [best] = ranked;
  return best !== undefined && best.distance <= limit ? best.each : undefined;
}

/** Letters to insert, delete, replace or swap with their neighbour. */
function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  const at = (i: number, j: number) => rows[i]?.[j] ?? Number.POSITIVE_INFINITY;
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    rows.push(row);
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1];
      const swapped = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? at(i - 2, j - 2) + 1 : Number.POSITIVE_INFINITY;
      row.push(Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + (same ? 0 : 1), swapped));
    }
  }
  return at(a.length, b.length);
}
