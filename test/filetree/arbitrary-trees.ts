/** Random lists of changes over few names, so that they often meet each other. */
import fc from 'fast-check';
import { type Change, compareChanges, type PutContent } from '../../src/filetree/entry.ts';
import { fileOf } from './tree-model.ts';

const manyNames = Array.from({ length: 40 }, (_, at) => `n${String(at).padStart(2, '0')}`);
const name = fc.oneof(
  { weight: 2, arbitrary: fc.constantFrom('a', 'b', 'a.b', 'a b', 'ä', 'a\u0308', '\u{1f600}', '\uffee', '"\\') },
  { weight: 3, arbitrary: fc.constantFrom(...manyNames) },
);
const path = fc
  .oneof(
    { weight: 3, arbitrary: fc.tuple(name) },
    { weight: 2, arbitrary: fc.tuple(fc.constantFrom('a', 'b', 'n10'), name) },
    { weight: 1, arbitrary: fc.array(fc.constantFrom('a', 'b'), { minLength: 1, maxLength: 5 }) },
  )
  .map((names) => names.join('/'));

const attributes = fc.record(
  {
    mtime: fc.constantFrom('2024-01-02T03:04:05Z', '2024-01-02T03:04:05.000000001Z'),
    mode: fc.constantFrom(0o644, 0o755, 0),
  },
  { requiredKeys: [] },
);
const entry: fc.Arbitrary<PutContent> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.tuple(fc.constantFrom('', 'x', 'yy', 'zzz'), attributes).map(([text, a]) => fileOf(text, a)),
  },
  { weight: 1, arbitrary: attributes.map((a): PutContent => ({ type: 'folder', ...a })) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.constantFrom('../..', '/etc/passwd', 'a\nb'), attributes)
      .map(([target, a]): PutContent => ({ type: 'link', target, ...a })),
  },
);
const change: fc.Arbitrary<Change> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ path, op: fc.constant('put' as const), entry }) },
  { weight: 1, arbitrary: fc.record({ path, op: fc.constant('remove' as const) }) },
);

/** Sorted, and at most one change of a kind for a path, as `applyChanges` takes them. */
export function changeLists(options: { maxLength: number }): fc.Arbitrary<Change[]> {
  return fc.array(change, options).map((changes) => {
    const sorted = changes.sort(compareChanges);
    return sorted.filter((each, at) => {
      const before = sorted[at - 1];
      return before === undefined || compareChanges(before, each) < 0;
    });
  });
}
