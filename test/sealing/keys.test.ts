import { createHash, createHmac, hkdfSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { isHash, keysFromMaster, plainKeys, sameTag } from '../../src/sealing/keys.ts';

const master = Buffer.alloc(32, 3);

describe('the keys of a repository', () => {
  it('name by HMAC-SHA-256 under a key of their own', () => {
    const namingKey = Buffer.from(hkdfSync('sha256', master, Buffer.alloc(0), 'firn naming v1', 32));
    const expected = createHmac('sha256', namingKey).update('content').digest('hex');
    expect(keysFromMaster(master).hash(Buffer.from('content'))).toBe(expected);
  });

  it('name by plain SHA-256 in an unencrypted repository', () => {
    expect(plainKeys.hash(Buffer.from('content'))).toBe(createHash('sha256').update('content').digest('hex'));
  });

  it.each([
    ['encrypted', keysFromMaster(master)],
    ['plain', plainKeys],
  ])('hash a stream as they hash the whole (%s)', (_, keys) => {
    const hasher = keys.hasher();
    for (const part of ['con', '', 'tent']) hasher.update(Buffer.from(part));
    expect(hasher.digest()).toBe(keys.hash(Buffer.from('content')));
  });

  it('differ with the master key in every use', () => {
    const left = keysFromMaster(master);
    const right = keysFromMaster(Buffer.alloc(32, 4));
    const bytes = Buffer.alloc(32);
    expect(left.hash(bytes)).not.toBe(right.hash(bytes));
    expect(left.configTag(bytes)).not.toBe(right.configTag(bytes));
    expect(left.configTag(bytes)).not.toBe(left.hash(bytes));
    expect(left.chunkingKey.equals(right.chunkingKey)).toBe(false);
    expect(left.blobKey(bytes).equals(right.blobKey(bytes))).toBe(false);
  });

  it('give each salt its key, however the salts alternate', () => {
    const keys = keysFromMaster(master);
    const [a, b] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];
    const [first, second] = [keys.blobKey(a), keys.blobKey(b)];
    expect(first.equals(second)).toBe(false);
    expect(keys.blobKey(a).equals(first)).toBe(true);
    a.fill(9);
    expect(keys.blobKey(Buffer.alloc(32, 1)).equals(first)).toBe(true);
    expect(keys.blobKey(a).equals(first)).toBe(false);
  });

  it('are not made from a master key of another length', () => {
    expect(() => keysFromMaster(Buffer.alloc(31))).toThrow(RangeError);
  });

  it('have no blob key in an unencrypted repository', () => {
    expect(() => plainKeys.blobKey(Buffer.alloc(32))).toThrow();
  });
});

describe('hashes and tags', () => {
  it('are 64 lower-case hex digits', () => {
    expect(isHash('a'.repeat(64))).toBe(true);
    for (const text of ['', 'a'.repeat(63), 'a'.repeat(65), 'A'.repeat(64), `${'a'.repeat(64)}\n`]) {
      expect(isHash(text)).toBe(false);
    }
  });

  it('are the same only when every digit is', () => {
    expect(sameTag('00ff', '00ff')).toBe(true);
    expect(sameTag('00ff', '00fe')).toBe(false);
    expect(sameTag('00ff', '00ff00')).toBe(false);
    expect(sameTag('', '')).toBe(false);
  });
});
