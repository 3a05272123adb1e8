/**
 * The order in which files are read: by where their first chunks lie. Files that share a frame follow each other, so that
 * it is read and opened once, also where files are all over the tree that had the same content, or that changed together.
 * And the shards of the index are asked for many files at once, not for each; and the reader of chunks is told what comes.
 */
import type { ChunkLocation } from '../chunks/location.ts';
import type { FileEntry, LinkEntry } from '../filetree/entry.ts';
import { isDamage } from '../filetree/walk.ts';
import type { ChunkIndex, LookupResult } from '../index/chunk-index.ts';
import type { Hash } from '../sealing/keys.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import type { Expectations } from './read-ahead.ts';

/** Chunks of the files that are put into order at a time: some 600 bytes of memory for a file of one. */
const WINDOW_CHUNKS = 16_384;

export interface FileTask {
  readonly path: string;
  readonly entry: FileEntry | LinkEntry;
  /** Of its first chunk, where it was found on the way. */
  readonly location?: ChunkLocation | undefined;
}

export interface ByPlaceParts {
  readonly index: ChunkIndex;
  /** Told of the first chunk of each file that is put into order. */
  readonly expectations: Pick<Expectations, 'expect'>;
}

/** Gives every task once. What needs no chunk is not held back. */
export async function* byPlace(
  tasks: AsyncIterable<FileTask>,
  parts: ByPlaceParts,
  options: CallOptions & { readonly windowChunks?: number } = {},
): AsyncGenerator<FileTask> {
  const { windowChunks = WINDOW_CHUNKS } = options;
  let held: FileTask[] = [];
  let chunks = 0;
  for await (const task of tasks) {
    const taken = chunksOf(task).length;
    if (taken === 0) {
      yield task;
      continue;
    }
    held.push(task);
    chunks += taken;
    if (chunks < windowChunks) continue;
    yield* inOrder(held, parts, options);
    held = [];
    chunks = 0;
  }
  yield* inOrder(held, parts, options);
}

async function* inOrder(
  tasks: readonly FileTask[],
  { index, expectations }: ByPlaceParts,
  options: CallOptions,
): AsyncGenerator<FileTask> {
  const found = await lookup(tasks, index, options);
  const located = tasks.map((task) => ({ ...task, location: found.get(firstChunk(task) ?? '')?.location }));
  const ordered = [...Map.groupBy(located, placeOf).values()].flat();
  expectations.expect(ordered.map(({ location }) => location).filter((location) => location !== undefined));
  yield* ordered;
}

function placeOf({ location }: FileTask): string {
  return location === undefined ? '' : `${location.blob} ${location.frameOffset}`;
}

async function lookup(tasks: readonly FileTask[], index: ChunkIndex, options: CallOptions) {
  try {
    return await index.lookup(
      tasks.map(firstChunk).filter((hash) => hash !== undefined),
      options,
    );
  } catch (error) {
    // A part of the index is damaged: the files that need it are going to say so, each for itself.
    if (!isDamage(error)) throw error;
    return new Map<Hash, LookupResult>();
  }
}

function firstChunk(task: FileTask): Hash | undefined {
  return chunksOf(task)[0];
}

/** Those that its entry names: none of a link, an empty file, or one whose chunk list is in nodes of its own. */
function chunksOf({ entry }: FileTask): readonly Hash[] {
  return entry.type === 'file' && 'chunks' in entry.refs ? entry.refs.chunks : [];
}
