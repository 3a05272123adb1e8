/** What is told of a folder, in which order, and when it is looked at. */
import { chmod, mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { FolderListing, type Listed } from '../../src/archive/folder-listing.ts';
import { temporaryFolder, temporaryFolderOf } from '../kit/local-tree.ts';

const begun = new Date();

function* rest(listing: FolderListing): Generator<Listed> {
  for (let listed = listing.next(); listed !== undefined; listed = listing.next()) yield listed;
}

/** One word for each. */
function told(listed: Iterable<Listed>): string[] {
  return [...listed].map((each) => {
    if (each.is === 'end') return each.problem === undefined ? 'end' : 'unreadable end';
    return each.is === 'there' ? `${each.attributes.type} ${each.name}` : `${each.is} ${each.name}`;
  });
}

/** In each turn it looks at one entry at least. */
async function hasLookedAhead(): Promise<void> {
  for (let turns = 0; turns < 20; turns += 1) await nextTurn();
}

describe('a listing', () => {
  it('goes below each folder before what follows it, and says where each ends', async () => {
    const folder = await temporaryFolderOf({
      b: 'a file',
      a: { type: 'folder', entries: { y: { type: 'folder', entries: {} }, x: '1' } },
      // Before «a» by its bytes.
      'Ä\n': { type: 'link', target: 'a' },
      A: '2',
    });
    const all = ['file A', 'folder a', 'file x', 'folder y', 'end', 'end', 'file b', 'link Ä\n', 'end'];
    expect(told(rest(new FolderListing(folder, begun)))).toEqual(all);
    const listing = new FolderListing(folder, begun);
    await hasLookedAhead();
    expect(told(rest(listing))).toEqual(all);
  });

  it('orders names by their bytes, and tells those that are not valid UTF-8 after all others', async () => {
    // Their order in UTF-16 is another one; the last has the sign that stands for what is not valid.
    const names = ['ﬁ', '😀', 'b\u{fffd}', 'a'];
    const folder = await temporaryFolderOf(Object.fromEntries(names.map((name) => [name, ''])));
    const valid = ['file a', 'file b\u{fffd}', 'file ﬁ', 'file 😀'];
    expect(told(rest(new FolderListing(folder, begun)))).toEqual([...valid, 'end']);
    for (const byte of [0xff, 0xfe]) {
      await writeFile(Buffer.concat([Buffer.from(`${folder}/`), Buffer.from([byte, 0x61])]), '');
    }
    const nameless = ['nameless \u{fffd}a', 'nameless \u{fffd}a'];
    expect(told(rest(new FolderListing(folder, begun)))).toEqual([...valid, ...nameless, 'end']);
  });

  it('tells sizes, times, permissions and disks', async () => {
    const before = BigInt(Date.now()) * 1_000_000n;
    const folder = await temporaryFolderOf({
      a: { type: 'file', content: '12345', mode: 0o640, mtime: 1_000_000_000 },
    });
    const [file] = rest(new FolderListing(folder, begun));
    expect(file).toEqual({
      is: 'there',
      name: 'a',
      attributes: {
        type: 'file',
        bytes: 5,
        mode: 0o640,
        mtime: 1_000_000_000_000_000_000n,
        device: expect.any(Number),
        ctime: expect.any(BigInt),
      },
    });
    // Nobody can set it to the past; the clock of a file system may be a tick behind.
    expect(file?.is === 'there' && file.attributes.ctime).toBeGreaterThan(before - 2_000_000_000n);
  });

  it('refuses what lies deeper than a filetree goes, and does not go below it', async () => {
    const folder = await temporaryFolder();
    const deep = path.join(folder, ...Array.from({ length: 513 }, () => 'd'));
    await mkdir(path.join(deep, 'below'), { recursive: true });
    await writeFile(path.join(path.dirname(deep), 'e'), '');
    const words = told(rest(new FolderListing(folder, begun)));
    expect(words.slice(0, 512)).toEqual(Array.from({ length: 512 }, () => 'folder d'));
    expect(words.slice(512, 514)).toEqual(['refused d', 'refused e']);
    expect(words.slice(514)).toEqual(Array.from({ length: 513 }, () => 'end'));
  });

  it.skipIf(process.getuid?.() === 0)(
    'says so where a folder cannot be read (not as root, who reads all)',
    async () => {
      const folder = await temporaryFolderOf({ a: { type: 'folder', entries: { b: '' } } });
      await chmod(path.join(folder, 'a'), 0o000);
      const words = told(rest(new FolderListing(folder, begun)));
      await chmod(path.join(folder, 'a'), 0o700);
      expect(words).toEqual(['folder a', 'unreadable end', 'end']);
    },
  );

  it('says so where there is no folder', async () => {
    expect(told(rest(new FolderListing(path.join(await temporaryFolder(), 'none'), begun)))).toEqual([
      'unreadable end',
    ]);
  });
});

describe('looking ahead', () => {
  const entries = { type: 'folder', entries: { b: '', c: '' } } as const;

  it('begins at once: what goes afterwards is told as it was', async () => {
    const folder = await temporaryFolderOf({ a: entries, d: '' });
    const listing = new FolderListing(folder, begun);
    await hasLookedAhead();
    await rm(folder, { recursive: true });
    expect(told(rest(listing))).toEqual(['folder a', 'file b', 'file c', 'end', 'file d', 'end']);
  });

  it('goes on when entries have been taken, and what is asked for before its turn is looked at then', async () => {
    const folder = await temporaryFolderOf({ a: entries, d: '', e: '' });
    const listing = new FolderListing(folder, begun);
    const first = [listing.next(), listing.next()] as Listed[];
    await hasLookedAhead();
    await rm(folder, { recursive: true });
    expect(told([...first, ...rest(listing)])).toEqual([
      'folder a',
      'file b',
      'file c',
      'end',
      'file d',
      'file e',
      'end',
    ]);
  });

  it('ends when the listing is given up', async () => {
    const folder = await temporaryFolderOf({ a: entries, d: '' });
    const listing = new FolderListing(folder, begun);
    listing[Symbol.dispose]();
    await hasLookedAhead();
    await rm(folder, { recursive: true });
    expect(told(rest(listing))).toEqual(['unreadable end']);
  });
});
