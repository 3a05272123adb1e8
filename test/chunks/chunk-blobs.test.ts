import { describe, expect, it } from 'vitest';
import {
  hashOfChunkBlob,
  type ListedChunkBlob,
  largeMetadata,
  packedThinLocations,
  parseChunkBlob,
  tarHashOfThinBlob,
  tarMetadata,
  thinMetadata,
} from '../../src/chunks/chunk-blobs.ts';
import { type ChunkLocation, LocationTable } from '../../src/chunks/location.ts';

const hash = 'a'.repeat(64);
const parent = 'b'.repeat(64);
const name = `chunks/${hash}`;
const listed = (item: Partial<ListedChunkBlob>): ListedChunkBlob => ({
  name,
  bytes: 0,
  metadata: {},
  tier: 'Hot',
  ...item,
});
const bundled: ChunkLocation = {
  hash,
  blob: parent,
  kind: 'tar',
  frameOffset: 1000,
  frameBytes: 200,
  offsetInFrame: 512,
  rawBytes: 300,
  tier: 'Archive',
};

describe('the names of chunk blobs', () => {
  it('are those with a whole hash', () => {
    expect(hashOfChunkBlob(name)).toBe(hash);
    expect(tarHashOfThinBlob(`thin/${hash}`)).toBe(hash);
    for (const other of [
      'chunks/',
      `chunks/${hash}0`,
      `chunks/x/${hash}`,
      hash,
      `thin/${hash}`,
      `chunks/${hash.toUpperCase()}`,
    ]) {
      expect(hashOfChunkBlob(other)).toBeUndefined();
    }
  });
});

describe('what a listing says of a chunk blob', () => {
  it('locates a large chunk', () => {
    const location = {
      hash,
      blob: hash,
      kind: 'large',
      frameOffset: 0,
      frameBytes: 77,
      offsetInFrame: 0,
      rawBytes: 100,
      tier: 'Cold',
    };
    const metadata = largeMetadata(100, 77);
    expect(parseChunkBlob(listed({ bytes: 77, metadata, tier: 'Cold' }))).toEqual({ is: 'large', location });
    const unknownBefore = largeMetadata(100, undefined);
    expect(parseChunkBlob(listed({ bytes: 77, metadata: unknownBefore, tier: 'Cold' }))).toEqual({
      is: 'large',
      location,
    });
  });

  it('gives the frames of a tar chunk', () => {
    const frames = [
      { members: 3, storedBytes: 1000 },
      { members: 1, storedBytes: 50 },
    ];
    expect(parseChunkBlob(listed({ bytes: 1050, metadata: tarMetadata(9000, frames), tier: 'Archive' }))).toEqual({
      is: 'tar',
      tar: { hash, rawBytes: 9000, members: 4, frames, tier: 'Archive' },
    });
  });

  it('locates a bundled chunk from its thin blob alone', () => {
    const metadata = thinMetadata(bundled);
    expect(parseChunkBlob(listed({ metadata, tier: 'Cool' }))).toEqual({ is: 'thin', location: bundled });
  });

  it('asks for the body of a thin blob of the legacy form, and understands it', () => {
    const { firn_parent: _, ...metadata } = thinMetadata(bundled);
    const item = listed({ metadata, bytes: 64 });
    expect(parseChunkBlob(item)).toEqual({ is: 'legacy-thin', hash });
    expect(parseChunkBlob(item, Buffer.from(parent))).toEqual({ is: 'thin', location: bundled });
    expect(parseChunkBlob(item, Buffer.from('nonsense'))).toMatchObject({ is: 'damaged' });
    expect(parseChunkBlob({ ...item, bytes: 0 })).toMatchObject({ is: 'damaged' });
  });

  it('ignores what is not ours', () => {
    expect(parseChunkBlob(listed({}))).toEqual({ is: 'foreign' });
    expect(parseChunkBlob(listed({ metadata: { type: 'large' } }))).toEqual({ is: 'foreign' });
    expect(parseChunkBlob(listed({ name: 'chunks/readme.txt', metadata: largeMetadata(1, 1) }))).toEqual({
      is: 'foreign',
    });
  });

  const tarItem = listed({ bytes: 10, metadata: tarMetadata(5, [{ members: 1, storedBytes: 10 }]) });
  it.each<[string, ListedChunkBlob, object, string]>([
    ['another length', listed({ bytes: 10, metadata: largeMetadata(5, 10) }), { firn_stored_bytes: '11' }, 'length'],
    ['a newer format', listed({ bytes: 10, metadata: largeMetadata(5, 10) }), { firn_format: '2' }, 'format version 2'],
    ['an unknown type', listed({ bytes: 10, metadata: largeMetadata(5, 10) }), { firn_type: 'huge' }, 'huge'],
    ['no number', listed({ bytes: 10, metadata: largeMetadata(5, 10) }), { firn_raw_bytes: '-1' }, 'firn_raw_bytes'],
    ['frames that are too short', tarItem, { firn_frames: '1:9' }, 'add up'],
    ['frames of other members', tarItem, { firn_frames: '2:10' }, 'add up'],
    ['frames that make no sense', tarItem, { firn_frames: 'x' }, 'firn_frames'],
    ['a parent that is no hash', listed({ metadata: thinMetadata(bundled) }), { firn_parent: 'b' }, 'tar chunk'],
    ['no offset', listed({ metadata: thinMetadata(bundled) }), { firn_frame_offset: '' }, 'firn_frame_offset'],
  ])('names the problem of a blob with %s', (_what, item, change, problem) => {
    expect(parseChunkBlob(item)).not.toMatchObject({ is: 'damaged' });
    expect(parseChunkBlob({ ...item, metadata: { ...item.metadata, ...change } })).toEqual({
      is: 'damaged',
      problem: expect.stringContaining(problem),
    });
  });
});

describe('the packed pointers of a tar chunk', () => {
  it('locate its members', () => {
    expect(packedThinLocations(`thin/${parent}`, LocationTable.of([bundled]))).toEqual([bundled]);
  });

  it('are refused when they point into another', () => {
    const read = () => packedThinLocations(`thin/${hash}`, LocationTable.of([bundled]));
    expect(read).toThrow(expect.objectContaining({ code: 'FIRN_BLOB_DAMAGED' }));
  });
});
