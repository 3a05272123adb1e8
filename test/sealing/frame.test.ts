import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import zlib from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  compressFrame,
  FRAME_HEADER_BYTES,
  FRAME_RAW_BYTES_MAX,
  FrameSealer,
  openFrame,
  openFrames,
  type SealedName,
  sealedFrameBytes,
} from '../../src/sealing/frame.ts';
import { type Keys, keysFromMaster, plainKeys } from '../../src/sealing/keys.ts';

const blob: SealedName = { kind: 'tar', name: 'chunks/abc' };
const encrypted = keysFromMaster(Buffer.alloc(32, 1));
const repositories: [string, Keys][] = [
  ['encrypted', encrypted],
  ['plain', plainKeys],
];

async function sealAll(keys: Keys, bodies: readonly Buffer[], name = blob): Promise<Buffer[]> {
  const sealer = new FrameSealer(keys, name);
  const frames: Buffer[] = [];
  for (const [i, body] of bodies.entries()) {
    const frame = await compressFrame(body, { level: 3, encoding: 'auto' });
    frames.push(sealer.seal(frame, { final: i === bodies.length - 1 }));
  }
  return frames;
}

async function open(keys: Keys, pieces: Iterable<Buffer>, name = blob): Promise<Buffer[]> {
  return Array.fromAsync(openFrames(keys, name, pieces));
}

const broken = expect.objectContaining({ code: 'FIRN_SEAL_BROKEN' });
const bodies = [Buffer.from('the first frame '.repeat(9)), Buffer.from('second'), Buffer.from('third')];

describe.each(repositories)('frames of an %s repository', (_, keys) => {
  it('come back as they were, in pieces of any size', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.oneof(
            fc.uint8Array({ maxLength: 300 }),
            fc.integer({ min: 0, max: 40_000 }).map((bytes) => Buffer.alloc(bytes, 'compressible ')),
          ),
          { minLength: 1, maxLength: 5 },
        ),
        fc.array(fc.integer({ min: 0, max: 5000 }), { minLength: 1, maxLength: 8 }),
        async (arrays, cuts) => {
          const raw = arrays.map((array) => Buffer.from(array));
          const sealed = Buffer.concat(await sealAll(keys, raw));
          const pieces: Buffer[] = [];
          for (let at = 0, i = 0; at < sealed.length; i += 1) {
            const bytes = i < 300 ? cuts[i % cuts.length]! : sealed.length;
            pieces.push(sealed.subarray(at, at + bytes));
            at += bytes;
          }
          expect(await open(keys, pieces)).toEqual(raw);
        },
      ),
      { numRuns: 100 },
    );
  });

  it('come back byte by byte', async () => {
    const sealed = Buffer.concat(await sealAll(keys, bodies));
    expect(
      await open(
        keys,
        [...sealed].map((byte) => Buffer.from([byte])),
      ),
    ).toEqual(bodies);
  });

  it('can each be read alone', async () => {
    const frames = await sealAll(keys, bodies);
    for (const [i, frame] of frames.entries()) {
      const opened = await openFrame(keys, blob, Buffer.concat([frame, Buffer.from('what follows')]));
      expect(opened).toMatchObject({ raw: bodies[i], number: i, final: i === 2, frameBytes: frame.length });
    }
  });

  it('reveal the flip of any single bit', async () => {
    const sealed = Buffer.concat(await sealAll(keys, bodies.slice(0, 2)));
    for (let bit = 0; bit < sealed.length * 8; bit += 1) {
      const flipped = Buffer.from(sealed);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      await expect(open(keys, [flipped]), `bit ${bit}`).rejects.toThrow(broken);
    }
  });

  it('reveal the flip of any single bit of a frame that is read alone', async () => {
    const sealed = (await sealAll(keys, [Buffer.from('alone')]))[0]!;
    for (let bit = 0; bit < sealed.length * 8; bit += 1) {
      const flipped = Buffer.from(sealed);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      await expect(openFrame(keys, blob, flipped), `bit ${bit}`).rejects.toThrow();
    }
  });

  it.each<[string, (frames: Buffer[]) => Buffer[]]>([
    ['swapped', ([a, b, c]) => [b!, a!, c!]],
    ['dropped in the middle', ([a, , c]) => [a!, c!]],
    ['dropped at the beginning', ([, b, c]) => [b!, c!]],
    ['dropped at the end', ([a, b]) => [a!, b!]],
    ['duplicated', ([a, b, c]) => [a!, b!, b!, c!]],
    ['duplicated at the end', ([a, b, c]) => [a!, b!, c!, c!]],
    ['followed by a byte', ([a, b, c]) => [a!, b!, c!, Buffer.alloc(1)]],
    ['missing altogether', () => []],
  ])('are refused when they are %s', async (_what, change) => {
    const frames = change(await sealAll(keys, bodies));
    await expect(open(keys, frames)).rejects.toThrow(broken);
    await expect(open(keys, [Buffer.concat(frames)])).rejects.toThrow(broken);
  });

  it('are refused when they are cut off anywhere', async () => {
    const sealed = Buffer.concat(await sealAll(keys, bodies));
    for (let bytes = 0; bytes < sealed.length; bytes += 1) {
      await expect(open(keys, [sealed.subarray(0, bytes)]), `${bytes} bytes`).rejects.toThrow(broken);
    }
  });

  it('are refused under another name or kind', async () => {
    const sealed = await sealAll(keys, bodies);
    await expect(open(keys, sealed, { ...blob, name: 'chunks/abd' })).rejects.toThrow(broken);
    await expect(open(keys, sealed, { ...blob, kind: 'large' })).rejects.toThrow(broken);
  });

  it('are refused by a repository of the other sort', async () => {
    const other = keys.encrypted ? plainKeys : encrypted;
    await expect(open(other, await sealAll(keys, bodies))).rejects.toThrow(broken);
  });

  it('of a newer format are refused as such', async () => {
    const frames = await sealAll(keys, bodies);
    // Their tag, too, is of that format.
    for (const frame of frames) frame.fill(2, 4, 5).writeUInt8(frame.at(-1)! ^ 1, frame.length - 1);
    const sealed = Buffer.concat(frames);
    await expect(open(keys, [sealed])).rejects.toThrow(expect.objectContaining({ code: 'FIRN_REPOSITORY_NEWER' }));
  });

  it('of this format that say that they are of a newer one are damaged', async () => {
    const sealed = Buffer.concat(await sealAll(keys, bodies)).fill(2, 4, 5);
    await expect(open(keys, [sealed])).rejects.toThrow(broken);
  });

  it.each([
    [12, FRAME_RAW_BYTES_MAX + 1],
    [12, 0xffffffff],
    [16, 0xffffffff],
  ])('are refused from the header alone when byte %i on promises %i bytes', async (at, value) => {
    const sealed = Buffer.concat(await sealAll(keys, bodies));
    sealed.writeUInt32LE(value, at);
    const header = sealed.subarray(0, FRAME_HEADER_BYTES);
    async function* pieces() {
      yield header;
      throw new Error('More was asked for.');
    }
    await expect(Array.fromAsync(openFrames(keys, blob, pieces()))).rejects.toThrow(broken);
  });

  it('have the length that is foretold', async () => {
    const frame = await compressFrame(Buffer.from('some bytes'), { level: 3, encoding: 'auto' });
    const sealed = new FrameSealer(keys, blob).seal(frame, { final: true });
    expect(sealed.length).toBe(sealedFrameBytes(keys, frame.payload.length));
  });

  it('are not sealed after the last', async () => {
    const sealer = new FrameSealer(keys, blob);
    const frame = await compressFrame(Buffer.from('x'), { level: 3, encoding: 'auto' });
    sealer.seal(frame, { final: true });
    expect(() => sealer.seal(frame, { final: true })).toThrow('last frame');
  });
});

describe('frames of an encrypted repository, further,', () => {
  it('are refused by other keys', async () => {
    const other = keysFromMaster(Buffer.alloc(32, 2));
    await expect(open(other, await sealAll(encrypted, bodies))).rejects.toThrow(broken);
  });

  it('are refused when some of them come from another write of the same blob', async () => {
    const first = await sealAll(encrypted, bodies);
    const second = await sealAll(encrypted, bodies);
    await expect(open(encrypted, [first[0]!, second[1]!, first[2]!])).rejects.toThrow(broken);
    await expect(open(encrypted, [first[0]!, second[1]!, second[2]!])).rejects.toThrow(broken);
  });

  it('differ between two writes of the same bytes, and show nothing of them', async () => {
    const secret = [Buffer.from('a secret that must not show')];
    const first = (await sealAll(encrypted, secret))[0]!;
    const second = (await sealAll(encrypted, secret))[0]!;
    expect(first.subarray(20, 52).equals(second.subarray(20, 52))).toBe(false);
    expect(first.subarray(52).equals(second.subarray(52))).toBe(false);
    expect(first.includes('secret')).toBe(false);
  });

  it('can be opened by anyone who follows the documentation with the key of the blob', async () => {
    const sealed = (await sealAll(encrypted, [Buffer.from('short')]))[0]!;
    const header = sealed.subarray(0, FRAME_HEADER_BYTES);
    const key = encrypted.blobKey(header.subarray(20));
    const cipher = createCipheriv('aes-256-gcm', key, Buffer.alloc(12));
    cipher.setAAD(Buffer.concat([header, Buffer.from('tar\0chunks/abc')]));
    const payload = Buffer.concat([cipher.update('short'), cipher.final()]);
    expect(sealed.subarray(FRAME_HEADER_BYTES).equals(Buffer.concat([payload, cipher.getAuthTag()]))).toBe(true);
  });
});

describe('a frame that was made to unpack to more than it says', () => {
  it('is refused without unpacking it', async () => {
    const payload = zlib.zstdCompressSync(Buffer.alloc(8 << 20));
    const sealer = new FrameSealer(plainKeys, blob);
    const sealed = sealer.seal({ encoding: 'zstd', rawBytes: 1000, payload }, { final: true });
    const refused = { code: 'FIRN_SEAL_BROKEN', cause: expect.objectContaining({ code: 'ERR_BUFFER_TOO_LARGE' }) };
    await expect(open(plainKeys, [sealed])).rejects.toThrow(expect.objectContaining(refused));
  });

  it('is refused too when it unpacks to less', async () => {
    const payload = zlib.zstdCompressSync(Buffer.alloc(999));
    const sealer = new FrameSealer(plainKeys, blob);
    const sealed = sealer.seal({ encoding: 'zstd', rawBytes: 1000, payload }, { final: true });
    await expect(open(plainKeys, [sealed])).rejects.toThrow(broken);
  });
});

describe('compressing a frame', () => {
  it('keeps bytes that do not compress as they are, unless zstd is asked for', async () => {
    const noise = randomBytes(50_000);
    expect(await compressFrame(noise, { level: 3, encoding: 'auto' })).toMatchObject({
      encoding: 'raw',
      rawBytes: 50_000,
    });
    const forced = await compressFrame(noise, { level: 3, encoding: 'zstd' });
    expect(forced.encoding).toBe('zstd');
    expect(zlib.zstdDecompressSync(forced.payload).equals(noise)).toBe(true);
  });

  it('makes bytes smaller that can be, on this thread or on another', async () => {
    for (const bytes of [1000, 1_000_000]) {
      const frame = await compressFrame(Buffer.alloc(bytes, 'again and '), { level: 3, encoding: 'auto' });
      expect(frame.encoding).toBe('zstd');
      expect(frame.payload.length).toBeLessThan(bytes / 5);
    }
  });

  it('refuses more than a frame may hold', async () => {
    const raw = Buffer.alloc(FRAME_RAW_BYTES_MAX + 1);
    await expect(compressFrame(raw, { level: 3, encoding: 'auto' })).rejects.toThrow(RangeError);
  });
});

describe('a plain frame', () => {
  it('carries the SHA-256 of its header, kind, name and payload', async () => {
    const sealed = (await sealAll(plainKeys, [Buffer.from('open')]))[0]!;
    const digest = createHash('sha256')
      .update(sealed.subarray(0, FRAME_HEADER_BYTES))
      .update('tar\0chunks/abc')
      .update('open')
      .digest();
    expect(sealed.subarray(-32).equals(digest)).toBe(true);
  });
});
