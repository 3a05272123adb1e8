/**
 * Gives the memory of a long buffer back at once. To the garbage collector a buffer is a small object with something
 * outside its heap, so it lets some tens of megabytes of them pile up, and then marks the whole heap to find them.
 *
 * Only for bytes that no one else sees: made here or handed over for good, of no interest any more, and with no call of the
 * system under way that reads them. So never what was given to a socket to send, whose write may outlast the answer.
 */
import { isMarkedAsUntransferable } from 'node:worker_threads';

/** In bytes; less is not worth it. */
const LEAST_BYTES = 128 * 1024;

/**
 * The buffer, and every other view of its memory, is empty afterwards. Memory shorter than `leastBytes` or in Node's pool
 * stays as it is, and so does that of a part that does not begin where the memory does.
 */
export function freeBuffer({ buffer, byteOffset }: Uint8Array, leastBytes = LEAST_BYTES): void {
  if (buffer.byteLength < leastBytes || byteOffset !== 0 || !(buffer instanceof ArrayBuffer)) return;
  if (!isMarkedAsUntransferable(buffer)) buffer.transfer(0);
}
