import { describe, expect, it } from 'vitest';
import { normalizePath, outermost } from '../../src/restore/selection.ts';

describe('the paths that a user names', () => {
  it.each([
    ['/docs/', 'docs'],
    ['./docs//a', 'docs/a'],
    ['docs', 'docs'],
    ['/', ''],
    ['.', ''],
    [' a ', ' a '],
    ['../a', '../a'],
  ])('takes «%s» as «%s»', (typed, path) => {
    expect(normalizePath(typed)).toBe(path);
  });

  it('leaves out what lies below another', () => {
    const outermostOf = (...paths: string[]) => outermost(paths.map((path) => ({ path }))).map(({ path }) => path);
    expect(outermostOf('a/b', 'a', 'ab', 'c/d/e', 'c/d')).toEqual(['a', 'ab', 'c/d']);
    expect(outermostOf('a', '')).toEqual(['']);
  });
});
