/**
 * Group commit: records of concurrent calls wait while a block is written and then share the next one, so the number of
 * storage operations does not grow with the number of records. A call resolves when all of its records are durable.
 */
import type { CallOptions } from '../storage/blob-store.ts';
import { encodeRecord } from './partition.ts';
import type { JournalRecord } from './record.ts';

export interface Block {
  readonly bytes: Buffer;
  readonly records: number;
  readonly uploadBytes: number;
}

/** What one call of `append` waits for. */
interface Ticket {
  left: number;
  readonly sealed: string[];
  settled: boolean;
  settle(error?: { readonly reason: unknown }): void;
}

interface Waiting {
  readonly bytes: Buffer;
  readonly uploadBytes: number;
  readonly ticket: Ticket;
}

export interface AppendQueueOptions {
  readonly blockBytesMax: number;
  /** How many records the next block may hold; asked before each block. */
  recordsMax(): number;
  /** Makes a block durable. @returns the batches that were sealed on the way; they are told to one of the callers. */
  write(block: Block): Promise<readonly string[]>;
}

export class AppendQueue {
  readonly #options: AppendQueueOptions;
  #waiting: Waiting[] = [];
  #writing = false;

  constructor(options: AppendQueueOptions) {
    this.#options = options;
  }

  /**
   * @throws FIRN_PATH_UNUSABLE before anything is written when a record is too large; the signal's reason, after which
   * the records may be durable or not.
   */
  async append(
    records: readonly JournalRecord[],
    { signal }: CallOptions = {},
  ): Promise<{ sealed: readonly string[] }> {
    signal?.throwIfAborted();
    if (records.length === 0) return { sealed: [] };
    const encoded = records.map((record) => ({
      bytes: encodeRecord(record),
      uploadBytes: record.kind === 'upload' ? record.bytes : 0,
    }));
    const { promise, resolve, reject } = Promise.withResolvers<{ sealed: readonly string[] }>();
    const ticket: Ticket = {
      left: encoded.length,
      sealed: [],
      settled: false,
      settle(error) {
        ticket.settled = true;
        if (error) reject(error.reason);
        else resolve({ sealed: ticket.sealed });
      },
    };
    const onAbort = () => ticket.settle({ reason: signal?.reason });
    signal?.addEventListener('abort', onAbort, { once: true });
    for (const item of encoded) this.#waiting.push({ ...item, ticket });
    void this.#pump();
    try {
      return await promise;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Never rejects: what goes wrong is told to the callers whose records were in the block. */
  async #pump(): Promise<void> {
    if (this.#writing) return;
    this.#writing = true;
    for (let group = this.#take(); group.length > 0; group = this.#take()) {
      try {
        const block: Block = {
          bytes: Buffer.concat(group.map(({ bytes }) => bytes)),
          records: group.length,
          uploadBytes: group.reduce((sum, { uploadBytes }) => sum + uploadBytes, 0),
        };
        const sealed = await this.#options.write(block);
        const teller = group.find(({ ticket }) => !ticket.settled) ?? group[0];
        teller?.ticket.sealed.push(...sealed);
        for (const { ticket } of group) {
          ticket.left -= 1;
          if (ticket.left === 0) ticket.settle();
        }
      } catch (reason) {
        for (const { ticket } of group) ticket.settle({ reason });
      }
    }
    this.#writing = false;
  }

  /** The next group; the records of calls that failed or were cancelled are passed over. */
  #take(): Waiting[] {
    const recordsMax = Math.max(1, this.#options.recordsMax());
    const group: Waiting[] = [];
    let bytes = 0;
    let at = 0;
    for (; at < this.#waiting.length && group.length < recordsMax; at += 1) {
      const item = this.#waiting[at];
      if (item === undefined || item.ticket.settled) continue;
      if (bytes + item.bytes.length > this.#options.blockBytesMax) break;
      bytes += item.bytes.length;
      group.push(item);
    }
    this.#waiting = this.#waiting.slice(at);
    return group;
  }
}
