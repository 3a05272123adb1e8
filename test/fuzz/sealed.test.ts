/** Frames, sealed blobs, the config and the keys, whatever was done to their bytes. */
import { createHash, type ScryptOptions, scrypt, scryptSync } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { createChunker } from '../../src/chunks/chunker.ts';
import { encodeConfig, parseConfig, type RepositoryConfig, verifyConfig } from '../../src/sealing/config.ts';
import {
  compressFrame,
  FRAME_HEADER_BYTES,
  FRAME_RAW_BYTES_MAX,
  FrameSealer,
  openFrame,
  type SealedKind,
  type SealedName,
} from '../../src/sealing/frame.ts';
import { type Keys, keysFromMaster, plainKeys } from '../../src/sealing/keys.ts';
import { unwrapMasterKey, wrapMasterKey } from '../../src/sealing/master-key.ts';
import { openBytes, SealedBlobs, sealBytes } from '../../src/sealing/sealed-blobs.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { cheapScrypt } from '../kit/repository.ts';
import { anyEdits, anyHostileJson, edited, hostileJson, outcomeOf, patient, runs, watchMemory } from './hostile.ts';

vi.mock('node:crypto', async (original) => {
  const crypto = await original<typeof import('node:crypto')>();
  return { ...crypto, scrypt: vi.fn(crypto.scrypt) };
});

const encrypted = keysFromMaster(Buffer.alloc(32, 1));
const otherRepository = keysFromMaster(Buffer.alloc(32, 2));
const repositories: [string, Keys][] = [
  ['an encrypted', encrypted],
  ['an unencrypted', plainKeys],
];

const checkMemory = watchMemory();
afterAll(checkMemory);

const name = 'chunk-index/ab';
const kinds: readonly SealedKind[] = [
  'shard',
  'head',
  'receipt',
  'plan',
  'snapshot',
  'filetree',
  'large',
  'tar',
  'thin',
];

/** A blob of several small frames. */
async function sealFrames(keys: Keys, blob: SealedName, bodies: readonly Buffer[]): Promise<Buffer> {
  return Buffer.concat(await framesOf(keys, blob, bodies));
}

async function framesOf(keys: Keys, blob: SealedName, bodies: readonly Buffer[]): Promise<Buffer[]> {
  const sealer = new FrameSealer(keys, blob);
  const frames: Buffer[] = [];
  for (const [at, body] of bodies.entries()) {
    const frame = await compressFrame(body, { level: 3, encoding: 'auto' });
    frames.push(sealer.seal(frame, { final: at === bodies.length - 1 }));
  }
  return frames;
}

/** Whether the bytes are frames of these writes, each in its place, up to a last one. */
function isMixOf(bytes: Buffer, writes: readonly (readonly Buffer[])[], number = 0): boolean {
  return writes.some((frames) => {
    const frame = frames[number];
    if (frame === undefined || !bytes.subarray(0, frame.length).equals(frame)) return false;
    const rest = bytes.subarray(frame.length);
    const isLast = number === frames.length - 1;
    return isLast ? rest.length === 0 : isMixOf(rest, writes, number + 1);
  });
}

const bodies = [
  Buffer.from('the first frame '.repeat(9)),
  Buffer.from('the second'),
  Buffer.alloc(0),
  Buffer.from('x'),
];

describe.each(repositories)('sealed blobs of %s repository', (_, keys) => {
  it('that were changed, cut, mixed with others or exchanged for them are refused', patient, async () => {
    const blob: SealedName = { kind: 'shard', name };
    const writes = await Promise.all(
      [bodies, [...bodies.slice(0, 2), Buffer.from('an older version')], bodies.toReversed()].map((each) =>
        framesOf(keys, blob, each),
      ),
    );
    const [valid = Buffer.alloc(0), ...older] = writes.map((frames) => Buffer.concat(frames));
    const others = [
      ...older,
      await sealBytes(keys, { kind: 'shard', name: 'chunk-index/ac' }, Buffer.concat(bodies)),
      ...(await Promise.all(kinds.slice(1).map((kind) => sealFrames(keys, { kind, name }, bodies)))),
      await sealFrames(otherRepository, blob, bodies),
      await sealFrames(keys.encrypted ? plainKeys : encrypted, blob, bodies),
    ];
    await fc.assert(
      fc.asyncProperty(anyEdits, async (edits) => {
        const bytes = edited(valid, edits, others);
        const outcome = await outcomeOf(() => openBytes(keys, blob, bytes));
        // Whole, the older versions under its own name are its own: which of them is meant, nothing in them can say. Without
        // a salt that goes for each frame.
        const isOwn = keys.encrypted ? [valid, ...older].some((each) => each.equals(bytes)) : isMixOf(bytes, writes);
        if (isOwn) expect(outcome).toHaveProperty('value');
        else expect(outcome).toMatchObject({ error: { code: expect.stringMatching(/FIRN_SEAL_BROKEN|NEWER/) } });
      }),
      runs(400),
    );
  });

  it('are refused at every length but their own, and for every bit', async () => {
    const blob: SealedName = { kind: 'head', name: 'heads/a' };
    const valid = await sealFrames(keys, blob, [Buffer.from('head'), Buffer.from('line')]);
    for (let length = 0; length < valid.length; length += 1) {
      await expect(openBytes(keys, blob, valid.subarray(0, length))).rejects.toMatchObject({
        code: 'FIRN_SEAL_BROKEN',
      });
    }
    for (let bit = 0; bit < valid.length * 8; bit += 1) {
      const bytes = edited(valid, [{ is: 'flip', at: bit >> 3, bit: bit & 7 }], []);
      // Also of the version: no newer Firn wrote it.
      expect(await outcomeOf(() => openBytes(keys, blob, bytes))).toMatchObject({
        error: { code: 'FIRN_SEAL_BROKEN' },
      });
    }
  });
});

/** The checksum that whoever can write into an unencrypted repository can make. */
function withChecksum(frame: Buffer, { kind, name: of }: SealedName): Buffer {
  const bytes = Buffer.from(frame);
  const at = bytes.length - 32;
  if (at < FRAME_HEADER_BYTES) return bytes;
  const header = bytes.subarray(0, FRAME_HEADER_BYTES);
  const digest = createHash('sha256')
    .update(header)
    .update(`${kind}\0${of}`)
    .update(bytes.subarray(FRAME_HEADER_BYTES, at));
  digest.digest().copy(bytes, at);
  return bytes;
}

describe('a frame with a checksum that was made anew', () => {
  const blob: SealedName = { kind: 'tar', name: 'chunks/x' };

  it('has the length that it promises, or is refused', patient, async () => {
    const frames = await Promise.all(
      [Buffer.alloc(5_000, 'ab'), Buffer.from('short'), Buffer.alloc(0)].map((body) =>
        sealFrames(plainKeys, blob, [body]),
      ),
    );
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...frames), anyEdits, fc.boolean(), async (valid, edits, fits) => {
        const bytes = edited(valid, edits, frames);
        if (fits && bytes.length >= FRAME_HEADER_BYTES + 32)
          bytes.writeUInt32LE(bytes.length - FRAME_HEADER_BYTES - 32, 16);
        const outcome = await outcomeOf(() => openFrame(plainKeys, blob, withChecksum(bytes, blob)));
        if ('value' in outcome) {
          expect(outcome.value.raw.length).toBe(bytes.readUInt32LE(12));
          expect(outcome.value.raw.length).toBeLessThanOrEqual(FRAME_RAW_BYTES_MAX);
        } else {
          expect(outcome.error).toMatchObject({ code: expect.stringMatching(/FIRN_SEAL_BROKEN|NEWER/) });
        }
      }),
      runs(400),
    );
  });

  it('of a few bytes does not become many: metadata has a limit, whatever its frames say', async () => {
    const sealer = new FrameSealer(plainKeys, { kind: 'head', name: 'heads/a' });
    const frame = await compressFrame(Buffer.alloc(FRAME_RAW_BYTES_MAX), { level: 1, encoding: 'zstd' });
    const frames = Array.from({ length: 40 }, (_, at) => sealer.seal(frame, { final: at === 39 }));
    const bomb = Buffer.concat(frames);
    expect(bomb.length).toBeLessThan(100_000);
    const store = createMemoryBlobStore();
    await store.create('heads/a', bomb);
    const outcome = await outcomeOf(() => new SealedBlobs(store, plainKeys).get('head', 'heads/a'));
    expect('error' in outcome && outcome.error).toMatchObject({ code: 'FIRN_SEAL_BROKEN' });
  });
});

const config: RepositoryConfig = {
  id: '7d7a9b9c-1111-4222-8333-444455556666',
  created: '2026-01-01T00:00:00.000Z',
  encryption: 'aes-256-gcm',
  chunking: { method: 'fastcdc', minBytes: 512 * 1024, averageBytes: 1024 * 1024, maxBytes: 8 * 1024 * 1024 },
  thinChunks: 'packed',
};

const tempting = [
  '"none"',
  '"file"',
  '"fastcdc"',
  '"blob"',
  '64',
  '128',
  '1024',
  '2048',
  '2147483648',
  '16777216',
  '0.5',
];

describe('a config', () => {
  it('that is not as it was written with the keys of its repository is refused', patient, async () => {
    const valid = JSON.parse(encodeConfig(config, encrypted).toString());
    const foreign = JSON.parse(encodeConfig({ ...config, thinChunks: 'blob' }, otherRepository).toString());
    await fc.assert(
      fc.asyncProperty(anyHostileJson(tempting), async (hostile) => {
        const outcome = await outcomeOf(() => {
          const parsed = parseConfig(hostileJson(valid, hostile, [foreign]));
          verifyConfig(parsed.config, parsed.tag, encrypted);
          return parsed.config;
        });
        if ('value' in outcome) expect(outcome.value).toEqual(config);
      }),
      runs(500),
    );
  });

  it('with a tag that was made anew is one that a repository can work with, or is refused', patient, async () => {
    const valid: unknown = JSON.parse(encodeConfig({ ...config, encryption: 'none' }, plainKeys).toString());
    const sample = Buffer.alloc(300_000, 'some text to be cut');
    await fc.assert(
      fc.asyncProperty(anyHostileJson(tempting), async (hostile) => {
        await outcomeOf(async () => {
          const { config: parsed } = parseConfig(hostileJson(valid, hostile));
          const stored = parseConfig(encodeConfig(parsed, plainKeys));
          verifyConfig(stored.config, stored.tag, plainKeys);
          expect(encodeConfig(stored.config, plainKeys).equals(encodeConfig(parsed, plainKeys))).toBe(true);
          if (parsed.chunking.method === 'file') return;
          const chunks = await Array.fromAsync(createChunker(parsed.chunking, plainKeys.chunkingKey).chunks([sample]));
          expect(Buffer.concat(chunks).equals(sample)).toBe(true);
        });
      }),
      runs(200),
    );
  });
});

describe('a key', () => {
  const master = Buffer.alloc(32, 7);

  it('that was changed opens nothing, or the key that it was made for', patient, async () => {
    const { name: key, body } = await wrapMasterKey(config.id, master, 'passphrase', cheapScrypt);
    const other = await wrapMasterKey(config.id, Buffer.alloc(32, 8), 'another', cheapScrypt);
    const foreign = await wrapMasterKey('another repository', Buffer.alloc(32, 9), 'passphrase', cheapScrypt);
    const others: unknown[] = [other, foreign].map((each) => JSON.parse(each.body.toString()));
    const costs = ['0', '1', '2', '3', '16', '1024', '65536', '1048576', '1073741824', '4194304', '64', '65', '-16'];
    await fc.assert(
      fc.asyncProperty(anyHostileJson([...costs, '"c2hvcnQ="', '"pbkdf2"']), async (hostile) => {
        const bytes = hostileJson(JSON.parse(body.toString()), hostile, others);
        const outcome = await outcomeOf(() => unwrapMasterKey(config.id, { name: key, body: bytes }, 'passphrase'));
        if ('value' in outcome) expect([master, undefined]).toContainEqual(outcome.value);
      }),
      runs(150),
    );
  });

  it.each([
    { n: 2 ** 16, r: 1, p: 1 },
    { n: 2, r: 2 ** 22, p: 64 },
    { n: 2, r: 2 ** 22, p: 1 },
    { n: 2, r: 1, p: 2 ** 22 },
    { n: 2 ** 22, r: 1, p: 1 },
    { n: 2 ** 20, r: 8, p: 64 },
    { n: 2 ** 15, r: 8, p: 64 },
    { n: 2 ** 40, r: 1, p: 1 },
    { n: 16, r: 0, p: 1 },
    { n: 16, r: 1, p: 1.5 },
    { n: 16, r: 1, p: -1 },
    { n: 48, r: 1, p: 1 },
  ])('with a cost of $n, $r, $p is refused at once, and not tried', async (cost) => {
    const { name: key, body } = await wrapMasterKey(config.id, master, 'passphrase', cheapScrypt);
    const value = JSON.parse(body.toString());
    const hostile = Buffer.from(JSON.stringify({ ...value, kdf: { ...value.kdf, ...cost } }));
    vi.mocked(scrypt).mockClear();
    const outcome = await outcomeOf(() => unwrapMasterKey(config.id, { name: key, body: hostile }, 'passphrase'));
    expect(outcome).toMatchObject({ error: { code: 'FIRN_CONFIG_DAMAGED' } });
    expect(scrypt).not.toHaveBeenCalled();
  });

  it('with any other cost is tried with the memory that this takes, which is 512 MiB at most', async () => {
    const { name: key, body } = await wrapMasterKey(config.id, master, 'passphrase', cheapScrypt);
    const value = JSON.parse(body.toString());
    const memoryOf = (n: number, r: number, p: number) => 128 * r * (n + p + 2);
    // What OpenSSL reserves, to the byte.
    const { n, r, p } = cheapScrypt;
    const maxmem = memoryOf(n, r, p);
    expect(() => scryptSync('', '', 32, { N: n, r, p, maxmem: maxmem - 1 })).toThrow('memory limit');
    expect(scryptSync('', '', 32, { N: n, r, p, maxmem })).toHaveLength(32);
    const derive = vi.mocked(scrypt);
    const tried: { readonly needed: number; readonly maxmem: number }[] = [];
    derive.mockImplementation((_secret, _salt, _bytes, options, done) => {
      const { N = 0, r = 0, p = 0, maxmem = 0 } = options as ScryptOptions;
      tried.push({ needed: memoryOf(N, r, p), maxmem });
      done(null, Buffer.alloc(32));
    });
    onTestFinished(() => void derive.mockReset());
    const upTo = (bits: number) =>
      fc.double({ min: 0, max: bits, noNaN: true }).map((exponent) => Math.floor(2 ** exponent));
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 31 }), upTo(30), upTo(30), async (bits, r, p) => {
        const hostile = Buffer.from(JSON.stringify({ ...value, kdf: { ...value.kdf, n: 2 ** bits, r, p } }));
        await outcomeOf(() => unwrapMasterKey(config.id, { name: key, body: hostile }, 'passphrase'));
        for (const { needed, maxmem } of tried.splice(0)) {
          expect(needed).toBeLessThanOrEqual(maxmem);
          expect(maxmem).toBe(512 * 1024 * 1024);
        }
      }),
      runs(1000),
    );
  });
});
