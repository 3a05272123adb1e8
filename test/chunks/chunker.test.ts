import { createHash, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ChunkerParameters, checkChunkerParameters, createChunker } from '../../src/chunks/chunker.ts';
import { keysFromMaster } from '../../src/sealing/keys.ts';
import { pseudoRandomBytes } from './bytes.ts';

const key = keysFromMaster(Buffer.alloc(32, 7)).chunkingKey;
const large: ChunkerParameters = { minBytes: 512 * 1024, averageBytes: 1024 * 1024, maxBytes: 8 * 1024 * 1024 };
const small: ChunkerParameters = { minBytes: 64, averageBytes: 256, maxBytes: 1024 };

async function cut(parameters: ChunkerParameters, pieces: Iterable<Buffer>, chunkingKey = key): Promise<Buffer[]> {
  return Array.fromAsync(createChunker(parameters, chunkingKey).chunks(pieces));
}

function lengths(chunks: readonly Buffer[]): number[] {
  return chunks.map((chunk) => chunk.length);
}

function* sliced(data: Buffer, pieceBytes: number): Generator<Buffer> {
  for (let at = 0; at < data.length; at += pieceBytes) yield data.subarray(at, at + pieceBytes);
}

/** The rule of the module's comment, spelled out byte by byte. */
function cutSlowly(gear: readonly number[], parameters: ChunkerParameters, data: Buffer): number[] {
  const bits = Math.log2(parameters.averageBytes);
  const result: number[] = [];
  let start = 0;
  for (let end = 1; end <= data.length; end += 1) {
    const length = end - start;
    if (length < parameters.minBytes && end < data.length) continue;
    let hash = 0n;
    for (const byte of data.subarray(end - Math.min(length, 32), end)) {
      hash = ((hash << 1n) + BigInt(gear[byte]!)) & 0xffffffffn;
    }
    const zeros = 32 - hash.toString(2).replace(/^0$/, '').length;
    const wanted = length < parameters.averageBytes ? bits + 2 : bits - 2;
    if (end === data.length || length === parameters.maxBytes || zeros >= wanted) {
      result.push(length);
      start = end;
    }
  }
  return result;
}

describe('the chunker', () => {
  it('gives back every byte, in chunks within the limits, wherever the pieces are cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 1 << 30 }),
        fc.integer({ min: 0, max: 8000 }),
        fc.constantFrom(2, 200, 256),
        fc.array(fc.integer({ min: 0, max: 700 }), { minLength: 1, maxLength: 20 }),
        async (seed, bytes, alphabet, cuts) => {
          const data = pseudoRandomBytes(seed, bytes).map((byte) => byte % alphabet) as Buffer;
          const pieces: Buffer[] = [];
          for (let at = 0, i = 0; at < data.length; i += 1) {
            const pieceBytes = i < 200 ? cuts[i % cuts.length]! : data.length;
            pieces.push(data.subarray(at, at + pieceBytes));
            at += pieceBytes;
          }
          const chunks = await cut(small, pieces);
          expect(Buffer.concat(chunks).equals(data)).toBe(true);
          expect(lengths(chunks)).toEqual(lengths(await cut(small, [data])));
          for (const chunk of chunks.slice(0, -1)) expect(chunk.length).toBeGreaterThanOrEqual(small.minBytes);
          for (const chunk of chunks) expect(chunk.length).toBeLessThanOrEqual(small.maxBytes);
          expect(chunks.every((chunk) => chunk.length > 0)).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('cuts exactly where its documentation says', async () => {
    const { hkdfSync } = await import('node:crypto');
    const table = Buffer.from(hkdfSync('sha256', key, Buffer.alloc(0), 'firn gear v1', 1024));
    const gear = Array.from({ length: 256 }, (_, i) => table.readUInt32LE(4 * i));
    const data = pseudoRandomBytes(3, 60_000);
    const wanted = cutSlowly(gear, small, data);
    expect(wanted.length).toBeGreaterThan(100);
    expect(lengths(await cut(small, [data]))).toEqual(wanted);
  });

  it('keeps cutting where it always did, so that a repository finds its chunks again', async () => {
    const data = pseudoRandomBytes(1, 16 << 20);
    const chunks = await cut(large, [data], Buffer.alloc(32));
    const digest = createHash('sha256').update(lengths(chunks).join()).digest('hex');
    expect(digest).toBe('10b488743dbe4b3abba27b267461531c6650327c6381d5d73d46e0ba0bdaf3b3');
  });

  it('yields nothing for an empty input', async () => {
    expect(await cut(small, [])).toEqual([]);
    expect(await cut(small, [Buffer.alloc(0), Buffer.alloc(0)])).toEqual([]);
  });

  it('yields an input below the minimum as one chunk', async () => {
    expect(lengths(await cut(large, [Buffer.alloc(1000), Buffer.alloc(1)]))).toEqual([1001]);
  });

  it('yields buffers of its own, that do not change when the producer uses its piece again', async () => {
    const data = pseudoRandomBytes(5, 20_000);
    const reused = Buffer.alloc(333);
    function* pieces() {
      for (const piece of sliced(data, reused.length)) {
        piece.copy(reused);
        yield reused.subarray(0, piece.length);
        reused.fill(0xff);
      }
    }
    expect(Buffer.concat(await cut(small, pieces())).equals(data)).toBe(true);
  });

  it('cuts uniform bytes at the maximum', async () => {
    expect(lengths(await cut(small, [Buffer.alloc(2500, 0xaa)]))).toEqual([1024, 1024, 452]);
  });

  it('cuts random bytes into chunks of about the average', async () => {
    const chunks = await cut(small, [pseudoRandomBytes(8, 1 << 20)]);
    const average = (1 << 20) / chunks.length;
    expect(average).toBeGreaterThan(small.averageBytes * 0.8);
    expect(average).toBeLessThan(small.averageBytes * 1.5);
  });

  it('changes only the chunks around one byte that is inserted near the start of 64 MiB', async () => {
    const data = randomBytes(64 << 20);
    const changed = Buffer.concat([data.subarray(0, 1000), Buffer.from([1]), data.subarray(1000)]);
    const names = async (bytes: Buffer) =>
      (await cut(large, sliced(bytes, 1 << 20))).map((chunk) => createHash('sha256').update(chunk).digest('hex'));
    const before = new Set(await names(data));
    const after = await names(changed);
    expect(after.length).toBeGreaterThan(30);
    expect(after.filter((name) => !before.has(name)).length).toBeLessThanOrEqual(4);
  });

  it('cuts elsewhere under another key', async () => {
    const data = pseudoRandomBytes(9, 100_000);
    const ends = (chunks: readonly Buffer[]) => {
      let at = 0;
      return new Set(chunks.map((chunk) => (at += chunk.length)));
    };
    const left = ends(await cut(small, [data]));
    const right = ends(await cut(small, [data], keysFromMaster(Buffer.alloc(32, 8)).chunkingKey));
    expect(left.intersection(right).size).toBeLessThan(left.size / 5);
  });

  it('asks for the next piece only when the chunks of the last are taken', async () => {
    let asked = 0;
    function* pieces() {
      for (const piece of sliced(pseudoRandomBytes(4, 10_000), 2000)) {
        asked += 1;
        yield piece;
      }
    }
    const chunks = createChunker(small, key).chunks(pieces());
    await chunks.next();
    expect(asked).toBe(1);
    await chunks.return(undefined);
  });

  it.each([
    [{ minBytes: 100, averageBytes: 256, maxBytes: 1024 }],
    [{ minBytes: 32, averageBytes: 256, maxBytes: 1024 }],
    [{ minBytes: 256, averageBytes: 256, maxBytes: 1024 }],
    [{ minBytes: 64, averageBytes: 1024, maxBytes: 1024 }],
    [{ minBytes: 64, averageBytes: 1024, maxBytes: 2 ** 25 }],
    [{ minBytes: 64, averageBytes: 256, maxBytes: Number.NaN }],
    [{ minBytes: 0, averageBytes: 256, maxBytes: 1024 }],
    [{ minBytes: '64' as unknown as number, averageBytes: 256, maxBytes: 1024 }],
  ])('refuses the parameters %j', (parameters) => {
    expect(() => checkChunkerParameters(parameters)).toThrow(expect.objectContaining({ code: 'FIRN_CONFIG_DAMAGED' }));
    expect(() => createChunker(parameters, key)).toThrow(expect.objectContaining({ code: 'FIRN_CONFIG_DAMAGED' }));
  });
});
