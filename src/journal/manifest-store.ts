/**
 * Reads and changes the manifest of a journal by compare-and-swap. A manifest that is missing or damaged is rebuilt from
 * the partitions: they are all sealed and become batches, and whoever appended to one goes on in a new one.
 */
import { randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import { FirnError } from '../errors.ts';
import { type BlobStore, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import { examinePartition } from './found-partition.ts';
import { emptyManifest, encodeManifest, type Manifest, manifestBlob, parseManifest } from './manifest.ts';
import { headerBytes } from './partition.ts';
import { listPartitions } from './partition-blob.ts';
import { type FoundBlob, rebuildManifest } from './rebuild.ts';

export interface LoadedManifest {
  readonly manifest: Manifest;
  /** Undefined where there is no manifest yet. */
  readonly etag: string | undefined;
}

const TRIES_MAX = 50;
const PAUSE_MS_MAX = 20;
const READS_MAX = 2;

export class ManifestStore {
  readonly #state: BlobStore;
  readonly #source: string;
  readonly #now: () => Date;
  readonly #blob: string;

  constructor(state: BlobStore, source: string, now: () => Date) {
    this.#state = state;
    this.#source = source;
    this.#now = now;
    this.#blob = manifestBlob(source);
  }

  /** The empty manifest for a source without a journal. @throws FIRN_REPOSITORY_NEWER. */
  async load(options?: CallOptions): Promise<LoadedManifest> {
    return await this.#repeat(options, async () => {
      const { manifest, etag } = await this.#read(options);
      if (manifest !== undefined) return { manifest, etag };
      const rebuilt = await this.#rebuild(options);
      if (rebuilt === emptyManifest && etag === undefined) return { manifest: rebuilt, etag };
      return await this.tryWrite({ etag }, rebuilt, options);
    });
  }

  async #read(
    options?: CallOptions,
  ): Promise<{ manifest: Manifest | undefined; write?: string; etag: string | undefined }> {
    try {
      for (let tries = 1; ; tries += 1) {
        const { body, properties } = await this.#state.read(this.#blob, options);
        const parsed = parseManifest(body, this.#blob);
        // It may have been damaged on the way.
        if (parsed === undefined && tries < READS_MAX) continue;
        return { manifest: parsed?.manifest, etag: properties.etag, ...(parsed && { write: parsed.write }) };
      }
    } catch (error) {
      if (isBlobFailure(error, 'missing')) return { manifest: undefined, etag: undefined };
      throw error;
    }
  }

  async #rebuild(options?: CallOptions): Promise<Manifest> {
    const blobs: FoundBlob[] = [];
    for await (const { blob, item } of listPartitions(this.#state, this.#source, options)) {
      if (item.bytes <= headerBytes(this.#source)) continue;
      const found = await examinePartition(this.#state, this.#source, blob, { ...options, now: this.#now });
      blobs.push({ blob, lastModified: item.lastModified.toISOString(), found });
    }
    return blobs.length === 0 ? emptyManifest : rebuildManifest(blobs);
  }

  /** Writes over what was loaded. @returns undefined when it had changed since. */
  async tryWrite(
    { etag }: Pick<LoadedManifest, 'etag'>,
    manifest: Manifest,
    options?: CallOptions,
  ): Promise<LoadedManifest | undefined> {
    const write = randomBytes(8).toString('hex');
    const body = encodeManifest(manifest, write);
    try {
      const written =
        etag === undefined
          ? await this.#state.create(this.#blob, body, options)
          : await this.#state.replace(this.#blob, body, { ...options, ifMatch: etag });
      return { manifest, etag: written.etag };
    } catch (error) {
      if (!isBlobFailure(error, 'exists', 'changed', 'missing')) throw error;
      // The first answer may have been lost, and the refusal is that of the repeated request.
      const current = await this.#read(options);
      return current.write === write ? { manifest, etag: current.etag } : undefined;
    }
  }

  /**
   * Loads, changes and writes until the write is taken.
   * @param change gives undefined when there is nothing to do. What it asks the storage it asks after the manifest was read
   * and before it is written, and the write is refused when the manifest changed in between.
   * @param from what was loaded already, to try that first.
   * @returns what is stored now, whether this call wrote it, and how long the write itself took.
   */
  async update(
    change: (manifest: Manifest) => Manifest | undefined | Promise<Manifest | undefined>,
    options?: CallOptions,
    from?: LoadedManifest,
  ): Promise<{ manifest: Manifest; changed: boolean; writeMs: number }> {
    let first = from;
    return await this.#repeat(options, async () => {
      const loaded = first ?? (await this.load(options));
      first = undefined;
      const changed = await change(loaded.manifest);
      if (changed === undefined) return { manifest: loaded.manifest, changed: false, writeMs: 0 };
      const startedAt = performance.now();
      const written = await this.tryWrite(loaded, changed, options);
      return written && { manifest: changed, changed: true, writeMs: performance.now() - startedAt };
    });
  }

  /** What time it is by the clock of the service, which stamps a write that is made for it. */
  async serviceTime(options?: CallOptions): Promise<Date> {
    await this.update((manifest) => manifest, options);
    return (await this.#state.properties(this.#blob, options)).lastModified;
  }

  async #repeat<T>(options: CallOptions | undefined, attempt: () => Promise<T | undefined>): Promise<T> {
    for (let tries = 0; tries < TRIES_MAX; tries += 1) {
      const result = await attempt();
      if (result !== undefined) return result;
      await setTimeout(Math.random() * PAUSE_MS_MAX, undefined, { signal: options?.signal });
    }
    const problem = `${this.#blob} was changed by others each of ${TRIES_MAX} times`;
    throw new FirnError('FIRN_STORAGE_FAILED', { url: this.#state.url, problem });
  }
}
