/**
 * Recognises uploads that are recorded already: an event may be delivered again, and what is certainly durable and still
 * to be archived need not be recorded twice. It drops a record only when its id was found, exactly, in a partition that
 * the manifest, loaded for the purpose, names as active or as a batch. Everything unclear is recorded again: that costs
 * a reading that finds nothing new, and a record that was dropped wrongly would be an upload that is lost.
 *
 * Usually it asks the storage for nothing: the ids of the active partition are known as far as this process wrote or read
 * them, and sealed partitions answer by their filters, which are fetched when a partition is opened (of the newest, within
 * bounds). What a filter takes for its own is looked up in the partition itself, once; then its ids are known.
 *
 * A batch that was archived and not published yet counts as «still to be archived», also where it skipped the upload as
 * unreadable: the event that comes again has the very same version, and the snapshot is going to name it as skipped. Once
 * the batch is retired, the same event is recorded again. Removals are never dropped.
 */
import pMap from 'p-map';
import { FirnError } from '../errors.ts';
import { BlobStoreError, type CallOptions } from '../storage/blob-store.ts';
import type { BloomFilter } from './bloom-filter.ts';
import type { JournalParts } from './journal-parts.ts';
import { batchPartitions, type Manifest, type PartitionEntry, partitionBlobName } from './manifest.ts';
import { recordId } from './partition.ts';
import { readFilter } from './partition-filter.ts';
import { readPartition } from './partition-reading.ts';
import type { JournalRecord } from './record.ts';

/** Sealed partitions that are asked, the newest first, and the records in them: some 60 bytes of memory each. */
const PARTITIONS_MAX = 16;
const RECORDS_MAX = 65_536;
const FILTERS_IN_FLIGHT = 8;

/** What is known of a sealed partition: its ids, or its filter, or nothing. */
interface Known {
  ids?: ReadonlySet<string>;
  filter?: BloomFilter | undefined;
}

export interface ActiveIds {
  readonly blob: string;
  readonly ids: ReadonlySet<string>;
}

export class Redeliveries {
  readonly #parts: JournalParts;
  readonly #active: () => ActiveIds | undefined;
  #sealed = new Map<string, Known>();
  #refreshed = false;

  /** @param active what this process knows to be durable in the partition that it appends to. */
  constructor(parts: JournalParts, active: () => ActiveIds | undefined) {
    this.#parts = parts;
    this.#active = active;
  }

  /** @returns the records that are to be written. */
  sift(
    records: readonly JournalRecord[],
    options: CallOptions,
  ): readonly JournalRecord[] | Promise<readonly JournalRecord[]> {
    if (this.#refreshed && !records.some((record) => this.#mayBeKnown(record))) return records;
    return this.#siftExactly(records, options);
  }

  /** Learns which sealed partitions there are now. */
  async refresh(manifest: Manifest, options?: CallOptions): Promise<void> {
    const known = new Map<string, Known>();
    let records = 0;
    for (const entry of batchPartitions(manifest).reverse()) {
      records += entry.records ?? 0;
      if (known.size === PARTITIONS_MAX || records > RECORDS_MAX) break;
      known.set(entry.blob, this.#sealed.get(entry.blob) ?? {});
    }
    this.#sealed = known;
    this.#refreshed = true;
    const unknown = [...known].filter(([, each]) => each.ids === undefined && each.filter === undefined);
    await pMap(
      unknown,
      async ([blob, each]) => {
        try {
          each.filter = await readFilter(this.#parts.state, this.#parts.source, blob, options);
        } catch (error) {
          // Anything may be contained then.
          ignoreStorage(error);
        }
      },
      { concurrency: FILTERS_IN_FLIGHT },
    );
  }

  /** A partition was sealed whose ids are all known. */
  remember(blob: string, ids: ReadonlySet<string>): void {
    this.#sealed.set(blob, { ids });
  }

  #mayBeKnown(record: JournalRecord): boolean {
    if (record.kind !== 'upload') return false;
    const id = recordId(record);
    if (this.#active()?.ids.has(id)) return true;
    return this.#sealed.values().some((known) => mayContain(known, id));
  }

  async #siftExactly(records: readonly JournalRecord[], options: CallOptions): Promise<readonly JournalRecord[]> {
    try {
      if (!this.#refreshed) await this.refresh((await this.#parts.manifests.load(options)).manifest, options);
      const suspects = records.filter((record) => this.#mayBeKnown(record));
      if (suspects.length === 0) return records;
      const { manifest } = await this.#parts.manifests.load(options);
      const dropped = new Set<JournalRecord>();
      for (const record of suspects)
        if (await this.#isDurable(recordId(record), manifest, options)) dropped.add(record);
      for (const _ of dropped) this.#parts.metrics.droppedDuplicate();
      return records.filter((record) => !dropped.has(record));
    } catch (error) {
      if (options.signal?.aborted !== true) ignoreStorage(error);
      return records;
    }
  }

  async #isDurable(id: string, manifest: Manifest, options: CallOptions): Promise<boolean> {
    const active = this.#active();
    if (active?.ids.has(id) && isToBeArchived(manifest, active.blob)) return true;
    for (const [blob, known] of this.#sealed) {
      if (!mayContain(known, id) || !isToBeArchived(manifest, blob)) continue;
      known.ids ??= await this.#readIds(blob, options);
      if (known.ids.has(id)) return true;
    }
    return false;
  }

  async #readIds(blob: string, options: CallOptions): Promise<ReadonlySet<string>> {
    const { state, source } = this.#parts;
    const name = partitionBlobName(source, blob);
    const ids = new Set<string>();
    try {
      for await (const event of readPartition(state, name, options)) {
        if (event.kind === 'record') ids.add(event.id);
      }
    } catch (error) {
      options.signal?.throwIfAborted();
      // Lost, or out of reach: nothing in it is certain, and it is not asked again.
      ignoreStorage(error);
      ids.clear();
    }
    return ids;
  }
}

function mayContain({ ids, filter }: Known, id: string): boolean {
  return ids?.has(id) ?? filter?.mayContain(id) ?? true;
}

function isToBeArchived(manifest: Manifest, blob: string): boolean {
  const isIt = (entry: PartitionEntry) => entry.blob === blob;
  return (
    manifest.partitions.some((entry) => isIt(entry) && entry.state === 'active') || batchPartitions(manifest).some(isIt)
  );
}

/** A storage that fails leaves a question open; a mistake in the program does not pass for that. */
function ignoreStorage(error: unknown): void {
  if (!(error instanceof FirnError) && !(error instanceof BlobStoreError)) throw error;
}
