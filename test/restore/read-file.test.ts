import { describe, expect, it } from 'vitest';
import { type ChunkReader, READ_BYTES_MAX } from '../../src/chunks/chunk-reader.ts';
import type { ChunkLocation } from '../../src/chunks/location.ts';
import type { FileEntry } from '../../src/filetree/entry.ts';
import { createFiletreeStore } from '../../src/filetree/filetree-store.ts';
import { ChunkIndex } from '../../src/index/chunk-index.ts';
import { createReadAheadBudget } from '../../src/restore/read-ahead.ts';
import { type ReadFileParts, readFileContent } from '../../src/restore/read-file.ts';
import { plainKeys } from '../../src/sealing/keys.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';

const keys = plainKeys;

interface Reading {
  readonly parts: ReadFileParts;
  readonly entry: FileEntry;
  /** Chunks that were asked for, in order. */
  readonly asked: string[];
  /** Chunks that were announced, in order, and «over» when it was taken back. */
  readonly expected: string[];
  readonly signals: AbortSignal[];
}

/** A file of these chunks, and readers that give them. */
function fileOf(chunks: readonly string[], options: { budget?: number; rawBytes?: number } = {}): Reading {
  const store = createMemoryBlobStore();
  const index = new ChunkIndex(new SealedBlobs(store, keys), { cacheBytesMax: 1024 });
  const byHash = new Map(chunks.map((text) => [keys.hash(Buffer.from(text)), Buffer.from(text)]));
  index.record(
    [...byHash].map(
      ([hash, content]): ChunkLocation => ({
        hash,
        blob: hash,
        kind: 'large',
        frameOffset: 0,
        frameBytes: content.length,
        offsetInFrame: 0,
        rawBytes: options.rawBytes ?? content.length,
        tier: 'Hot',
      }),
    ),
  );
  const asked: string[] = [];
  const expected: string[] = [];
  const signals: AbortSignal[] = [];
  const contentOf = (hash: string, signal?: AbortSignal) => {
    const content = byHash.get(hash) ?? Buffer.alloc(0);
    asked.push(content.toString());
    if (signal) signals.push(signal);
    return content;
  };
  const reader: ChunkReader = {
    expect(locations) {
      expected.push(...locations.map(({ hash }) => (byHash.get(hash) ?? '').toString()));
      return () => void expected.push('over');
    },
    read: async ({ hash }, call) => contentOf(hash, call?.signal),
    giveBack() {},
    async *stream({ hash }, call) {
      const content = contentOf(hash, call?.signal);
      for (let at = 0; at < content.length; at += 2) yield content.subarray(at, at + 2);
    },
  };
  const whole = Buffer.from(chunks.join(''));
  return {
    parts: {
      keys,
      filetrees: createFiletreeStore(store, keys),
      chunks: reader,
      index,
      readAhead: createReadAheadBudget(options.budget ?? 1_000),
    },
    entry: {
      name: 'file',
      type: 'file',
      bytes: whole.length,
      content: keys.hash(whole),
      refs: { chunks: chunks.map((text) => keys.hash(Buffer.from(text))) },
    },
    asked,
    expected,
    signals,
  };
}

async function read({ parts, entry }: Reading): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of readFileContent(parts, 'a/file', entry)) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

describe('reading a file of a snapshot', () => {
  it('gives its chunks in order, repeated ones too', async () => {
    const file = fileOf(['one ', 'two ', 'one ', 'three ', 'four ', 'five ', 'six']);
    expect(await read(file)).toBe('one two one three four five six');
    expect(file.parts.readAhead.bytesTaken).toBe(0);
  });

  it('gives nothing of an empty file', async () => {
    expect(await read(fileOf([]))).toBe('');
  });

  it('reads at most eight chunks at a time, and only the one that is needed when the budget is used up', async () => {
    const chunks = Array.from('abcdefghij', (letter) => letter.repeat(3));
    const wide = fileOf(chunks);
    const first = readFileContent(wide.parts, 'file', wide.entry);
    await first.next();
    expect(wide.asked).toEqual(chunks.slice(0, 8));
    await first.return(undefined);

    const narrow = fileOf(chunks, { budget: 3 });
    const second = readFileContent(narrow.parts, 'file', narrow.entry);
    await second.next();
    expect(narrow.asked).toEqual(['aaa']);
    await second.next();
    expect(narrow.asked).toEqual(['aaa', 'bbb']);
    await second.return(undefined);
  });

  it('says which chunks will be read before it reads the first, and takes it back when the reader leaves', async () => {
    const chunks = Array.from('abcdefghij', (letter) => letter.repeat(3));
    const { parts, entry, asked, expected } = fileOf(chunks, { budget: 3 });
    const reading = readFileContent(parts, 'file', entry);
    await reading.next();
    expect(asked).toEqual(['aaa']);
    expect(expected).toEqual(chunks);
    await reading.return(undefined);
    expect(expected.at(-1)).toBe('over');
  });

  it('cancels what it read ahead and gives back its budget when the reader leaves', async () => {
    const file = fileOf(['aaa', 'bbb', 'ccc', 'ddd', 'eee', 'fff']);
    const reading = readFileContent(file.parts, 'file', file.entry);
    await reading.next();
    expect(file.parts.readAhead.bytesTaken).toBeGreaterThan(0);
    await reading.return(undefined);
    expect(file.parts.readAhead.bytesTaken).toBe(0);
    expect(file.signals.every((signal) => signal.aborted)).toBe(true);
  });

  it('streams a chunk that is too long to be held', async () => {
    const file = fileOf(['abcdefg'], { rawBytes: READ_BYTES_MAX + 1 });
    const pieces: string[] = [];
    for await (const piece of readFileContent(file.parts, 'file', file.entry)) pieces.push(piece.toString());
    expect(pieces).toEqual(['ab', 'cd', 'ef', 'g']);
  });

  it('names a chunk that the index does not know', async () => {
    const file = fileOf(['one', 'two']);
    const chunk = keys.hash(Buffer.from('elsewhere'));
    const entry: FileEntry = { ...file.entry, refs: { chunks: [chunk] } };
    await expect(read({ ...file, entry })).rejects.toMatchObject({ code: 'FIRN_CHUNK_MISSING', details: { chunk } });
  });

  it.each([
    ['is longer than the snapshot says', { bytes: 5 }],
    ['is shorter than the snapshot says', { bytes: 7 }],
    ['has another content hash', { content: keys.hash(Buffer.from('else')) }],
  ])('does not complete when the file %s', async (_, wrong) => {
    const file = fileOf(['one', 'two']);
    const damaged = { code: 'FIRN_FILE_DAMAGED', details: { path: 'a/file' } };
    await expect(read({ ...file, entry: { ...file.entry, ...wrong } })).rejects.toMatchObject(damaged);
    const single = fileOf(['onetwo']);
    await expect(read({ ...single, entry: { ...single.entry, ...wrong } })).rejects.toMatchObject(damaged);
  });

  it('does not complete when one chunk is in the place of another', async () => {
    const file = fileOf(['one', 'two']);
    const chunks = [...('chunks' in file.entry.refs ? file.entry.refs.chunks : [])].reverse();
    await expect(read({ ...file, entry: { ...file.entry, refs: { chunks } } })).rejects.toMatchObject({
      code: 'FIRN_FILE_DAMAGED',
    });
  });
});
