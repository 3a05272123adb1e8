/**
 * Key blobs: the master key of a repository, wrapped under a passphrase. Several key blobs may wrap the same key, one a
 * passphrase. The wrapping key is scrypt(passphrase, salt); the wrap is AES-256-GCM with the id of the repository and
 * the id of the key as associated data.
 *
 * JSON of `keys/<id>`: {"format":1,"id","kind":"passphrase","kdf":{"name":"scrypt","n","r","p","salt"},"nonce",
 * "wrapped","tag"}; salt, nonce, wrapped key and tag in base64.
 */
import { createCipheriv, createDecipheriv, randomBytes, type ScryptOptions, scrypt } from 'node:crypto';
import { FirnError } from '../errors.ts';
import { hasNumbers, parseJsonBlob } from '../storage/json-blob.ts';
import { MASTER_KEY_BYTES } from './keys.ts';

const KEY_FORMAT = 1;

/** Cost of scrypt: memory is 128 × r × (n + p + 2) bytes, and work 128 × n × r × p. */
export interface ScryptCost {
  readonly n: number;
  readonly r: number;
  readonly p: number;
}

/** 32 MiB and three passes; equal in strength to n=2^17, p=1 by OWASP's password storage table. */
export const defaultScryptCost: ScryptCost = { n: 2 ** 15, r: 8, p: 3 };
/**
 * A key blob that asks for more is refused before any memory is reserved: more than ten times the default, so that whatever
 * lies under `keys/` is tried in bounded time and memory.
 */
const SCRYPT_WORK_BYTES_MAX = 1024 * 1024 * 1024;
const SCRYPT_MEMORY_BYTES_MAX = 512 * 1024 * 1024;

/** RFC 7914, section 2: n is a power of two, and less than 2^(128 × r / 8). */
function isCost({ n, r, p }: ScryptCost): boolean {
  const isPowerOfTwo = n > 1 && Number.isInteger(Math.log2(n));
  const isScrypt = isPowerOfTwo && r >= 1 && p >= 1 && Math.log2(n) < 16 * r;
  return isScrypt && 128 * n * r * p <= SCRYPT_WORK_BYTES_MAX && 128 * r * (n + p + 2) <= SCRYPT_MEMORY_BYTES_MAX;
}

function deriveWrappingKey(passphrase: string, salt: Buffer, cost: ScryptCost): Promise<Buffer> {
  // Normalized, so that a passphrase typed on another keyboard or system still opens its key.
  const secret = passphrase.normalize('NFC');
  const options: ScryptOptions = { N: cost.n, r: cost.r, p: cost.p, maxmem: SCRYPT_MEMORY_BYTES_MAX };
  return new Promise((resolve, reject) => {
    scrypt(secret, salt, 32, options, (error, key) => (error ? reject(error) : resolve(key)));
  });
}

function associatedData(repositoryId: string, keyId: string): Buffer {
  return Buffer.from(`firn key v1\0${repositoryId}\0${keyId}`);
}

export interface KeyBlob {
  readonly name: string;
  readonly body: Buffer;
}

/** Wraps a master key. */
export async function wrapMasterKey(
  repositoryId: string,
  master: Buffer,
  passphrase: string,
  cost: ScryptCost = defaultScryptCost,
): Promise<KeyBlob> {
  const id = randomBytes(8).toString('hex');
  const salt = randomBytes(32);
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', await deriveWrappingKey(passphrase, salt, cost), nonce);
  cipher.setAAD(associatedData(repositoryId, id));
  const wrapped = Buffer.concat([cipher.update(master), cipher.final()]);
  const body = {
    format: KEY_FORMAT,
    id,
    kind: 'passphrase',
    kdf: { name: 'scrypt', n: cost.n, r: cost.r, p: cost.p, salt: salt.toString('base64') },
    nonce: nonce.toString('base64'),
    wrapped: wrapped.toString('base64'),
    tag: cipher.getAuthTag().toString('base64'),
  };
  return { name: `keys/${id}`, body: Buffer.from(JSON.stringify(body)) };
}

/**
 * Unwraps the master key.
 * @returns undefined when the passphrase does not open this key blob.
 * @throws FIRN_CONFIG_DAMAGED when it is no key blob; FIRN_REPOSITORY_NEWER.
 */
export async function unwrapMasterKey(
  repositoryId: string,
  blob: KeyBlob,
  passphrase: string,
): Promise<Buffer | undefined> {
  const damaged = (problem: string) => new FirnError('FIRN_CONFIG_DAMAGED', { what: `key ${blob.name}`, problem });
  const { id, kind, kdf, nonce, wrapped, tag } = parseJsonBlob(blob.name, blob.body, KEY_FORMAT);
  if (kind !== 'passphrase') return undefined;
  if (
    typeof id !== 'string' ||
    typeof nonce !== 'string' ||
    typeof wrapped !== 'string' ||
    typeof tag !== 'string' ||
    !hasNumbers(kdf, 'n', 'r', 'p') ||
    !('salt' in kdf) ||
    typeof kdf.salt !== 'string'
  ) {
    throw damaged('a field is missing');
  }
  const { n, r, p, salt } = kdf;
  if (!isCost({ n, r, p })) throw damaged('the cost of its key derivation makes no sense');
  const key = await deriveWrappingKey(passphrase, Buffer.from(salt, 'base64'), { n, r, p });
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, Buffer.from(nonce, 'base64'), { authTagLength: 16 });
    decipher.setAAD(associatedData(repositoryId, id));
    decipher.setAuthTag(Buffer.from(tag, 'base64'));
    const master = Buffer.concat([decipher.update(Buffer.from(wrapped, 'base64')), decipher.final()]);
    return master.length === MASTER_KEY_BYTES ? master : undefined;
  } catch {
    // A wrong passphrase and a changed key blob cannot be told apart: neither opens it.
    return undefined;
  }
}
