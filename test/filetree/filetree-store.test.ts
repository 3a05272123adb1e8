import { beforeEach, describe, expect, it } from 'vitest';
import { createFiletreeStore } from '../../src/filetree/filetree-store.ts';
import { encodeNode, type TreeNode } from '../../src/filetree/node.ts';
import { keysFromMaster } from '../../src/sealing/keys.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { counting } from './tree-model.ts';

const keys = keysFromMaster(Buffer.alloc(32, 3));
const node: TreeNode = { type: 'leaf', entries: [{ name: 'l', type: 'link', target: 't' }] };

describe('the filetree store', () => {
  let data: BlobStore;
  beforeEach(async () => {
    data = createMemoryBlobStore();
    await data.createContainer();
  });

  it('reads what it wrote, under the keyed hash of its bytes', async () => {
    const hash = await createFiletreeStore(data, keys).writeNode(node);
    expect(hash).toBe(keys.hash(encodeNode(node)));
    expect(await createFiletreeStore(data, keys).readNode(hash)).toEqual(node);
    const { body } = await data.read(`filetrees/${hash}`);
    expect(body.includes('link')).toBe(false);
  });

  it('writes a node that it knows to be there only once, and takes one that another wrote as written', async () => {
    const { store, count } = counting(data);
    const filetrees = createFiletreeStore(store, keys);
    await Promise.all([filetrees.writeNode(node), filetrees.writeNode(node)]);
    await filetrees.writeNode(node);
    expect(count.creates).toBe(1);
    await createFiletreeStore(data, keys).writeNode(node);
  });

  it('reads a node once while it is in the cache, whose size is bounded', async () => {
    const { store, count } = counting(data);
    const hash = await createFiletreeStore(data, keys).writeNode(node);
    const other = await createFiletreeStore(data, keys).writeNode({ type: 'leaf', entries: [] });
    const filetrees = createFiletreeStore(store, keys, { nodeCacheBytesMax: 100 });
    await filetrees.readNode(hash);
    await filetrees.readNode(hash);
    expect(count.reads).toBe(1);
    await filetrees.readNode(other);
    await filetrees.readNode(hash);
    expect(count.reads).toBe(3);
  });

  it('reads ahead into the cache, and leaves a failure to the one who reads', async () => {
    const { store, count } = counting(data);
    const hash = await createFiletreeStore(data, keys).writeNode(node);
    const filetrees = createFiletreeStore(store, keys);
    filetrees.readAhead([hash, 'ab'.repeat(32)]);
    expect(await filetrees.readNode(hash)).toEqual(node);
    expect(count.reads).toBe(2);
    await expect(filetrees.readNode('ab'.repeat(32))).rejects.toMatchObject({ code: 'FIRN_BLOB_MISSING' });
  });

  it('reads ahead through nodes that it has, in the order of a walk and a few at a time', async () => {
    const writing = createFiletreeStore(data, keys);
    const leaves = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        writing.writeNode({ type: 'leaf', entries: [{ name: String(n), type: 'link', target: 'x' }] }),
      ),
    );
    const pages = leaves.map((hash, n) => ({ last: String(n).padStart(2, '0'), hash, files: 1, folders: 0, bytes: 0 }));
    const [left, right] = await Promise.all(
      [pages.slice(0, 3), pages.slice(3)].map((some) => writing.writeNode({ type: 'branch', level: 1, pages: some })),
    );
    const { store, count } = counting(data);
    const filetrees = createFiletreeStore(store, keys);
    await filetrees.readNode(left ?? '');
    filetrees.readAhead([left ?? '', right ?? '']);
    // The three pages of the one, and the other.
    await expect.poll(() => count.reads).toBe(5);
    await filetrees.readNode(right ?? '');
    filetrees.readAhead([left ?? '', right ?? '']);
    await Promise.all(leaves.slice(0, 8).map((hash) => filetrees.readNode(hash)));
    expect(count.reads).toBeGreaterThanOrEqual(10);
    expect(count.reads).toBeLessThanOrEqual(5 + 8);
  });

  it('says which blob is missing, damaged, or not what its name promises', async () => {
    const hash = await createFiletreeStore(data, keys).writeNode(node);
    const blob = `filetrees/${hash}`;
    const read = () => createFiletreeStore(data, keys).readNode(hash);
    const { body } = await data.read(blob);
    await data.delete(blob);
    await expect(read()).rejects.toMatchObject({ code: 'FIRN_BLOB_MISSING', details: { blob } });

    const flipped = Buffer.from(body);
    flipped[60] = (flipped[60] ?? 0) ^ 1;
    await data.create(blob, flipped);
    await expect(read()).rejects.toMatchObject({ code: 'FIRN_SEAL_BROKEN', details: { blob } });

    await data.delete(blob);
    const other = encodeNode({ type: 'leaf', entries: [] });
    await new SealedBlobs(data, keys).create('filetree', blob, other);
    await expect(read()).rejects.toMatchObject({ code: 'FIRN_BLOB_DAMAGED', details: { blob } });
  });

  it('does not take a chunk list for a node', async () => {
    const filetrees = createFiletreeStore(data, keys);
    const hash = await filetrees.writeChunkList(['ab'.repeat(32)]);
    await expect(filetrees.readNode(hash)).rejects.toMatchObject({ code: 'FIRN_SEAL_BROKEN' });
  });

  it('keeps up to 1,024 chunks of a file in its entry and more of them in lists, and gives them back in order', async () => {
    const filetrees = createFiletreeStore(data, keys);
    for (const [length, lists] of [
      [0, 0],
      [1024, 0],
      [1025, 1],
      [4096, 1],
      [4097, 2],
      [9000, 3],
    ] as const) {
      const hashes = Array.from({ length }, (_, at) => at.toString(16).padStart(64, '0'));
      const refs = await filetrees.writeChunkRefs(hashes);
      expect('chunkLists' in refs ? refs.chunkLists.length : 0).toBe(lists);
      const fresh = createFiletreeStore(data, keys);
      expect(await Array.fromAsync(fresh.chunksOf({ refs }))).toEqual(hashes);
    }
  });
});
