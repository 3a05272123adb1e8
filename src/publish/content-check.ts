/**
 * Asks whether the content of files is really on storage: each chunk is in the index, and its chunk blob is there and
 * long enough. The index alone may be wrong about that, and what is deleted on its word may have been the last copy. It
 * promises nothing about the bytes of the blobs, which only reading them would tell.
 *
 * A blob is asked for once, as long as no more than some thousand others were meanwhile.
 */
import { LRUCache } from 'lru-cache';
import type { FileContent } from '../filetree/entry.ts';
import { stillTrue } from '../index/repair-root.ts';
import type { Hash } from '../sealing/keys.ts';
import type { BlobProperties, CallOptions } from '../storage/blob-store.ts';
import type { PublishParts } from './parts.ts';

const CHUNKS_AT_ONCE = 1024;
const BLOBS_KNOWN_MAX = 16 * 1024;

/** @returns what is wrong; undefined where all of the content is there. */
export type ContentCheck = (file: FileContent, options?: CallOptions) => Promise<string | undefined>;

/**
 * For one run: what it found is not asked again.
 * @throws storage errors, FIRN_REPAIR_UNFINISHED, and what `chunksOf` and `lookup` throw where what they read is damaged.
 */
export function createContentCheck(parts: Pick<PublishParts, 'data' | 'filetrees' | 'createIndex'>): ContentCheck {
  const { data, filetrees } = parts;
  const index = parts.createIndex();
  const known = new LRUCache<string, Promise<BlobProperties>>({ max: BLOBS_KNOWN_MAX });
  const properties = async (name: string, options?: CallOptions) => {
    const asked = known.get(name) ?? data.store.properties(name, options);
    known.set(name, asked);
    return await asked;
  };

  async function problemOfChunks(hashes: ReadonlySet<Hash>, options?: CallOptions): Promise<string | undefined> {
    const found = await index.lookup(hashes, options);
    if (found.size < hashes.size) return 'a chunk of it is not in the index';
    const locations = Array.from(found.values(), ({ location }) => location);
    const sound = await stillTrue({ data: { store: { properties } } }, locations, undefined, options);
    return sound.length < locations.length ? 'the blob of a chunk of it is missing or cut short' : undefined;
  }

  return async (file, options) => {
    let hashes = new Set<Hash>();
    for await (const hash of filetrees.chunksOf(file, options)) {
      hashes.add(hash);
      if (hashes.size < CHUNKS_AT_ONCE) continue;
      const problem = await problemOfChunks(hashes, options);
      if (problem !== undefined) return problem;
      hashes = new Set();
    }
    return hashes.size === 0 ? undefined : await problemOfChunks(hashes, options);
  };
}
