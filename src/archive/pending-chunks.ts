/**
 * The chunks of receipts that wait to be published: batches with the same content store it once though none of them is
 * published yet. One for a process. A receipt never changes and is read once; so a batch that is archived reads what was
 * written since the one before it, and not everything that waits. When receipts are gone, their chunks are looked for in
 * the shards, and what is left is read anew: nothing stays here that a repair of the index would not see.
 *
 * A receipt that is not here, because it was written just now or does not fit, costs a second copy of its chunks.
 */
import pMap from 'p-map';
import { LocationTable } from '../chunks/location.ts';
import { isFirnError } from '../errors.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import { abortable } from '../storage/abortable.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { findReceipt, listReceipts, type Receipt, readLocations } from './receipt.ts';

const RECEIPTS_IN_FLIGHT = 8;

interface WaitingReceipt {
  readonly source: string;
  readonly batch: string;
  readonly written: Date;
}

/** A batch whose receipt was damaged gets another. */
function nameOf({ source, batch, written }: WaitingReceipt): string {
  return `${source}/${batch} ${written.getTime()}`;
}

export class PendingChunks {
  readonly #state: SealedBlobs;
  readonly #entriesMax: number;
  /** Receipts that were read, or left out. */
  #seen = new Set<string>();
  /** Each more than twice as large as the next, so that a lookup has few of them to ask. */
  #tables: LocationTable[] = [];
  #entries = 0;
  /** The calls go one after another: the second finds what the first read. */
  #earlier: Promise<unknown> = Promise.resolve();

  /** @param entriesMax locations that are held; receipts that do not fit are left out. */
  constructor(state: SealedBlobs, entriesMax: number) {
    this.#state = state;
    this.#entriesMax = entriesMax;
  }

  /** The locations of all receipts that wait now, as far as they fit. */
  async tables(options?: CallOptions): Promise<readonly LocationTable[]> {
    const reading = this.#earlier.then(() => this.#refresh(options));
    this.#earlier = reading.catch(() => undefined);
    await abortable(reading, options?.signal);
    return [...this.#tables];
  }

  async #refresh(options: CallOptions | undefined): Promise<void> {
    const waiting: WaitingReceipt[] = [];
    for await (const receipt of listReceipts(this.#state.store, undefined, options)) waiting.push(receipt);
    if (!this.#seen.isSubsetOf(new Set(waiting.map(nameOf)))) this.#beginAnew();
    const unread = waiting.filter((receipt) => !this.#seen.has(nameOf(receipt)));
    const failures: unknown[] = [];
    const read = async (receipt: WaitingReceipt): Promise<void> => {
      if (failures.length === 0) await this.#read(receipt, options).catch((error) => failures.push(error));
    };
    // What failed is told when all have ended: the next call must not begin while one is still reading.
    await pMap(unread, read, { concurrency: RECEIPTS_IN_FLIGHT });
    if (failures.length > 0) throw failures[0];
  }

  #beginAnew(): void {
    this.#seen = new Set();
    this.#tables = [];
    this.#entries = 0;
  }

  async #read(waiting: WaitingReceipt, options: CallOptions | undefined): Promise<void> {
    const { source, batch } = waiting;
    try {
      const receipt = await findReceipt(this.#state, source, batch, options);
      if (receipt !== undefined && this.#entries + receipt.indexEntries <= this.#entriesMax) {
        await this.#readLocations(receipt, options);
      }
    } catch (error) {
      // Damaged, or published and retired meanwhile; publishing deals with it.
      if (!isFirnError(error, 'FIRN_RECEIPT_DAMAGED')) throw error;
    }
    this.#seen.add(nameOf(waiting));
  }

  async #readLocations(receipt: Receipt, options: CallOptions | undefined): Promise<void> {
    // The room is taken before, since others are being read at the same time.
    this.#entries += receipt.indexEntries;
    try {
      const table = await readLocations(this.#state, receipt, options);
      if (table !== undefined) this.#add(table);
    } catch (error) {
      this.#entries -= receipt.indexEntries;
      throw error;
    }
  }

  #add(table: LocationTable): void {
    let added = table;
    for (;;) {
      const last = this.#tables.at(-1);
      if (last === undefined || last.count > 2 * added.count) break;
      this.#tables.pop();
      added = LocationTable.merge([last, added]);
    }
    this.#tables.push(added);
  }
}
