import { describe, expect, test } from 'vitest';
import { isShardPrefix, RootView } from '../../src/index/root-view.ts';

const shard = { etag: '"1"', storedBytes: 1 };

function viewOf(...prefixes: string[]): RootView {
  const view = new RootView();
  for (const prefix of prefixes) view.set(prefix, shard);
  return view;
}

const hash = 'a3c'.padEnd(64, '0');

describe('the place of a new location', () => {
  test.each([
    { shards: [], place: 'a', why: 'the root, where there is nothing' },
    { shards: ['a'], place: 'a', why: 'the root shard' },
    { shards: ['a', 'a3'], place: 'a', why: 'the shallowest of several on its path' },
    { shards: ['a3', 'a4'], place: 'a3', why: 'the child on its path' },
    { shards: ['a4'], place: 'a3', why: 'a new sibling, where the root was split' },
    { shards: ['a3d', 'a4'], place: 'a3c', why: 'a new sibling, as deep as the layout is there' },
    { shards: ['a3c1', 'a4'], place: 'a3c0', why: 'a new sibling of the only one that is deeper' },
  ])('is $why', ({ shards, place }) => {
    expect(viewOf(...shards).placeOf(hash)).toBe(place);
  });

  test('when a parent is pushed down is below it, in the layout there', () => {
    expect(viewOf('a').placeOf(hash, 2)).toBe('a3');
    expect(viewOf('a', 'a3d').placeOf(hash, 2)).toBe('a3c');
    expect(viewOf('a', 'a3', 'a3c').placeOf(hash, 2)).toBe('a3');
  });
});

test('a view names the shards with others below them, the shallowest first, until they are gone', () => {
  const view = viewOf('a3', 'a', 'a3c', 'a7');
  expect(view.overlapping()).toEqual(['a', 'a3']);
  view.delete('a');
  expect(view.overlapping()).toEqual(['a3']);
  view.delete('a3c');
  expect(view.overlapping()).toEqual([]);
  expect(view.hasBelow('a')).toBe(true);
  expect(view.size).toBe(2);
});

test.each(['g', 'A', 'xy', 'a/c', '', 'a'.repeat(65)])('«%s» is no name of a shard', (text) => {
  expect(isShardPrefix(text)).toBe(false);
});
