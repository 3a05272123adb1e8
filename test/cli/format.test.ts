import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  formatBytes,
  formatMode,
  formatSeconds,
  formatTable,
  nearest,
  printable,
  shortIdLength,
} from '../../src/cli/format.ts';

describe('names on a terminal', () => {
  it('show what would act on it', () => {
    expect(printable('a\nb\tc\r')).toBe('a\\nb\\tc\\r');
    expect(printable('\u001b[31mred\u0007\u009b2J')).toBe('\\x1b[31mred\\x07\\x9b2J');
    expect(printable('exe\u202egpj.txt\u2028')).toBe('exe\\u{202e}gpj.txt\\u{2028}');
    expect(printable('Größe 😀 日本')).toBe('Größe 😀 日本');
  });

  it('never hold a control character, whatever they are', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (name) => {
        expect([...printable(name)].some((char) => char < ' ' || (char >= '\u007f' && char < '\u00a0'))).toBe(false);
      }),
    );
  });
});

describe('figures', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '0.98 KiB'],
    [1536, '1.50 KiB'],
    [10_240, '10.0 KiB'],
    [1_048_575, '1.00 MiB'],
    [1_073_741_824, '1.00 GiB'],
    [123_456_789_012, '115 GiB'],
  ])('%d bytes are «%s»', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it.each([
    [0.04, '0.0 s'],
    [59.9, '59.9 s'],
    [61, '1 min 1 s'],
    [119.7, '2 min 0 s'],
    [3_660, '1 h 1 min'],
  ])('%d seconds are «%s»', (seconds, text) => {
    expect(formatSeconds(seconds)).toBe(text);
  });

  it.each([
    ['file', 0o644, '-rw-r--r--'],
    ['folder', 0o1777, 'drwxrwxrwt'],
    ['file', 0o4755, '-rwsr-xr-x'],
    ['file', 0o2644, '-rw-r-Sr--'],
    ['link', undefined, 'l?????????'],
  ] as const)('a %s of mode %o is «%s»', (type, mode, text) => {
    expect(formatMode(type, mode)).toBe(text);
  });

  it('stand in columns', () => {
    const table = formatTable(
      [{ title: 'NAME' }, { title: 'SIZE', align: 'right' }],
      [
        ['a', '1 B'],
        ['long name', '12 B'],
      ],
    );
    expect(table).toBe('NAME       SIZE\na           1 B\nlong name  12 B');
  });
});

describe('short ids', () => {
  it('have eight digits, and more where eight do not tell them apart', () => {
    expect(shortIdLength(['0123456789abcdef'])).toBe(8);
    expect(shortIdLength(['0123456789abcdef', 'f123456789abcdef', '0123456789abcdef'])).toBe(8);
    expect(shortIdLength(['0123456789abcdef', '0123456789abcdee'])).toBe(16);
    expect(shortIdLength(['0123456789abcdef', '0123456788abcdef', 'ffff'])).toBe(10);
  });
});

describe('the nearest word', () => {
  const words = ['restore', 'remove', 'archive', 'ls', 'diff'];
  it.each([
    ['restor', 'restore'],
    ['retsore', 'restore'],
    ['archiv', 'archive'],
    ['sl', 'ls'],
    ['delete', undefined],
    ['x', undefined],
  ])('to «%s» is %s', (word, near) => {
    expect(nearest(word, words)).toBe(near);
  });
});
