/**
 * Stores new chunks: large ones as blobs of their own, small ones bundled into tar chunks, in the order of the calls.
 *
 * It promises:
 * - A chunk is reported through `onStored` only when its blob, and for a bundled chunk its pointer too, is durable.
 * - Bytes that do not have the hash they are to be stored under are never stored.
 * - The same chunks in the same order give the same blobs: a batch that is tried again finds its own work.
 * - Memory: one open tar chunk and `uploadsInFlightMax` blobs under way, for a caller that awaits each call.
 * - After the first failure nothing more is reported, and every call rejects with that failure.
 *
 * It does not look up what is known; the caller has de-duplicated.
 */
import type { Hash, Keys } from '../sealing/keys.ts';
import { abortable } from '../storage/abortable.ts';
import type { BlobStore } from '../storage/blob-store.ts';
import {
  type ChunkBlobSettings,
  ChunkBlobWriter,
  changed,
  type SourceFault,
  type StoredChunks,
} from './chunk-blob-writer.ts';
import { sum } from './chunk-blobs.ts';
import type { ChunkLocation } from './location.ts';
import { createSlots } from './slots.ts';
import { TarBundle } from './tar-bundle.ts';

const MiB = 1024 * 1024;

/** Sizes in bytes. */
export interface ChunkWriterSettings extends ChunkBlobSettings {
  /** Chunks from this length on get a blob of their own; at most 8 MiB counts. */
  readonly largeChunkBytesMin: number;
  readonly tarStoredBytesTarget: number;
  readonly tarRawBytesMax: number;
  readonly uploadsInFlightMax: number;
}

/**
 * The sizes of the design; the rest are settings of the user. A tar chunk is held in memory, and one more for each upload
 * in flight: 16 MiB keep the archiving of anything well below 400 MB.
 */
export const chunkWriterSizes = {
  largeChunkBytesMin: 4 * MiB,
  tarStoredBytesTarget: 16 * MiB,
  tarRawBytesMax: 64 * MiB,
  frameRawBytesTarget: 2 * MiB,
} as const;

/** A bundled chunk, its header and the end of the archive fit into one frame. */
const BUNDLED_BYTES_MAX = 8 * MiB;

export interface ChunkWriterTotals {
  /** Chunks reported through `onStored`. */
  readonly newChunks: number;
  readonly newRawBytes: number;
  /** Bytes on storage of the blobs that hold them, pointers included, whoever wrote them. */
  readonly storedBytes: number;
  /** Large and tar chunks. */
  readonly blobs: number;
  /** Those of them that were there already. */
  readonly alreadyThere: number;
}

export interface ChunkWriter {
  /**
   * Takes a chunk; resolves when it is accepted, which waits while too much is under way. The buffer belongs to the
   * writer from here on. @throws FIRN_INTERNAL when it does not have this hash by the time it is packed.
   */
  add(hash: Hash, bytes: Buffer): Promise<void>;
  /**
   * Takes a chunk of any length that need not fit into memory, and resolves when it is durable (a short one: when it is
   * accepted). Where the chunk is stored already the pieces are left unread.
   * @throws FIRN_FILE_CHANGING when the pieces do not have this hash and length: nothing was stored, and the writer goes
   * on. What the pieces themselves throw is passed on in the same way.
   */
  addStreamed(hash: Hash, rawBytes: number, pieces: AsyncIterable<Buffer>): Promise<void>;
  /** Stores the last tar; resolves when everything taken is durable and reported. The writer takes nothing more. */
  finish(): Promise<ChunkWriterTotals>;
  /** Gives up: what is under way is cancelled, nothing more is reported. Resolves when nothing is under way. */
  abort(reason?: unknown): Promise<void>;
}

export function createChunkWriter(
  data: BlobStore,
  keys: Keys,
  settings: ChunkWriterSettings,
  onStored: (locations: readonly ChunkLocation[]) => void,
  options: { signal?: AbortSignal | undefined } = {},
): ChunkWriter {
  const largeChunkBytesMin = Math.min(settings.largeChunkBytesMin, BUNDLED_BYTES_MAX);
  const blobs = new ChunkBlobWriter(data, keys, settings);
  const slots = createSlots(settings.uploadsInFlightMax);
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  const running = new Set<Promise<void>>();
  const totals = { newChunks: 0, newRawBytes: 0, storedBytes: 0, blobs: 0, alreadyThere: 0 };
  let bundle = new TarBundle(keys, settings);
  let ended = false;
  /** The calls taken, one after another. */
  let turns: Promise<unknown> = Promise.resolve();

  /** The first failure is the one that every call rejects with. */
  function fail(error: unknown): never {
    stop.abort(error);
    throw signal.reason;
  }

  function inTurn<T>(step: () => Promise<T>): Promise<T> {
    const turn = turns.then(async () => {
      signal.throwIfAborted();
      return await step().catch(fail);
    });
    turns = turn.catch(() => {});
    return turn;
  }

  function report(stored: StoredChunks): void {
    signal.throwIfAborted();
    onStored(stored.locations);
    totals.newChunks += stored.locations.length;
    totals.newRawBytes += sum(stored.locations, ({ rawBytes }) => rawBytes);
    totals.storedBytes += stored.storedBytes;
    totals.blobs += 1;
    totals.alreadyThere += stored.alreadyThere ? 1 : 0;
  }

  /** Resolves when the work has a slot and has begun; its own promise never rejects, since its failure is the writer's. */
  async function launch(work: () => Promise<void>): Promise<{ readonly end: Promise<void> }> {
    const release = await abortable(slots.acquire(), signal);
    const end = work()
      .catch((error) => stop.abort(error))
      .finally(() => {
        release();
        running.delete(end);
      });
    running.add(end);
    return { end };
  }

  async function closeBundle(): Promise<void> {
    const closed = bundle.close();
    bundle = new TarBundle(keys, settings);
    await launch(async () => report(await blobs.storeTar(closed, signal)));
  }

  function refuseIfEnded(): void {
    if (ended) throw new Error('The chunk writer takes nothing more.');
  }

  async function add(hash: Hash, bytes: Buffer): Promise<void> {
    refuseIfEnded();
    await inTurn(async () => {
      if (bytes.length >= largeChunkBytesMin) {
        await launch(async () => report(await blobs.storeLarge(hash, bytes, signal)));
        return;
      }
      if (!(await bundle.makeRoomFor(bytes.length))) await closeBundle();
      bundle.add(hash, bytes);
    });
  }

  return {
    add,

    async addStreamed(hash, rawBytes, pieces) {
      refuseIfEnded();
      if (rawBytes < largeChunkBytesMin) {
        await add(hash, await collect(keys, hash, rawBytes, pieces));
        return;
      }
      let fault: SourceFault | undefined;
      const { end } = await launch(async () => {
        const stored = await blobs.storeStreamed(hash, rawBytes, pieces, signal);
        if ('fault' in stored) fault = stored;
        else report(stored);
      });
      await end;
      signal.throwIfAborted();
      if (fault) throw fault.fault;
    },

    async finish() {
      refuseIfEnded();
      ended = true;
      await inTurn(async () => {
        if (!bundle.isEmpty) await closeBundle();
      }).catch(() => {});
      await Promise.all(running);
      signal.throwIfAborted();
      return { ...totals };
    },

    async abort(reason = new Error('The chunk writer was aborted.')) {
      ended = true;
      stop.abort(reason);
      await turns;
      await Promise.all(running);
    },
  };
}

/** All pieces of a short chunk. @throws FIRN_FILE_CHANGING. */
async function collect(keys: Keys, hash: Hash, rawBytes: number, pieces: AsyncIterable<Buffer>): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(rawBytes);
  let filled = 0;
  for await (const piece of pieces) {
    if (filled + piece.length > rawBytes) throw changed(hash);
    filled += piece.copy(bytes, filled);
  }
  if (filled !== rawBytes || keys.hash(bytes) !== hash) throw changed(hash);
  return bytes;
}
