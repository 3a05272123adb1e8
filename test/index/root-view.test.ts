import { describe, expect, test } from 'vitest';
import { isShardPrefix, RootView } from '../../src/index/root-view.ts';

const shard = { etag: '"1"', storedBytes: 1 };

function viewOf(...prefixes: string[]): RootView {
  const view = new RootView();
  for (const prefix of prefixes) view.set(prefix, shard);
  return view;
}

const hash = 'ab3c'.padEnd(64, '0');

describe('the place of a new location', () => {
  test.each([
    { shards: [], place: 'ab', why: 'the root, where there is nothing' },
    { shards: ['ab'], place: 'ab', why: 'the root shard' },
    { shards: ['ab', 'ab3'], place: 'ab', why: 'the shallowest of several on its path' },
    { shards: ['ab3', 'ab4'], place: 'ab3', why: 'the child on its path' },
    { shards: ['ab4'], place: 'ab3', why: 'a new sibling, where the root was split' },
    { shards: ['ab3d', 'ab4'], place: 'ab3c', why: 'a new sibling, as deep as the layout is there' },
    { shards: ['ab3c1', 'ab4'], place: 'ab3c0', why: 'a new sibling of the only one that is deeper' },
  ])('is $why', ({ shards, place }) => {
    expect(viewOf(...shards).placeOf(hash)).toBe(place);
  });

  test('when a parent is pushed down is below it, in the layout there', () => {
    expect(viewOf('ab').placeOf(hash, 3)).toBe('ab3');
    expect(viewOf('ab', 'ab3d').placeOf(hash, 3)).toBe('ab3c');
    expect(viewOf('ab', 'ab3', 'ab3c').placeOf(hash, 3)).toBe('ab3');
  });
});

test('a view names the shards with others below them, the shallowest first, until they are gone', () => {
  const view = viewOf('ab3', 'ab', 'ab3c', 'ab7');
  expect(view.overlapping()).toEqual(['ab', 'ab3']);
  view.delete('ab');
  expect(view.overlapping()).toEqual(['ab3']);
  view.delete('ab3c');
  expect(view.overlapping()).toEqual([]);
  expect(view.hasBelow('ab')).toBe(true);
  expect(view.size).toBe(2);
});

test.each(['a', 'AB', 'xy', 'ab/c', '', 'a'.repeat(65)])('«%s» is no name of a shard', (text) => {
  expect(isShardPrefix(text)).toBe(false);
});
