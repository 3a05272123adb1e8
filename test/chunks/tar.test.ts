import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tarEntryBytes, tarHeader, tarPadding, tarTrailer } from '../../src/chunks/tar.ts';
import { untar } from './writing.ts';

const name = '0123456789abcdef'.repeat(4);

describe('a tar stream', () => {
  it('is understood by others, whatever the sizes of its members', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 3000 }), { maxLength: 5 }), async (lengths) => {
        const parts = lengths.map((bytes) =>
          Buffer.concat([tarHeader(name, bytes), Buffer.alloc(bytes, 'x'), tarPadding(bytes)]),
        );
        expect(parts.map((part) => part.length)).toEqual(lengths.map(tarEntryBytes));
        const members = await untar(Buffer.concat([...parts, tarTrailer]));
        expect(members.map(({ bytes }) => bytes.toString())).toEqual(lengths.map((bytes) => 'x'.repeat(bytes)));
      }),
      { numRuns: 50 },
    );
  });

  it('says the same of every member but its name and size', async () => {
    const [member] = await untar(Buffer.concat([tarHeader(name, 0), tarTrailer]));
    expect(member!.header).toMatchObject({
      name,
      size: 0,
      mode: 0o644,
      uid: 0,
      gid: 0,
      uname: '',
      gname: '',
      type: 'file',
    });
    expect(member!.header.mtime?.getTime()).toBe(0);
  });

  it('can say sizes up to 8 GiB, and no more', async () => {
    const size = 8 * 1024 ** 3 - 1;
    expect(tarHeader(name, size).toString('latin1', 124, 136)).toBe('77777777777\0');
    expect(() => tarHeader(name, size + 1)).toThrow(RangeError);
  });
});
