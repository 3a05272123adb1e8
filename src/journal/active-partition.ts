/**
 * The active partition of a journal as one process knows it: opening one, appending blocks, and making a batch of it.
 *
 * What is known is kept between calls and is never trusted further than the storage confirms: an append that meets a
 * sealed, full or missing partition goes on in the next one, and every rotation begins with the manifest.
 */
import { performance } from 'node:perf_hooks';
import { FirnError } from '../errors.ts';
import { BlobStoreError, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import type { Block } from './append-queue.ts';
import { type BatchInfo, infoOf } from './batch-info.ts';
import type { JournalParts } from './journal-parts.ts';
import { deleteUnnamed } from './left-behind.ts';
import { activePartition, type PartitionEntry, partitionBlobName, type SealedPartition } from './manifest.ts';
import { withActive, withSealed } from './manifest-steps.ts';
import { headerBytes } from './partition.ts';
import { createPartition, deletePartition, sealPartition } from './partition-blob.ts';
import { PartitionCount } from './partition-count.ts';
import { Redeliveries } from './redeliveries.ts';

const APPEND_TRIES_MAX = 20;

interface Known {
  readonly entry: PartitionEntry;
  readonly count: PartitionCount;
  /** Blocks and records that this process appended. */
  ownBlocks: number;
  ownRecords: number;
  ownUploadBytes: number;
  /** Records in the partition, as far as can be told without reading: a block of another process counts as one. */
  records: number;
}

export class ActivePartition {
  readonly redeliveries: Redeliveries;
  readonly #parts: JournalParts;
  #known: Known | undefined;

  constructor(parts: JournalParts) {
    this.#parts = parts;
    this.redeliveries = new Redeliveries(
      parts,
      () => this.#known && { blob: this.#known.entry.blob, ids: this.#known.count.ids },
    );
  }

  /** Records that the partition takes until it is full, as far as is known. */
  get recordsLeft(): number {
    return this.#parts.settings.recordsMax - (this.#known?.records ?? 0);
  }

  /** Makes a block durable. @returns the batches that were sealed on the way. */
  async append(block: Block): Promise<string[]> {
    const { state, source, settings, metrics } = this.#parts;
    const startedAt = performance.now();
    const sealed: string[] = [];
    for (let tries = 1; ; tries += 1) {
      const current = await this.#open();
      try {
        const name = partitionBlobName(source, current.entry.blob);
        const { offset, blocks, etag } = await state.append(name, block.bytes);
        const { ids, uploadBytes } = block;
        const added = { bytes: block.bytes.length, records: ids.length, uploadBytes, ids, etag };
        metrics.flushed(added, startedAt);
        current.ownBlocks += 1;
        current.ownRecords += ids.length;
        current.ownUploadBytes += uploadBytes;
        const otherBlocks = Math.max(0, blocks - 1 - current.ownBlocks);
        current.records = current.ownRecords + otherBlocks;
        // Where others append at the same moment, Azurite may name a wrong offset.
        current.count.add({ ...added, offset: otherBlocks === 0 ? offset : undefined });
        const due = current.records >= settings.recordsMax || current.ownUploadBytes >= settings.uploadBytesMax;
        if (due) sealed.push(...(await this.#rotateAfterAppend(current)));
        return sealed;
      } catch (error) {
        if (!isBlobFailure(error, 'sealed', 'full', 'missing') || tries >= APPEND_TRIES_MAX) throw error;
        // Others went on in another partition; or whoever sealed this one died before the manifest said so.
        sealed.push(...(await this.rotate(current.entry)).map(({ batch }) => batch));
      }
    }
  }

  /** Makes a batch of an active partition. @returns it, unless another process was faster. */
  async rotate(entry: PartitionEntry, options?: CallOptions): Promise<BatchInfo[]> {
    const { state, source, manifests } = this.#parts;
    const { blob } = entry;
    const loaded = await manifests.load(options);
    if (activePartition(loaded.manifest)?.blob !== blob) {
      this.forget(blob);
      return [];
    }
    const sealed = await this.seal(entry, options);
    const { changed } = await manifests.update((manifest) => withSealed(manifest, blob, sealed), options, loaded);
    this.forget(blob);
    if (!changed) return [];
    if (sealed !== undefined) return [infoOf({ ...entry, ...sealed })];
    await deletePartition(state, source, blob, options);
    return [];
  }

  /** Shuts out whoever appends to it, and counts it; naming it as sealed is the caller's. @returns undefined when it is empty. */
  async seal({ blob }: PartitionEntry, options?: CallOptions): Promise<SealedPartition | undefined> {
    const { state, source, now } = this.#parts;
    const known = this.#known?.entry.blob === blob ? this.#known.count : undefined;
    const count = known ?? new PartitionCount(state, source, blob);
    try {
      const sealed = await sealPartition(state, source, blob, { ...options, now, count });
      if (sealed !== undefined) this.redeliveries.remember(blob, count.ids);
      return sealed;
    } catch (error) {
      if (!isBlobFailure(error, 'missing')) throw error;
      // Someone deleted it. It becomes a batch all the same: reading that says what happened, and nothing is lost silently.
      const at = now().toISOString();
      return { sealedAt: at, lastAt: at, records: 0, uploadBytes: 0, blobBytes: 0 };
    }
  }

  /** It is not active any more. */
  forget(blob: string): void {
    if (this.#known?.entry.blob === blob) this.#known = undefined;
  }

  async isDue(entry: PartitionEntry, force: boolean, options?: CallOptions): Promise<boolean> {
    const { state, source, settings, now } = this.#parts;
    const { count } = this.#remember(entry, 0);
    const name = partitionBlobName(source, entry.blob);
    try {
      const { bytes, etag, sealed } = await state.properties(name, options);
      if (sealed) return true;
      if (bytes <= headerBytes(source)) return false;
      if (force || isOfAge(entry.created, now(), settings.ageSecondsMax)) return true;
      await count.readTo({ bytes, etag }, options);
      return count.records >= settings.recordsMax || count.uploadBytes >= settings.uploadBytesMax;
    } catch (error) {
      if (isBlobFailure(error, 'missing')) return true;
      throw error;
    }
  }

  #remember(entry: PartitionEntry, bytes: number): Known {
    if (this.#known?.entry.blob !== entry.blob) {
      const count = new PartitionCount(this.#parts.state, this.#parts.source, entry.blob, bytes);
      this.#known = { entry, count, ownBlocks: 0, ownRecords: 0, ownUploadBytes: 0, records: 0 };
    }
    return this.#known;
  }

  async #open(): Promise<Known> {
    const { state, source, manifests, now } = this.#parts;
    for (let tries = 0; tries < APPEND_TRIES_MAX; tries += 1) {
      if (this.#known !== undefined) return this.#known;
      const loaded = await manifests.load();
      await this.redeliveries.refresh(loaded.manifest);
      const entry = activePartition(loaded.manifest);
      if (entry !== undefined) return this.#remember(entry, 0);
      const created = now();
      const header = { partition: loaded.manifest.next, created, kind: 'log' } as const;
      const blob = await createPartition(state, source, header);
      const manifest = withActive(loaded.manifest, blob, created.toISOString());
      const written = manifest && (await manifests.tryWrite(loaded, manifest));
      const started = written && activePartition(written.manifest);
      if (started !== undefined) return this.#remember(started, headerBytes(source));
      // Another was faster.
      await deleteUnnamed(this.#parts, blob);
    }
    const problem = `others changed the journal of ${source} each of ${APPEND_TRIES_MAX} times`;
    throw new FirnError('FIRN_STORAGE_FAILED', { url: state.url, problem });
  }

  /** The records are durable already: a failure here is no failure of the append, and the next one meets it again. */
  async #rotateAfterAppend({ entry }: Known): Promise<string[]> {
    try {
      return (await this.rotate(entry)).map(({ batch }) => batch);
    } catch (error) {
      if (error instanceof FirnError || error instanceof BlobStoreError) return [];
      throw error;
    }
  }
}

/**
 * By the clock of this machine, which may run behind that of the one that created the partition. A time that lies ahead by less
 * than the age is waited for, so that nothing is sealed early for a small difference; one that lies further ahead says nothing.
 */
function isOfAge(created: string, now: Date, ageSecondsMax: number): boolean {
  return Math.abs(now.getTime() - Date.parse(created)) >= ageSecondsMax * 1000;
}
