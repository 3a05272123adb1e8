/**
 * The bounded way of records into the journal. Group commit: records of concurrent calls wait while a block is written and
 * then share the next one, so the number of storage operations does not grow with the number of records. A call resolves
 * when all of its records are durable; the records of one call, and those of one call and of the next, keep their order.
 *
 * Bounded: `bytesMax` of encoded records wait at most (one record more), and what a call brings beyond that is encoded only
 * when there is room. Calls that find no room stand in line, `callsMax` of them; more are refused with FIRN_JOURNAL_BUSY.
 * Nothing is dropped: a call resolves, or rejects with the reason.
 */
import { FirnError } from '../errors.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { checkRecord, encodeRecord, idOfEncoded } from './partition.ts';
import type { JournalRecord } from './record.ts';

export interface Block {
  readonly bytes: Buffer;
  readonly uploadBytes: number;
  /** Of its records, in their order. */
  readonly ids: readonly string[];
}

export interface AppendQueueOptions {
  readonly source: string;
  readonly blockBytesMax: number;
  /** Encoded records that may wait. */
  readonly bytesMax: number;
  /** Calls that may wait for room. */
  readonly callsMax: number;
  /** How many records the next block may hold; asked before each block. */
  recordsMax(): number;
  /**
   * Says which of a call's records are to be written; asked when it is the call's turn, and the calls behind it wait for
   * the answer.
   */
  sift(records: readonly JournalRecord[], options: CallOptions): Sifted | Promise<Sifted>;
  /** Makes a block durable. @returns the batches that were sealed on the way; they are told to one of the callers. */
  write(block: Block): Promise<readonly string[]>;
}

type Sifted = readonly JournalRecord[];

export interface QueueDepth {
  /** Encoded, and not yet in a block. */
  readonly records: number;
  readonly bytes: number;
  /** The most there were. */
  readonly recordsPeak: number;
  readonly bytesPeak: number;
}

/** One call of `append`. */
interface Call {
  records: readonly JournalRecord[];
  readonly signal: AbortSignal | undefined;
  sifting: 'to be done' | 'under way' | 'done';
  /** The first record that is not encoded yet. */
  next: number;
  /** Records that are not durable yet. */
  left: number;
  readonly sealed: string[];
  settled: boolean;
  settle(error?: { readonly reason: unknown }): void;
}

interface Waiting {
  readonly bytes: Buffer;
  readonly id: string;
  readonly uploadBytes: number;
  readonly call: Call;
}

function noop(): void {}

export class AppendQueue {
  readonly #options: AppendQueueOptions;
  /** Calls with records that are not encoded yet, oldest first. */
  readonly #line = new Set<Call>();
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #recordsPeak = 0;
  #bytesPeak = 0;
  #writing = false;
  #closed = false;
  /** One for each call that is not settled; it never rejects. */
  readonly #unsettled = new Set<Promise<void>>();
  #idle: PromiseWithResolvers<void> | undefined;

  constructor(options: AppendQueueOptions) {
    this.#options = options;
  }

  get depth(): QueueDepth {
    return {
      records: this.#waiting.length,
      bytes: this.#waitingBytes,
      recordsPeak: this.#recordsPeak,
      bytesPeak: this.#bytesPeak,
    };
  }

  /**
   * @throws FIRN_PATH_UNUSABLE before anything is written when a record is too large; FIRN_JOURNAL_CLOSED,
   * FIRN_JOURNAL_BUSY; the signal's reason, after which the records may be durable or not.
   */
  async append(
    records: readonly JournalRecord[],
    { signal }: CallOptions = {},
  ): Promise<{ sealed: readonly string[] }> {
    signal?.throwIfAborted();
    const { source, callsMax } = this.#options;
    if (this.#closed) throw new FirnError('FIRN_JOURNAL_CLOSED', { source });
    if (records.length === 0) return { sealed: [] };
    for (const record of records) checkRecord(record);
    if (this.#line.size >= callsMax) throw new FirnError('FIRN_JOURNAL_BUSY', { source, calls: this.#line.size });
    const { promise, resolve, reject } = Promise.withResolvers<{ sealed: readonly string[] }>();
    const call: Call = {
      records,
      signal,
      sifting: 'to be done',
      next: 0,
      left: records.length,
      sealed: [],
      settled: false,
      settle(error) {
        call.settled = true;
        if (error) reject(error.reason);
        else resolve({ sealed: call.sealed });
      },
    };
    const onAbort = () => {
      call.settle({ reason: signal?.reason });
      this.#line.delete(call);
      void this.#pump();
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    this.#line.add(call);
    const settled = promise.then(noop, noop);
    this.#unsettled.add(settled);
    void this.#pump();
    try {
      return await promise;
    } finally {
      this.#unsettled.delete(settled);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Resolves when every call that was taken so far is settled. @throws FIRN_JOURNAL_CLOSED. */
  async settled(): Promise<void> {
    if (this.#closed) throw new FirnError('FIRN_JOURNAL_CLOSED', { source: this.#options.source });
    await Promise.all(this.#unsettled);
  }

  /** Takes nothing more. Resolves when every call that was taken is settled; calling it again waits for the same. */
  async close(): Promise<void> {
    this.#closed = true;
    if (!this.#writing && this.#line.size === 0) return;
    this.#idle ??= Promise.withResolvers();
    await this.#idle.promise;
  }

  /** Encodes what there is room for. */
  #admit(): void {
    for (const call of this.#line) {
      if (!this.#isSifted(call)) return;
      for (; call.next < call.records.length && !call.settled; call.next += 1) {
        const record = call.records[call.next];
        if (record === undefined) continue;
        if (this.#waitingBytes >= this.#options.bytesMax) return;
        const bytes = encodeRecord(record);
        const uploadBytes = record.kind === 'upload' ? record.bytes : 0;
        this.#waiting.push({ bytes, id: idOfEncoded(bytes), uploadBytes, call });
        this.#waitingBytes += bytes.length;
        this.#recordsPeak = Math.max(this.#recordsPeak, this.#waiting.length);
        this.#bytesPeak = Math.max(this.#bytesPeak, this.#waitingBytes);
      }
      this.#line.delete(call);
    }
  }

  #isSifted(call: Call): boolean {
    if (call.sifting !== 'to be done') return call.sifting === 'done';
    const take = (kept: Sifted) => {
      call.sifting = 'done';
      call.records = kept;
      call.left = kept.length;
      if (kept.length === 0) call.settle();
    };
    const sifted = this.#options.sift(call.records, { signal: call.signal });
    if (!(sifted instanceof Promise)) {
      take(sifted);
      return true;
    }
    call.sifting = 'under way';
    void sifted
      .then(take, (reason) => {
        call.sifting = 'done';
        call.settle({ reason });
      })
      .then(() => this.#pump());
    return false;
  }

  /** Never rejects: what goes wrong is told to the callers whose records were in the block. */
  async #pump(): Promise<void> {
    this.#admit();
    if (this.#writing) return;
    this.#writing = true;
    for (let taken = this.#take(); taken !== undefined; taken = this.#take()) {
      const { block, calls } = taken;
      this.#admit();
      try {
        const sealed = await this.#options.write(block);
        const teller = calls.find(({ settled }) => !settled) ?? calls[0];
        teller?.sealed.push(...sealed);
        for (const call of calls) {
          call.left -= 1;
          if (call.left === 0) call.settle();
        }
      } catch (reason) {
        for (const call of calls) call.settle({ reason });
      }
    }
    this.#writing = false;
    if (this.#line.size === 0) this.#idle?.resolve();
  }

  /** The next block, and the call of each of its records; those of calls that failed or were cancelled are passed over. */
  #take(): { readonly block: Block; readonly calls: readonly Call[] } | undefined {
    const recordsMax = Math.max(1, this.#options.recordsMax());
    for (;;) {
      const group: Waiting[] = [];
      let bytes = 0;
      let at = 0;
      for (; at < this.#waiting.length && group.length < recordsMax; at += 1) {
        const item = this.#waiting[at];
        if (item === undefined) continue;
        if (!item.call.settled) {
          if (bytes + item.bytes.length > this.#options.blockBytesMax) break;
          bytes += item.bytes.length;
          group.push(item);
        }
        this.#waitingBytes -= item.bytes.length;
      }
      this.#waiting = this.#waiting.slice(at);
      if (group.length > 0) return { block: blockOf(group, bytes), calls: group.map(({ call }) => call) };
      // All that waited was cancelled: there is room for those in line.
      this.#admit();
      if (this.#waiting.length === 0) return undefined;
    }
  }
}

function blockOf(group: readonly Waiting[], bytes: number): Block {
  return {
    bytes: Buffer.concat(
      group.map((item) => item.bytes),
      bytes,
    ),
    ids: group.map(({ id }) => id),
    uploadBytes: group.reduce((sum, { uploadBytes }) => sum + uploadBytes, 0),
  };
}
