/**
 * The archive pipeline: items of a source in, a receipt out. Small files are read ahead in parallel, everything is
 * chunked, looked up, stored and recorded in the order of the items, so that neighbours share tar chunks.
 *
 * A file that does not stand still while it is read is read again from the start, three times at most; then it is
 * skipped and named. Chunks are named by the bytes that are stored, never by an earlier reading. A chunk that this run
 * handed to the writer and that is not durable yet counts as known; should its write fail, the whole run fails.
 */
import { pMapIterable } from 'p-map';
import type { ChunkWriter } from '../chunks/chunk-writer.ts';
import type { Chunker } from '../chunks/chunker.ts';
import type { ChunkLocation } from '../chunks/location.ts';
import { FirnError, isFirnError } from '../errors.ts';
import { type FileContent, type LinkContent, pathProblem } from '../filetree/entry.ts';
import type { FiletreeStore } from '../filetree/filetree-store.ts';
import type { ChunkIndex } from '../index/chunk-index.ts';
import type { Hash, Keys } from '../sealing/keys.ts';
import { isBlobFailure } from '../storage/blob-store.ts';
import type { ArchiveItem, OpenedItem } from './item.ts';
import type { ArchivedChange, ArchiveTotals, ReceiptWriter } from './receipt.ts';

/** Files up to this size are read ahead into memory. */
const READ_AHEAD_FILE_BYTES_MAX = 1024 * 1024;
const READ_TRIES_MAX = 3;
/** Recorded locations beyond this go to the shards at once instead of waiting in memory for the receipt. */
const RECORDED_MAX = 100_000;

export interface ArchiveProgress {
  readonly files: number;
  readonly bytes: number;
  readonly path: string;
}

export interface PipelineParts {
  readonly keys: Keys;
  /** Undefined for one chunk a file (`chunking: "file"`). */
  readonly chunker: Chunker | undefined;
  readonly index: ChunkIndex;
  readonly filetrees: FiletreeStore;
  readonly receipt: ReceiptWriter;
  /** Makes the writer of this run; it reports durable chunks to `onStored`. */
  readonly createWriter: (onStored: (locations: readonly ChunkLocation[]) => void) => ChunkWriter;
  readonly filesInFlightMax: number;
  readonly onProgress?: ((progress: ArchiveProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

type FileItem = Extract<OpenedItem, { type: 'file' }>;
type PutItem = Extract<ArchiveItem, { op: 'put' }>;

/** An item after the part of the work that is done ahead and in parallel. */
type Prepared =
  | { readonly item: ArchiveItem; readonly kind: 'as-it-is' }
  | { readonly item: PutItem; readonly kind: 'opened'; readonly opened: Exclude<OpenedItem, FileItem> }
  | {
      readonly item: PutItem;
      readonly kind: 'read';
      readonly opened: FileItem;
      readonly content: Buffer;
      readonly hash: Hash;
    }
  | { readonly item: PutItem; readonly kind: 'to-stream' }
  | { readonly item: ArchiveItem; readonly kind: 'failed'; readonly error: FirnError };

/** Archives the items and leaves the recorded locations in the index; the caller finishes the receipt. */
export async function archiveItems(
  items: AsyncIterable<ArchiveItem> | Iterable<ArchiveItem>,
  parts: PipelineParts,
): Promise<ArchiveTotals> {
  return await new Pipeline(parts).run(items);
}

class Pipeline {
  readonly #parts: PipelineParts;
  readonly #writer: ChunkWriter;
  /** Handed to the writer, not durable yet. */
  readonly #inFlight = new Set<Hash>();
  #files = 0;
  #bytes = 0;
  #gone = 0;
  #knownChunks = 0;

  constructor(parts: PipelineParts) {
    this.#parts = parts;
    this.#writer = parts.createWriter((locations) => {
      parts.index.record(locations);
      for (const { hash } of locations) this.#inFlight.delete(hash);
    });
  }

  async run(items: AsyncIterable<ArchiveItem> | Iterable<ArchiveItem>): Promise<ArchiveTotals> {
    const { filesInFlightMax, signal } = this.#parts;
    try {
      const prepared = pMapIterable(items, (item) => this.#prepare(item), { concurrency: filesInFlightMax });
      for await (const each of prepared) {
        signal?.throwIfAborted();
        await this.#take(each);
      }
      const { newChunks, newRawBytes, storedBytes } = await this.#writer.finish();
      return {
        files: this.#files,
        bytes: this.#bytes,
        newChunks,
        knownChunks: this.#knownChunks,
        newBytes: newRawBytes,
        storedBytes,
        gone: this.#gone,
      };
    } catch (error) {
      await this.#writer.abort(error);
      throw error;
    }
  }

  async #prepare(item: ArchiveItem): Promise<Prepared> {
    const { signal, index, keys } = this.#parts;
    const problem = item.op === 'skip' ? undefined : pathProblem(item.path);
    if (problem) {
      return { item, kind: 'failed', error: new FirnError('FIRN_PATH_UNUSABLE', { path: item.path, problem }) };
    }
    if (item.op !== 'put') return { item, kind: 'as-it-is' };
    if (item.bytes > READ_AHEAD_FILE_BYTES_MAX) return { item, kind: 'to-stream' };
    try {
      return await readStable(item.path, async () => {
        const opened = await item.open({ signal });
        if (opened.type !== 'file') return { item, kind: 'opened', opened };
        const content = await collect(opened.content, READ_AHEAD_FILE_BYTES_MAX);
        const unchanged = await opened.unchanged();
        if (content === undefined) return { item, kind: 'to-stream' };
        if (!unchanged) return undefined;
        // Fills the cache of shards while earlier items are stored; the answer that counts is asked for in order.
        const hash = keys.hash(content);
        await index.lookup([hash], { signal });
        return { item, kind: 'read', opened, content, hash };
      });
    } catch (error) {
      if (isOwnProblem(error)) return { item, kind: 'failed', error };
      throw error;
    }
  }

  async #take(prepared: Prepared): Promise<void> {
    const { receipt, signal } = this.#parts;
    const { item } = prepared;
    if (prepared.kind === 'as-it-is') {
      if (item.op === 'remove') await receipt.addChange({ path: item.path, op: 'remove' }, { signal });
      else if (item.op === 'skip') receipt.addSkipped({ path: item.path, code: item.code, problem: item.problem });
      return;
    }
    let change: ArchivedChange | undefined;
    if (prepared.kind === 'failed') this.#skip(item.path, prepared.error);
    else if (prepared.kind === 'opened') change = this.#takeOther(prepared.item, prepared.opened);
    else if (prepared.kind === 'read') {
      const { opened, content, hash } = prepared;
      const entry = await this.#storeRead(content, hash);
      change = { path: item.path, op: 'put', entry: { ...opened.attributes, ...entry }, etag: opened.etag };
    } else change = await this.#takeStream(prepared.item);
    if (change === undefined) return;
    await receipt.addChange(change, { signal });
    if (change.op === 'put' && change.entry.type !== 'folder') this.#count(change.path, change.entry);
  }

  #skip(path: string, error: FirnError): void {
    this.#parts.receipt.addSkipped({ path, code: error.code, problem: error.message });
  }

  #takeOther({ path, isKnown }: PutItem, opened: Exclude<OpenedItem, FileItem>): ArchivedChange | undefined {
    if (opened.type === 'gone') {
      this.#gone += 1;
      return isKnown ? { path, op: 'remove' } : undefined;
    }
    const { attributes, etag } = opened;
    if (opened.type === 'folder') return { path, op: 'put', entry: { ...attributes, type: 'folder' }, etag };
    return { path, op: 'put', entry: { ...attributes, type: 'link', target: opened.target }, etag };
  }

  /** A file too large to be read ahead: opened, chunked and stored as it streams. */
  async #takeStream(item: PutItem): Promise<ArchivedChange | undefined> {
    const { signal } = this.#parts;
    try {
      return await readStable(item.path, async () => {
        const opened = await item.open({ signal, transientPieces: true });
        if (opened.type !== 'file') return { change: this.#takeOther(item, opened) };
        let change: ArchivedChange | undefined;
        let unchanged = false;
        try {
          change = await this.#storeStream(opened, item);
        } finally {
          // Asked in any case: it closes the file.
          unchanged = await opened.unchanged();
        }
        return change && unchanged ? { change } : undefined;
      }).then(({ change }) => change);
    } catch (error) {
      if (!isOwnProblem(error)) throw error;
      this.#skip(item.path, error);
      return undefined;
    }
  }

  /** @returns undefined when the file changed between two readings. */
  async #storeStream({ attributes, etag, content }: FileItem, item: PutItem): Promise<ArchivedChange | undefined> {
    const { chunker } = this.#parts;
    const entry = chunker ? await this.#storeChunked(content, chunker) : await this.#storeWhole(content, item);
    return entry && { path: item.path, op: 'put', entry: { ...attributes, ...entry }, etag };
  }

  /** A file that was read whole, which has this hash; most are one chunk. */
  async #storeRead(content: Buffer, hash: Hash): Promise<FileContent> {
    const { chunker } = this.#parts;
    const bytes = content.length;
    if (bytes === 0) return { type: 'file', bytes, content: hash, refs: { chunks: [] } };
    if (chunker && bytes > chunker.minBytes) return await this.#storeChunked([content], chunker);
    await this.#storeChunk(content, hash);
    return { type: 'file', bytes, content: hash, refs: { chunks: [hash] } };
  }

  async #storeChunked(content: AsyncIterable<Buffer> | Iterable<Buffer>, chunker: Chunker): Promise<FileContent> {
    const { keys, filetrees, signal } = this.#parts;
    const whole = keys.hasher();
    let bytes = 0;
    let chunks = 0;
    let last: Hash | undefined;
    const store = async function* (this: Pipeline): AsyncGenerator<Hash> {
      let held: Buffer | undefined;
      for await (const chunk of chunker.chunks(content)) {
        bytes += chunk.length;
        chunks += 1;
        // A file of one chunk is hashed once: its content hash is the hash of that chunk.
        if (held !== undefined) {
          whole.update(held);
          yield await this.#storeChunk(held);
        }
        held = chunk;
      }
      if (held === undefined) return;
      if (chunks > 1) whole.update(held);
      last = await this.#storeChunk(held);
      yield last;
    }.bind(this);
    const refs = await filetrees.writeChunkRefs(store(), { signal });
    return { type: 'file', bytes, content: chunks === 1 && last !== undefined ? last : whole.digest(), refs };
  }

  /**
   * One chunk a file, where the file does not fit into memory: read once to name it, and once more to store it unless it
   * is known. @returns undefined when the second reading did not find what the first one had.
   */
  async #storeWhole(
    content: AsyncIterable<Buffer> | Iterable<Buffer>,
    item: PutItem,
  ): Promise<FileContent | undefined> {
    const { keys, signal } = this.#parts;
    const hasher = keys.hasher();
    let bytes = 0;
    for await (const piece of content) {
      hasher.update(piece);
      bytes += piece.length;
    }
    const hash = hasher.digest();
    if (bytes === 0) return { type: 'file', bytes, content: hash, refs: { chunks: [] } };
    if (!(await this.#isKnown(hash))) {
      const opened = await item.open({ signal, transientPieces: true });
      if (opened.type !== 'file') return undefined;
      this.#inFlight.add(hash);
      try {
        await this.#writer.addStreamed(hash, bytes, opened.content);
      } catch (error) {
        this.#inFlight.delete(hash);
        if (isFirnError(error, 'FIRN_FILE_CHANGING')) return undefined;
        throw error;
      } finally {
        await opened.unchanged();
      }
    }
    return { type: 'file', bytes, content: hash, refs: { chunks: [hash] } };
  }

  /** Takes the bytes. */
  async #storeChunk(chunk: Buffer, hash = this.#parts.keys.hash(chunk)): Promise<Hash> {
    if (await this.#isKnown(hash)) return hash;
    this.#inFlight.add(hash);
    await this.#writer.add(hash, chunk);
    return hash;
  }

  async #isKnown(hash: Hash): Promise<boolean> {
    const known = this.#inFlight.has(hash) || (await this.#isIndexed(hash));
    if (known) this.#knownChunks += 1;
    return known;
  }

  async #isIndexed(hash: Hash): Promise<boolean> {
    const { index, signal } = this.#parts;
    const found = (await index.lookup([hash], { signal })).get(hash);
    // A location known from another batch's receipt is not in the shards yet: this receipt has to carry it too.
    if (found?.pending) index.record([found.location]);
    if (index.recordedCount > RECORDED_MAX) await index.flush({ signal });
    return found !== undefined;
  }

  #count(path: string, entry: FileContent | LinkContent): void {
    this.#files += 1;
    if (entry.type === 'file') this.#bytes += entry.bytes;
    this.#parts.onProgress?.({ files: this.#files, bytes: this.#bytes, path });
  }
}

/** A problem of one file, which the others do not share. */
function isOwnProblem(error: unknown): error is FirnError {
  return isFirnError(error, 'FIRN_FILE_UNREADABLE', 'FIRN_FILE_CHANGING');
}

/** Runs `read` until it answers with something; undefined means that the file changed meanwhile. */
async function readStable<T>(path: string, read: () => Promise<T | undefined>): Promise<T> {
  for (let tries = 0; tries < READ_TRIES_MAX; tries += 1) {
    try {
      const result = await read();
      if (result !== undefined) return result;
    } catch (error) {
      // An upload that was replaced or deleted under a reader whose connection broke; opening it again tells which.
      if (!isBlobFailure(error, 'changed', 'missing') || !error.blob.endsWith(path)) throw error;
    }
  }
  throw new FirnError('FIRN_FILE_CHANGING', { path, tries: READ_TRIES_MAX });
}

/** All bytes, or undefined when they are more than `bytesMax`: the file grew since it was announced. */
async function collect(content: AsyncIterable<Buffer>, bytesMax: number): Promise<Buffer | undefined> {
  const held: Buffer[] = [];
  let bytes = 0;
  for await (const piece of content) {
    held.push(piece);
    bytes += piece.length;
    if (bytes > bytesMax) return undefined;
  }
  return held.length === 1 && held[0] ? held[0] : Buffer.concat(held, bytes);
}
