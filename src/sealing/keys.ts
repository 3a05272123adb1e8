/**
 * The keys of a repository, all derived from one random 32-byte master key, and the keyed hash that names everything.
 *
 * HKDF-SHA-256 separates the uses: `naming` (hashes), `chunking` (the gear table), `data` (frames), `config` (the
 * authentication of the config). An unencrypted repository has no master key: its names are plain SHA-256, its frames
 * carry a plain SHA-256, and its gear table comes from a key of zeros. Key material stays inside this module's closures.
 */
import { createHash, createHmac, createSecretKey, hkdfSync, type KeyObject, timingSafeEqual } from 'node:crypto';

/** 64 lower-case hex digits. */
export type Hash = string;

export const HASH_BYTES = 32;
const hashPattern = /^[0-9a-f]{64}$/;

export function isHash(text: string): text is Hash {
  return hashPattern.test(text);
}

export interface Hasher {
  update(bytes: Uint8Array): void;
  digest(): Hash;
}

export interface Keys {
  readonly encrypted: boolean;
  /** 32 bytes from which the chunker's gear table is derived. */
  readonly chunkingKey: Buffer;
  /** The keyed SHA-256 of bytes. */
  hash(bytes: Uint8Array): Hash;
  /** The same over a stream. */
  hasher(): Hasher;
  /** The AES-256 key of a blob with this 32-byte salt. Throws in an unencrypted repository. */
  blobKey(salt: Uint8Array): Buffer;
  /** Authenticates the repository's config; in an unencrypted repository it only detects damage. */
  configTag(bytes: Uint8Array): string;
}

export const MASTER_KEY_BYTES = 32;

function derive(secret: KeyObject, salt: Uint8Array, info: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, salt, info, 32));
}

export function keysFromMaster(master: Uint8Array): Keys {
  if (master.length !== MASTER_KEY_BYTES) throw new RangeError(`A master key has ${MASTER_KEY_BYTES} bytes.`);
  const none = Buffer.alloc(0);
  const secret = createSecretKey(master);
  // As objects: a key of bytes is taken in anew by every call, which costs more than hashing a small file.
  const namingKey = createSecretKey(derive(secret, none, 'firn naming v1'));
  const dataKey = createSecretKey(derive(secret, none, 'firn data v1'));
  const configKey = createSecretKey(derive(secret, none, 'firn config v1'));
  let lastSalt: Buffer = none;
  let lastKey: Buffer = none;
  return {
    encrypted: true,
    chunkingKey: derive(secret, none, 'firn chunking v1'),
    hash: (bytes) => createHmac('sha256', namingKey).update(bytes).digest('hex'),
    hasher: () => hasherOf(createHmac('sha256', namingKey)),
    blobKey(salt) {
      // The frames of one blob share a salt and come one after another: remember the last.
      if (!lastSalt.equals(salt)) {
        lastKey = derive(dataKey, salt, 'firn blob v1');
        lastSalt = Buffer.from(salt);
      }
      return lastKey;
    },
    configTag: (bytes) => createHmac('sha256', configKey).update(bytes).digest('hex'),
  };
}

export const plainKeys: Keys = {
  encrypted: false,
  chunkingKey: Buffer.alloc(32),
  hash: (bytes) => createHash('sha256').update(bytes).digest('hex'),
  hasher: () => hasherOf(createHash('sha256')),
  blobKey() {
    throw new Error('An unencrypted repository has no blob keys.');
  },
  configTag: (bytes) => createHash('sha256').update(bytes).digest('hex'),
};

function hasherOf(state: { update(bytes: Uint8Array): unknown; digest(encoding: 'hex'): string }): Hasher {
  return {
    update(bytes) {
      state.update(bytes);
    },
    digest: () => state.digest('hex'),
  };
}

/** Compares two tags of hex digits in constant time. */
export function sameTag(a: string, b: string): boolean {
  const left = Buffer.from(a, 'hex');
  const right = Buffer.from(b, 'hex');
  return left.length === right.length && left.length > 0 && timingSafeEqual(left, right);
}
