/** Random folders with odd names, times and modes, as a file system can hold them. */
import fc from 'fast-check';
import { pseudoRandomBytes } from '../chunks/bytes.ts';
import type { LocalNode, LocalTree } from '../kit/local-tree.ts';

const name = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom('a', 'A', 'b', 'a.b', 'a b', 'ä', 'a\u0308', 'Ä', '-rf', '.hidden', 'a\nb') },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '\\',
      'a\\b',
      '\u{1f600}',
      '\uffee',
      '\u0007\u001b[31m',
      '...',
      '__proto__',
      'é'.repeat(120),
    ),
  },
  {
    weight: 1,
    arbitrary: fc
      .string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
      .filter((text) => text !== '.' && text !== '..' && !/[/\0]/.test(text) && Buffer.byteLength(text) <= 255),
  },
);

// What a file system keeps of a double of seconds, before 1970 too; whole and broken seconds.
const mtime = fc.oneof(
  fc.double({ min: -1e9, max: 4e9, noNaN: true }),
  fc.integer({ min: -1_000_000_000, max: 4_000_000_000 }),
);
const fileMode = fc.constantFrom(undefined, 0o644, 0o755, 0o600, 0o400, 0o4755);
const folderMode = fc.constantFrom(undefined, 0o755, 0o700, 0o1777, 0o2750);

/** Empty, smaller than a chunk, several chunks; few seeds, so that content repeats. */
const content = fc
  .tuple(fc.integer({ min: 0, max: 4 }), fc.constantFrom(0, 1, 1_000, 5_000, 40_000))
  .map(([seed, bytes]) => pseudoRandomBytes(seed, bytes));

const file: fc.Arbitrary<LocalNode> = fc
  .tuple(content, fileMode, mtime)
  .map(([bytes, mode, time]) => ({ type: 'file', content: bytes, mode, mtime: time }));

const link: fc.Arbitrary<LocalNode> = fc
  .tuple(fc.constantFrom('a', '../..', '/etc/passwd', 'no\nwhere', 'ä'), mtime)
  .map(([target, time]) => ({ type: 'link', target, mtime: time }));

export const anyFolder: fc.Arbitrary<LocalTree> = fc.letrec<{ tree: LocalTree; node: LocalNode }>((tie) => ({
  tree: fc.dictionary(name, tie('node'), { maxKeys: 6, noNullPrototype: true }),
  node: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    { weight: 4, arbitrary: file },
    { weight: 1, arbitrary: link },
    {
      weight: 3,
      arbitrary: fc
        .tuple(tie('tree'), folderMode, mtime)
        .map(([entries, mode, time]): LocalNode => ({ type: 'folder', entries, mode, mtime: time })),
    },
  ),
})).tree;
