/**
 * Reads a file of a snapshot: its chunks in order, a few of them ahead, and nothing else in memory.
 *
 * It promises that what it yields are the bytes that the snapshot names, or it ends with an error: chunks are checked by
 * the chunk reader, the size and the content hash here, before it completes. Chunks too long to be held (a repository
 * with one chunk a file) are streamed; their pieces must not be trusted before the end.
 */
import { type ChunkReader, READ_BYTES_MAX } from '../chunks/chunk-reader.ts';
import type { ChunkLocation } from '../chunks/location.ts';
import { FirnError } from '../errors.ts';
import type { FileEntry } from '../filetree/entry.ts';
import type { FiletreeStore } from '../filetree/filetree-store.ts';
import type { ChunkIndex } from '../index/chunk-index.ts';
import type { Hash, Keys } from '../sealing/keys.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { createExpectations, type Expectations, type ReadAheadBudget } from './read-ahead.ts';

/** Chunk hashes looked up at once. */
const LOOKUP_CHUNKS = 256;
/** Chunks of one file that are read at the same time. */
const CHUNKS_AHEAD_MAX = 8;

export interface ReadFileParts {
  readonly keys: Keys;
  readonly filetrees: Pick<FiletreeStore, 'chunksOf'>;
  readonly chunks: ChunkReader;
  /** Shared by the files of one restore, so that a shard is read once. Opened after the snapshot was. */
  readonly index: ChunkIndex;
  /** Shared by the files that are read at the same time. */
  readonly readAhead: ReadAheadBudget;
}

/**
 * The content of a file; buffers may be shared and must not be changed.
 * @param path for messages.
 * @throws FIRN_CHUNK_MISSING, FIRN_FILE_DAMAGED, and what the chunk reader and the filetree store throw.
 */
export async function* readFileContent(
  parts: ReadFileParts,
  path: string,
  entry: FileEntry,
  { signal }: CallOptions = {},
): AsyncGenerator<Buffer> {
  const whole = await readShortFile(parts, path, entry, { signal });
  if (whole !== undefined) {
    yield whole;
    return;
  }
  const damaged = () => new FirnError('FIRN_FILE_DAMAGED', { path });
  const hasher = onlyChunk(entry) === undefined ? parts.keys.hasher() : undefined;
  let left = entry.bytes;
  for await (const piece of chunkContents(parts, entry, { signal })) {
    left -= piece.length;
    if (left < 0) throw damaged();
    hasher?.update(piece);
    yield piece;
  }
  if (left > 0 || (hasher !== undefined && hasher.digest() !== entry.content)) throw damaged();
}

/**
 * The same at once, for a file of one chunk that can be held; undefined for any other. Errors as above.
 * @param options `location` of its first chunk, where it is known: the index is not asked then.
 */
export async function readShortFile(
  parts: ReadFileParts,
  path: string,
  entry: FileEntry,
  options: CallOptions & { readonly location?: ChunkLocation | undefined } = {},
): Promise<Buffer | undefined> {
  const chunk = onlyChunk(entry);
  if (chunk === undefined) return undefined;
  const { signal, location = await locateOne(parts, chunk, { signal }) } = options;
  const whole = await readShortChunk(parts, location, { signal });
  if (whole !== undefined && whole.length !== entry.bytes) throw new FirnError('FIRN_FILE_DAMAGED', { path });
  return whole;
}

/** The chunk of a file that has only one, whose content hash is the chunk's: the chunk reader checks it. */
function onlyChunk({ refs, content }: FileEntry): Hash | undefined {
  return 'chunks' in refs && refs.chunks.length === 1 && refs.chunks[0] === content ? content : undefined;
}

async function locateOne({ index }: ReadFileParts, hash: Hash, options: CallOptions): Promise<ChunkLocation> {
  const location = (await index.lookup([hash], options)).get(hash)?.location;
  if (location === undefined) throw new FirnError('FIRN_CHUNK_MISSING', { chunk: hash });
  return location;
}

/** @returns undefined when it is to be streamed. */
async function readShortChunk(
  { chunks, readAhead }: ReadFileParts,
  location: ChunkLocation,
  options: CallOptions,
): Promise<Buffer | undefined> {
  if (location.rawBytes > READ_BYTES_MAX) return undefined;
  const release = readAhead.take(location.rawBytes);
  try {
    return await chunks.read(location, options);
  } finally {
    release();
  }
}

/** Made once: a reason that `abort` makes for itself takes a stack each time, and nobody reads it. */
const readerLeft = new Error('The reader of the file has left.');

/** A chunk that is being read, or that waits to be streamed. */
interface Pending {
  readonly location: ChunkLocation;
  readonly content: Promise<Buffer> | undefined;
  readonly release: () => void;
}

async function* chunkContents(parts: ReadFileParts, entry: FileEntry, { signal }: CallOptions): AsyncGenerator<Buffer> {
  const { chunks, readAhead } = parts;
  const leaving = new AbortController();
  const inner = signal ? AbortSignal.any([signal, leaving.signal]) : leaving.signal;
  const expectations = createExpectations(chunks);
  const locations = locate(parts, entry, expectations, { signal: inner });
  const ahead: Pending[] = [];
  const begin = (location: ChunkLocation, release: () => void): void => {
    const content = location.rawBytes > READ_BYTES_MAX ? undefined : chunks.read(location, { signal: inner });
    // Whoever takes the chunk meets its failure; until then it must not count as unhandled.
    content?.catch(() => undefined);
    ahead.push({ location, content, release });
  };
  try {
    let next = await locations.next();
    for (;;) {
      while (!next.done && ahead.length < CHUNKS_AHEAD_MAX) {
        // The chunk that is needed now is always read; those behind it only as far as the budget allows.
        const bytes = Math.min(next.value.rawBytes, READ_BYTES_MAX);
        const release = ahead.length === 0 ? readAhead.take(bytes) : readAhead.tryTake(bytes);
        if (release === undefined) break;
        begin(next.value, release);
        next = await locations.next();
      }
      const first = ahead.shift();
      if (first === undefined) return;
      try {
        if (first.content !== undefined) yield await first.content;
        else yield* chunks.stream(first.location, { signal: inner });
      } finally {
        first.release();
      }
    }
  } finally {
    leaving.abort(readerLeft);
    for (const { release } of ahead) release();
    expectations.release();
    await locations.return(undefined);
  }
}

/** Where the chunks of a file are, in order; the reader of chunks is told of them. */
async function* locate(
  { filetrees, index }: ReadFileParts,
  entry: FileEntry,
  { expect }: Expectations,
  options: CallOptions,
): AsyncGenerator<ChunkLocation> {
  for await (const hashes of inGroups(filetrees.chunksOf(entry, options), LOOKUP_CHUNKS)) {
    const found = await index.lookup(hashes, options);
    const locations = hashes.map((hash) => found.get(hash)?.location);
    expect(locations.filter((location) => location !== undefined));
    for (const [at, location] of locations.entries()) {
      if (location === undefined) throw new FirnError('FIRN_CHUNK_MISSING', { chunk: hashes[at] ?? '' });
      yield location;
    }
  }
}

async function* inGroups(hashes: AsyncIterable<Hash>, size: number): AsyncGenerator<Hash[]> {
  let group: Hash[] = [];
  for await (const hash of hashes) {
    group.push(hash);
    if (group.length < size) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}
