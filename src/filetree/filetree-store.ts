/**
 * Filetree nodes and chunk lists on storage, read and written by their hash.
 *
 * Promises: what is read was authenticated by its seal, re-hashed against its name, and has the one form that a writer
 * gives it. A promise of a write resolves when the blob is durable; a node that is known to be there is not written
 * again. Memory is bounded: a small cache of parsed nodes, and a window of hashes that are known to exist. Nothing is
 * ever replaced or deleted here.
 */
import { LRUCache } from 'lru-cache';
import { FirnError } from '../errors.ts';
import type { SealedKind } from '../sealing/frame.ts';
import type { Hash, Keys } from '../sealing/keys.ts';
import { SealedBlobs } from '../sealing/sealed-blobs.ts';
import { type BlobStore, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import type { ChunkRefs } from './entry.ts';
import {
  encodeChunkList,
  encodeNode,
  INLINE_CHUNKS_MAX,
  LIST_CHUNKS_MAX,
  nodesBelow,
  parseChunkList,
  parseNode,
  type TreeNode,
} from './node.ts';
import { pageLimits as formatLimits, type PageLimits, type PageRule, pageRule } from './paging.ts';

export interface FiletreeStoreOptions {
  /** Memory for parsed nodes, in bytes of their JSON; 8 MiB where undefined, 0 for none. */
  readonly nodeCacheBytesMax?: number;
  /** Another page size, for tests: trees of one repository must all be cut alike. */
  readonly pageLimits?: PageLimits;
}

export interface FiletreeStore {
  /** Where the folders of this repository are cut into pages. */
  readonly endsPage: PageRule;
  readonly pageLimits: PageLimits;
  /** @throws FIRN_BLOB_MISSING, FIRN_BLOB_OFFLINE, FIRN_SEAL_BROKEN, FIRN_BLOB_DAMAGED, FIRN_PATH_ESCAPES, FIRN_REPOSITORY_NEWER. */
  readNode(hash: Hash, options?: CallOptions): Promise<TreeNode>;
  /**
   * Begins to read nodes that will be needed soon, in this order, and what lies below those that are known: the next few, as
   * far as the cache and the reads under way allow. Never fails.
   */
  readAhead(hashes: Iterable<Hash>, options?: CallOptions): void;
  /** Resolves when the node is durable. */
  writeNode(node: TreeNode, options?: CallOptions): Promise<Hash>;
  /** The same for who needs the hash at once; `durable` is undefined where the node is known to be there. */
  startWrite(node: TreeNode, options?: CallOptions): { hash: Hash; durable: Promise<void> | undefined };
  /** Writes 1 to 4,096 chunk hashes; resolves when the list is durable. */
  writeChunkList(hashes: readonly Hash[], options?: CallOptions): Promise<Hash>;
  /** The chunks of a file of any length in the form that its entry needs; lists are durable when it resolves. */
  writeChunkRefs(hashes: AsyncIterable<Hash> | Iterable<Hash>, options?: CallOptions): Promise<ChunkRefs>;
  /** The chunk hashes of a file in order, in memory bounded by one list. @throws as `readNode`. */
  chunksOf(entry: { readonly refs: ChunkRefs }, options?: CallOptions): AsyncGenerator<Hash>;
}

const NODE_CACHE_BYTES_MAX = 8 * 1024 * 1024;
const KNOWN_HASHES_MAX = 16 * 1024;
const READS_AHEAD_MAX = 8;
/** Nodes that are looked at, read or not, for what to read ahead: some 320 KiB each, in a cache of 8 MiB. */
const NODES_AHEAD_MAX = 16;

export function filetreeBlob(hash: Hash): string {
  return `filetrees/${hash}`;
}

export function createFiletreeStore(data: BlobStore, keys: Keys, options: FiletreeStoreOptions = {}): FiletreeStore {
  const blobs = new SealedBlobs(data, keys);
  const { pageLimits = formatLimits } = options;
  const cacheBytesMax = options.nodeCacheBytesMax ?? NODE_CACHE_BYTES_MAX;
  const nodes = cacheBytesMax > 0 ? new LRUCache<Hash, TreeNode>({ maxSize: cacheBytesMax }) : undefined;
  const known = new LRUCache<Hash, true>({ max: KNOWN_HASHES_MAX });
  const writing = new Map<Hash, Promise<void>>();
  const reading = new Map<Hash, Promise<TreeNode>>();

  async function readBody(kind: SealedKind, hash: Hash, call: CallOptions): Promise<Buffer> {
    const blob = filetreeBlob(hash);
    try {
      const { body } = await blobs.get(kind, blob, call);
      if (keys.hash(body) !== hash) {
        throw new FirnError('FIRN_BLOB_DAMAGED', {
          blob,
          problem: 'its content is not the one that its name promises',
        });
      }
      known.set(hash, true);
      return body;
    } catch (error) {
      if (isBlobFailure(error, 'offline')) throw new FirnError('FIRN_BLOB_OFFLINE', { blob }, { cause: error });
      throw error;
    }
  }

  async function readThrough(hash: Hash, call: CallOptions): Promise<TreeNode> {
    const cached = nodes?.get(hash);
    if (cached !== undefined) return cached;
    // A node of this process that is on its way to storage is there when it has arrived; if it does not, the read says so.
    await writing.get(hash)?.catch(() => undefined);
    const body = await readBody('filetree', hash, call);
    const node = parseNode(body, filetreeBlob(hash), pageLimits);
    nodes?.set(hash, node, { size: body.length });
    return node;
  }

  /** In the order of a walk; what is below a node that is not read yet nobody knows. */
  function* unreadAmong(hashes: Iterable<Hash>): Generator<Hash> {
    const iterators = [hashes[Symbol.iterator]()];
    for (let looked = 0; looked < NODES_AHEAD_MAX && nodes !== undefined; looked += 1) {
      let next = iterators.at(-1)?.next();
      while (next?.done) {
        iterators.pop();
        next = iterators.at(-1)?.next();
      }
      if (next === undefined) return;
      const node = nodes.peek(next.value);
      if (node === undefined) yield next.value;
      else iterators.push(nodesBelow(node));
    }
  }

  async function create(kind: SealedKind, hash: Hash, body: Buffer, call: CallOptions): Promise<void> {
    await blobs.create(kind, filetreeBlob(hash), body, call);
    known.set(hash, true);
  }

  /** One write of a hash at a time. Who finds another's write under way, and sees it fail, tries on its own. */
  function startBody(kind: SealedKind, hash: Hash, body: Buffer, call: CallOptions): Promise<void> | undefined {
    if (known.get(hash)) return undefined;
    const other = writing.get(hash);
    const durable = other
      ? other.catch(() => create(kind, hash, body, call))
      : create(kind, hash, body, call).finally(() => {
          if (writing.get(hash) === durable) writing.delete(hash);
        });
    if (!other) writing.set(hash, durable);
    return durable;
  }

  function startWrite(node: TreeNode, call: CallOptions = {}) {
    const body = encodeNode(node);
    const hash = keys.hash(body);
    return { hash, durable: startBody('filetree', hash, body, call) };
  }

  async function writeChunkList(hashes: readonly Hash[], call: CallOptions = {}): Promise<Hash> {
    const body = encodeChunkList(hashes);
    const hash = keys.hash(body);
    await startBody('chunk-list', hash, body, call);
    return hash;
  }

  return {
    endsPage: pageRule(keys, pageLimits),
    pageLimits,
    startWrite,
    writeChunkList,

    async readNode(hash, call = {}) {
      const ahead = reading.get(hash);
      // What went wrong there, or was cancelled there, is tried again for this caller.
      if (ahead !== undefined) return await ahead.catch(() => readThrough(hash, call));
      return await readThrough(hash, call);
    },

    readAhead(hashes, call = {}) {
      for (const hash of unreadAmong(hashes).take(READS_AHEAD_MAX)) {
        if (reading.size >= READS_AHEAD_MAX) return;
        if (reading.has(hash)) continue;
        const ahead = readThrough(hash, call);
        reading.set(hash, ahead);
        // A failure is for whoever reads the node: `readNode` meets it again.
        ahead.catch(() => undefined).finally(() => reading.delete(hash));
      }
    },

    async writeNode(node, call) {
      const { hash, durable } = startWrite(node, call);
      await durable;
      return hash;
    },

    async writeChunkRefs(hashes, call) {
      const chunkLists: Hash[] = [];
      let pending: Hash[] = [];
      for await (const hash of hashes) {
        if (pending.length === LIST_CHUNKS_MAX) {
          chunkLists.push(await writeChunkList(pending, call));
          pending = [];
        }
        pending.push(hash);
      }
      if (chunkLists.length === 0 && pending.length <= INLINE_CHUNKS_MAX) return { chunks: pending };
      chunkLists.push(await writeChunkList(pending, call));
      return { chunkLists };
    },

    async *chunksOf({ refs }, call = {}) {
      if ('chunks' in refs) {
        yield* refs.chunks;
        return;
      }
      for (const list of refs.chunkLists) {
        yield* parseChunkList(await readBody('chunk-list', list, call), filetreeBlob(list));
      }
    },
  };
}
