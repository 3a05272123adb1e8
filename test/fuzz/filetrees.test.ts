/** Filetree nodes and chunk lists: bytes that were changed, and whole trees that nobody would write. */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { FolderListing } from '../../src/archive/folder-listing.ts';
import { scanFolder } from '../../src/archive/folder-source.ts';
import type { ArchiveItem } from '../../src/archive/item.ts';
import { applyChanges } from '../../src/filetree/apply-changes.ts';
import { compareTrees } from '../../src/filetree/compare.ts';
import {
  compareNames,
  comparePaths,
  type FileEntry,
  type FolderEntry,
  type LeafNode,
  type TreeEntry,
} from '../../src/filetree/entry.ts';
import { filetreeBlob } from '../../src/filetree/filetree-store.ts';
import {
  encodeNode,
  haveSameTotals,
  leafBytes,
  parseChunkList,
  parseNode,
  type TreeNode,
  totalsOfNode,
} from '../../src/filetree/node.ts';
import { pageLimits } from '../../src/filetree/paging.ts';
import { findEntry, listFolder, walkTree } from '../../src/filetree/walk.ts';
import type { Repository } from '../../src/repository.ts';
import { restoreTree } from '../../src/restore/restore-tree.ts';
import type { Hash } from '../../src/sealing/keys.ts';
import { hashOf } from '../kit/arbitraries.ts';
import { describeTree, temporaryFolder } from '../kit/local-tree.ts';
import { createTestRepository } from '../kit/repository.ts';
import { archivedRoot } from '../restore/restoring.ts';
import {
  anyEdits,
  anyHostileJson,
  edited,
  type HostileJson,
  hostileJson,
  outcomeOf,
  patient,
  runs,
  watchMemory,
} from './hostile.ts';

afterAll(watchMemory());

const chunk = hashOf('a chunk');
const attributes = { mtime: '2024-01-02T03:04:05.123456789Z', mode: 0o644 };
const file = (name: string, bytes = 3): FileEntry => ({
  ...attributes,
  name,
  type: 'file',
  bytes,
  content: chunk,
  refs: { chunks: [chunk] },
});
const link = (name: string): TreeEntry => ({ ...attributes, name, type: 'link', target: '../elsewhere' });
const folder = (name: string, tree: Hash, files: number, bytes: number): FolderEntry => ({
  name,
  type: 'folder',
  mode: 0o755,
  files,
  folders: 0,
  bytes,
  tree,
});
/** One that lies in its entry. */
const small = (name: string, ...entries: TreeEntry[]): FolderEntry => {
  const tree: LeafNode = { type: 'leaf', entries };
  return { name, type: 'folder', ...totalsOfNode(tree), tree };
};
const listed: FileEntry = {
  name: 'z',
  type: 'file',
  bytes: 9,
  content: chunk,
  refs: { chunkLists: [hashOf('list'), hashOf('last')] },
};

const leaves: LeafNode[] = [
  { type: 'leaf', entries: [file('a'), file('b', 5)] },
  { type: 'leaf', entries: [link('c'), folder('d', hashOf('tree'), 2, 8), file('d'), listed] },
  { type: 'leaf', entries: [] },
  {
    type: 'leaf',
    entries: [small('b', file('c')), small('d', small('e'), small('f', folder('d', hashOf('tree'), 2, 8)))],
  },
];
const branch: TreeNode = {
  type: 'branch',
  level: 1,
  pages: [
    { last: 'b', hash: hashOf('page 1'), files: 2, folders: 0, bytes: 8 },
    { last: 'z', hash: hashOf('page 2'), files: 5, folders: 1, bytes: 20 },
  ],
};
const nodes: unknown[] = [...leaves, branch].map((node) => JSON.parse(encodeNode(node).toString()));

const tempting = [
  ...['"a"', '"b"', '"c"', '"c."', '"aa"', '"a/"', '"\\u0001"', '"ä"', '"a\\u0308"', '"con"', '"-rf"', '"~"', '"..."'],
  ...['"leaf"', '"branch"', '"file"', '"link"', '"folder"', '2', '3', '8', '511', '4095', '4096', `"${chunk}"`],
  ...['"2024-01-02T03:04:05Z"', '"2024-13-02T03:04:05Z"', '"2024-02-30T24:60:60Z"', '"0000-01-01T00:00:00Z"'],
  ...['"9999-12-31T23:59:59.999999999Z"', '"/etc/passwd"', '"a\\u0000b"', '"x\\ud800"', `["${chunk}"]`, '[[]]'],
];

function expectSound(node: TreeNode): void {
  expect(Object.values(totalsOfNode(node)).every(Number.isSafeInteger)).toBe(true);
  const names = node.type === 'leaf' ? node.entries.map(({ name }) => name) : node.pages.map(({ last }) => last);
  for (const [at, name] of names.entries()) {
    expect(name).not.toMatch(/^\.{0,2}$|[/\0]/);
    if (at > 0) expect(compareNames(names[at - 1] ?? '', name)).toBeLessThanOrEqual(0);
  }
  if (node.type === 'branch') return;
  for (const entry of node.entries) {
    if (entry.type !== 'folder' || typeof entry.tree === 'string') continue;
    expect(haveSameTotals(entry, totalsOfNode(entry.tree))).toBe(true);
    expect(leafBytes(entry.tree)).toBeLessThan(pageLimits.min);
    expectSound(entry.tree);
  }
}

describe('a filetree node', () => {
  it('that was changed is in its one form, with names that stay in their folder, or is refused', patient, async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: nodes.length - 1 }), anyHostileJson(tempting), async (at, hostile) => {
        const body = hostileJson(nodes[at], hostile, nodes);
        const outcome = await outcomeOf(() => parseNode(body, 'a node'));
        if (!('value' in outcome)) {
          expect(outcome.error).toMatchObject({ code: expect.stringMatching(/BLOB_DAMAGED|PATH_ESCAPES|NEWER/) });
          return;
        }
        expect(encodeNode(outcome.value).equals(body)).toBe(true);
        expectSound(outcome.value);
      }),
      runs(500),
    );
  });
});

describe('a chunk list', () => {
  it('that was changed has whole hashes, or is refused', patient, async () => {
    const valid = Buffer.from([chunk, hashOf('2'), hashOf('3')].join(''), 'hex');
    await fc.assert(
      fc.asyncProperty(anyEdits, async (edits) => {
        const body = edited(valid, edits, [valid]);
        const outcome = await outcomeOf(() => parseChunkList(body, 'a list'));
        if ('value' in outcome) expect(Buffer.from(outcome.value.join(''), 'hex').equals(body)).toBe(true);
      }),
      runs(200),
    );
  });
});

describe('a branch', () => {
  it('of a level that no folder has is refused, and not built upon', async () => {
    for (const level of [65, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
      const outcome = await outcomeOf(() => parseNode(encodeNode({ ...branch, level }), 'a node'));
      expect(outcome).toMatchObject({ error: { code: 'FIRN_BLOB_DAMAGED' } });
    }
  });
});

/** Stores bytes under the hash that they have, as only somebody with the keys could. */
async function put({ data, keys }: Repository, kind: 'filetree' | 'chunk-list', body: Buffer): Promise<Hash> {
  const hash = keys.hash(body);
  await data.create(kind, filetreeBlob(hash), body);
  return hash;
}

interface HostileTree {
  readonly hostile: readonly (HostileJson | undefined)[];
}
const anyTree: fc.Arbitrary<HostileTree> = fc.record({
  hostile: fc.array(fc.option(anyHostileJson(tempting), { nil: undefined }), { minLength: 6, maxLength: 6 }),
});

/** A tree of two pages, one of which holds a folder; each of its nodes may be hostile, and all have the right hashes. */
async function putTree(repository: Repository, { hostile }: HostileTree): Promise<Hash> {
  const content = Buffer.from('abc');
  const content5 = repository.keys.hash(Buffer.from('abcde'));
  const chunks = repository.keys.hash(content);
  const bodyOf = (node: TreeNode, at: number) => {
    const json: unknown = JSON.parse(encodeNode(node).toString());
    const edits = hostile[at];
    return edits === undefined ? encodeNode(node) : hostileJson(json, edits, nodes);
  };
  const withContent = (entry: FileEntry): TreeEntry => {
    const hash = entry.bytes === 3 ? chunks : content5;
    return { ...entry, content: hash, refs: { chunks: [hash] } };
  };
  const below = await put(
    repository,
    'filetree',
    bodyOf({ type: 'leaf', entries: [file('in 1'), file('in 2', 5)].map(withContent) }, 0),
  );
  const list = Buffer.from(chunks.repeat(3), 'hex');
  const lists = [
    await put(repository, 'chunk-list', hostile[1] === undefined ? list : edited(list, hostile[1].bytes, [list])),
  ];
  const nine: FileEntry = {
    ...listed,
    content: repository.keys.hash(Buffer.from('abcabcabc')),
    refs: { chunkLists: lists },
  };
  const holding = small('e', withContent(file('f', 5)), folder('g', below, 2, 8));
  const pages = [
    [file('a'), file('b', 5)].map(withContent),
    [link('c'), folder('d', below, 2, 8), withContent(file('d')), holding, nine],
  ];
  const hashes = await Promise.all(
    pages.map(async (entries, at) => await put(repository, 'filetree', bodyOf({ type: 'leaf', entries }, at + 2))),
  );
  const refs = [
    { last: 'b', hash: hashes[0] ?? '', files: 2, folders: 0, bytes: 8 },
    { last: 'z', hash: hashes[1] ?? '', files: 8, folders: 3, bytes: 33 },
  ];
  return await put(repository, 'filetree', bodyOf({ type: 'branch', level: 1, pages: refs }, 4));
}

const whole: HostileTree = { hostile: [] };

async function scanOfEmptyFolder({ filetrees }: Repository, root: Hash): Promise<ArchiveItem[]> {
  using listing = new FolderListing(await temporaryFolder(), new Date());
  const base = { filetrees, root, lastScan: Promise.resolve(undefined) };
  return await Array.fromAsync(scanFolder({ listing, base }, { unchangedFiles: 0, unchangedBytes: 0 }));
}

/** A new repository with the two chunks that the files have; storage in memory goes with it. */
async function createWithChunks(): Promise<Repository> {
  const { repository } = await createTestRepository({ encrypted: true });
  const index = repository.createIndex();
  const writer = repository.createWriter((locations) => index.record(locations), undefined);
  for (const text of ['abc', 'abcde']) await writer.add(repository.keys.hash(Buffer.from(text)), Buffer.from(text));
  await writer.finish();
  await index.flush();
  return repository;
}

describe('a filetree whose nodes have their hashes, and make no sense', () => {
  it('is walked in order, searched, compared and changed, or refused', patient, async () => {
    await fc.assert(
      fc.asyncProperty(anyTree, async (tree) => {
        const { repository } = await createTestRepository({ encrypted: true });
        const valid = await putTree(repository, whole);
        const root = await putTree(repository, tree);
        const { filetrees } = repository;
        const paths: string[] = [];
        await outcomeOf(async () => {
          for await (const { path: at } of walkTree(filetrees, root)) paths.push(at);
        });
        for (const [at, each] of paths.entries())
          expect(comparePaths(paths[at - 1] ?? '', each)).toBeLessThanOrEqual(0);
        const damaged = await outcomeOf(async () => {
          const found: string[] = [];
          for await (const { path: at } of walkTree(filetrees, root, { onDamaged: () => {} })) found.push(at);
          return found;
        });
        expect(damaged).toHaveProperty('value');
        for (const at of ['d/in 2', 'e/g/in 2']) await outcomeOf(() => findEntry(filetrees, root, at));
        await outcomeOf(() => Array.fromAsync(listFolder(filetrees, root)));
        await outcomeOf(() => scanOfEmptyFolder(repository, root));
        await outcomeOf(() => Array.fromAsync(compareTrees(filetrees, valid, root)));
        await outcomeOf(() => Array.fromAsync(compareTrees(filetrees, root, valid)));
        const put_ = (at: string) => ({ path: at, op: 'put', entry: { type: 'link', target: 'x' } }) as const;
        await outcomeOf(() => applyChanges(filetrees, root, ['d/in 3', 'e/g/in 3'].map(put_)));
      }),
      runs(80),
    );
  });

  it('is restored in the target folder and nowhere else, with the content that it names', patient, async () => {
    const base = await temporaryFolder();
    let run = 0;
    const restore = async (tree: HostileTree) => {
      run += 1;
      const repository = await createWithChunks();
      const root = await putTree(repository, tree);
      const { snapshot } = await archivedRoot(repository, root);
      const outside = path.join(base, String(run));
      const failed: Record<string, string> = {};
      const onFailed = (at: string, { code }: { code: string }) => {
        failed[at] = code;
      };
      const outcome = await outcomeOf(() =>
        restoreTree(repository, snapshot, path.join(outside, 'target'), { onFailed }),
      );
      expect((await readdir(outside)).join()).toBe('target');
      return { failed, outcome, files: await describeTree(path.join(outside, 'target')) };
    };
    const { failed, outcome, files } = await restore(whole);
    const inD = ['d/in 1', 'd/in 2'];
    // A file and a folder of one name: no local folder holds both.
    expect(failed).toEqual({ d: 'FIRN_TARGET_BLOCKED' });
    expect(outcome).toMatchObject({ value: { files: 8, links: 1, folders: 3 } });
    expect(Object.keys(files)).toEqual([
      'a',
      'b',
      'c',
      'd',
      ...inD,
      'e',
      'e/f',
      'e/g',
      ...inD.map((at) => `e/g${at.slice(1)}`),
      'z',
    ]);
    const contents = new Set(['abc', 'abcde', 'abcabcabc', ''].map((text) => Buffer.from(text).toString('base64')));
    await fc.assert(
      fc.asyncProperty(anyTree, async (tree) => {
        const restored = await restore(tree);
        expect(restored.outcome).toHaveProperty('value');
        for (const content of Object.values(restored.files)) {
          const [, base64] = /^file \d+ (\S*)/.exec(content) ?? [];
          if (base64 !== undefined) expect(contents.has(base64)).toBe(true);
        }
      }),
      runs(15, 300),
    );
  });
});

describe('the target of a link', () => {
  it.each(['a\0b', '\0', 'x\ud800', ''])('that no file system holds fails alone: %j', async (target) => {
    const repository = await createWithChunks();
    const entries: TreeEntry[] = [{ ...attributes, name: 'l', type: 'link', target }, { ...link('m') }];
    const root = await put(repository, 'filetree', encodeNode({ type: 'leaf', entries }));
    const { snapshot } = await archivedRoot(repository, root);
    const failed: Record<string, string> = {};
    const target_ = path.join(await temporaryFolder(), 'target');
    await restoreTree(repository, snapshot, target_, {
      onFailed: (at, { code }) => {
        failed[at] = code;
      },
    });
    expect(failed).toEqual({ l: 'FIRN_TARGET_BLOCKED' });
    expect(Object.keys(await describeTree(target_))).toEqual(['m']);
  });
});
