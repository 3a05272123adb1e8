import { describe, expect, it } from 'vitest';
import type { FolderEntry, TreeEntry } from '../../src/filetree/entry.ts';
import {
  encodeChunkList,
  encodeNode,
  leafBytes,
  parseChunkList,
  parseNode,
  type TreeNode,
} from '../../src/filetree/node.ts';
import { pageLimits } from '../../src/filetree/paging.ts';

const hash = 'ab'.repeat(32);
const file: TreeEntry = {
  name: 'a',
  type: 'file',
  mtime: '2024-01-02T03:04:05.123456789Z',
  mode: 0o644,
  bytes: 3,
  content: hash,
  refs: { chunks: [hash] },
};
const long: TreeEntry = { name: 'b', type: 'file', bytes: 9, content: hash, refs: { chunkLists: [hash, hash] } };
const link: TreeEntry = { name: 'c"\n\u{1f600}', type: 'link', target: '../..' };
const folder: TreeEntry = { name: 'a', type: 'folder', mode: 0o755, files: 1, folders: 2, bytes: 3, tree: hash };
const empty: FolderEntry = {
  ...folder,
  name: 'e',
  files: 0,
  folders: 0,
  bytes: 0,
  tree: { type: 'leaf', entries: [] },
};
const small: FolderEntry = {
  name: 'd',
  type: 'folder',
  files: 2,
  folders: 4,
  bytes: 6,
  tree: { type: 'leaf', entries: [folder, file, empty] },
};
const leaf: TreeNode = { type: 'leaf', entries: [folder, file, long, link, small] };
const branch: TreeNode = {
  type: 'branch',
  level: 2,
  pages: [
    { last: 'm', hash, files: 1, folders: 2, bytes: 3 },
    { last: 'z', hash, files: 0, folders: 1, bytes: 0 },
  ],
};

function parse(text: string): TreeNode {
  return parseNode(Buffer.from(text), 'filetrees/x');
}

describe('a filetree node', () => {
  it('has exactly the bytes that the format describes', () => {
    expect(encodeNode(leaf).toString()).toBe(
      [
        '{"format":1,"type":"leaf","entries":[',
        `{"name":"a","type":"folder","mode":493,"files":1,"folders":2,"bytes":3,"tree":"${hash}"},`,
        '{"name":"a","type":"file","mtime":"2024-01-02T03:04:05.123456789Z","mode":420,',
        `"bytes":3,"content":"${hash}","chunks":["${hash}"]},`,
        `{"name":"b","type":"file","bytes":9,"content":"${hash}","chunkLists":["${hash}","${hash}"]},`,
        '{"name":"c\\"\\n\u{1f600}","type":"link","target":"../.."},',
        '{"name":"d","type":"folder","files":2,"folders":4,"bytes":6,"entries":[',
        `{"name":"a","type":"folder","mode":493,"files":1,"folders":2,"bytes":3,"tree":"${hash}"},`,
        '{"name":"a","type":"file","mtime":"2024-01-02T03:04:05.123456789Z","mode":420,',
        `"bytes":3,"content":"${hash}","chunks":["${hash}"]},`,
        '{"name":"e","type":"folder","mode":493,"files":0,"folders":0,"bytes":0,"entries":[]}]}]}',
      ].join(''),
    );
    expect(encodeNode(branch).toString()).toBe(
      `{"format":1,"type":"branch","level":2,"pages":[{"last":"m","hash":"${hash}","files":1,"folders":2,"bytes":3},` +
        `{"last":"z","hash":"${hash}","files":0,"folders":1,"bytes":0}]}`,
    );
  });

  it('is read back as it was', () => {
    for (const node of [leaf, branch, { type: 'leaf', entries: [] } satisfies TreeNode]) {
      expect(parseNode(encodeNode(node), 'filetrees/x')).toEqual(node);
    }
  });

  it('is refused when it has any other form, with the name of the blob', () => {
    const good = encodeNode(leaf).toString();
    const pages = encodeNode(branch).toString();
    const bad = [
      '',
      'null',
      '[]',
      '{}',
      good.replace('"format":1', '"format":0'),
      good.replace('"format":1', '"format":"1"'),
      good.replace('"leaf"', '"leaves"'),
      good.replace('"entries"', '"pages"'),
      good.replace('"format":1,', '"format":1, '),
      good.replace('"format":1,', '"format":1,"more":1,'),
      good.replace('"name":"a","type":"folder"', '"type":"folder","name":"a"'),
      good.replace('"files":1', '"files":-1'),
      good.replace('"files":1', '"files":1.5'),
      good.replace('"files":1', '"files":1e0'),
      good.replace('"files":1,', ''),
      good.replace('"bytes":9', '"bytes":9007199254740993'),
      good.replace('"mode":420', '"mode":4096'),
      good.replace('"mode":420', '"mode":null'),
      good.replace('2024-01-02T03:04:05.123456789Z', '2024-01-02 03:04:05'),
      good.replace('2024-01-02T03:04:05.123456789Z', '2024-01-02T03:04:05.1234567890Z'),
      good.replace(`"content":"${hash}"`, '"content":"ab"'),
      good.replace(`"chunks":["${hash}"]`, `"chunks":["${hash.toUpperCase()}"]`),
      good.replace(`"chunks":["${hash}"]`, `"chunks":["${hash}"],"chunkLists":["${hash}"]`),
      good.replace(`,"chunks":["${hash}"]`, ''),
      good.replace(`["${hash}","${hash}"]`, '[]'),
      good.replace(`["${hash}"]`, JSON.stringify(Array.from({ length: 1025 }, () => hash))),
      good.replace('"target":"../.."', '"target":1'),
      good.replace('"type":"link"', '"type":"device"'),
      good.replace('"name":"b"', '"name":"a"'),
      good.replace('"name":"b"', '"name":"\\ud800"'),
      good.replace('"name":"b"', '"name":1'),
      good.replace('"name":"b"', '"name":"A"'),
      good.replace('"files":2', '"files":3'),
      good.replace('"folders":4', '"folders":3'),
      good.replace('"bytes":6', '"bytes":5'),
      good.replace('"bytes":6,', `"bytes":6,"tree":"${hash}",`),
      good.replace('"entries":[]', '"entries":{}'),
      good.replace('"entries":[]', '"entries":null'),
      good.replace('"entries":[]', '"entries":[null]'),
      good.replace('"entries":[]', `"entries":[],"tree":"${hash}"`),
      good.replace(',"entries":[]', ''),
      good.replace('"name":"e"', '"name":"A"'),
      good.replace('"name":"e","type":"folder"', '"type":"folder","name":"e"'),
      pages.replace('"level":2', '"level":0'),
      pages.replace('"last":"z"', '"last":"m"'),
      pages.replace('"last":"z"', '"last":"a"'),
      pages.replace(hash, 'x'),
      pages.replace(/"pages":.*/, '"pages":[]}'),
    ];
    for (const text of bad) {
      expect(() => parse(text), text).toThrow(expect.objectContaining({ code: 'FIRN_BLOB_DAMAGED' }));
      expect(() => parse(text)).toThrow(/filetrees\/x/);
    }
    const invalid = Buffer.from(good.replace('"name":"b"', '"name":"b?"'));
    invalid[invalid.indexOf('b?') + 1] = 0xff;
    expect(() => parseNode(invalid, 'x')).toThrow(expect.objectContaining({ code: 'FIRN_BLOB_DAMAGED' }));
  });

  it('is refused when a name could lead out of the folder', () => {
    for (const name of ['', '.', '..', 'b/c', '/', 'b\0']) {
      const text = encodeNode(leaf)
        .toString()
        .replace('"name":"b"', `"name":${JSON.stringify(name)}`);
      expect(() => parse(text)).toThrow(expect.objectContaining({ code: 'FIRN_PATH_ESCAPES' }));
      const pages = encodeNode(branch)
        .toString()
        .replace('"last":"z"', `"last":${JSON.stringify(name)}`);
      expect(() => parse(pages)).toThrow(expect.objectContaining({ code: 'FIRN_PATH_ESCAPES' }));
    }
  });

  it('is refused when a folder that lies in it has a name that could lead out', () => {
    const text = encodeNode(leaf).toString().replace('"name":"e"', '"name":".."');
    expect(() => parse(text)).toThrow(expect.objectContaining({ code: 'FIRN_PATH_ESCAPES' }));
  });

  it('is refused when a folder that lies in it is one that would have a node of its own', () => {
    const holding = (target: string): TreeNode => {
      const tree = { type: 'leaf', entries: [{ ...link, target } as TreeEntry] } as const;
      return { type: 'leaf', entries: [{ name: 'd', type: 'folder', files: 1, folders: 0, bytes: 0, tree }] };
    };
    const without = leafBytes({ type: 'leaf', entries: [{ ...link, target: '' } as TreeEntry] });
    const largest = holding('x'.repeat(pageLimits.min - without - 1));
    expect(parseNode(encodeNode(largest), 'filetrees/x')).toEqual(largest);
    const larger = holding('x'.repeat(pageLimits.min - without));
    expect(() => parseNode(encodeNode(larger), 'filetrees/x')).toThrow('too large to lie in its entry');
    expect(parseNode(encodeNode(larger), 'x', { ...pageLimits, min: pageLimits.min + 1 })).toEqual(larger);
  });

  it('is refused when folders lie in each other more deeply than any may, however deeply that is', () => {
    const nested = (depth: number) => {
      const begin = (at: number) =>
        `{"name":"a","type":"folder","files":0,"folders":${depth - 1 - at},"bytes":0,"entries":[`;
      const folders = Array.from({ length: depth }, (_, at) => begin(at)).join('');
      return `{"format":1,"type":"leaf","entries":[${folders}${']}'.repeat(depth)}]}`;
    };
    expect(encodeNode(parse(nested(200))).toString()).toBe(nested(200));
    const limits = { ...pageLimits, min: pageLimits.max };
    expect(encodeNode(parseNode(Buffer.from(nested(512)), 'x', limits)).toString()).toBe(nested(512));
    for (const depth of [513, 5_000, 100_000]) {
      expect(() => parseNode(Buffer.from(nested(depth)), 'x', limits)).toThrow(/deeper/);
    }
  });

  it('of a newer format is refused as such', () => {
    expect(() => parse('{"format":2,"type":"garden"}')).toThrow(
      expect.objectContaining({ code: 'FIRN_REPOSITORY_NEWER' }),
    );
  });
});

describe('a chunk list', () => {
  it('is its hashes, one after another', () => {
    const hashes = [hash, 'cd'.repeat(32)];
    const body = encodeChunkList(hashes);
    expect(body.toString('hex')).toBe(hashes.join(''));
    expect(parseChunkList(body, 'filetrees/x')).toEqual(hashes);
  });

  it('is refused when its length is not that of 1 to 4,096 hashes', () => {
    for (const bytes of [0, 31, 33, 4097 * 32]) {
      expect(() => parseChunkList(Buffer.alloc(bytes), 'x')).toThrow(
        expect.objectContaining({ code: 'FIRN_BLOB_DAMAGED' }),
      );
    }
  });
});
