/** The same random-looking bytes for the same seed, so that a failure can be looked at again. */
import { createCipheriv } from 'node:crypto';

export function pseudoRandomBytes(seed: number, bytes: number): Buffer {
  const key = Buffer.alloc(16);
  key.writeUInt32LE(seed);
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(bytes));
}
