/**
 * Shards in a local folder, as they lie on storage: sealed, so nothing secret is on the disk, and whatever is read from
 * here is checked like what comes from storage. A file is named by shard and ETag, `<root>/<prefix>.<digest of the ETag>`
 * below a folder for the container, so a shard that changed is simply not found, and repositories do not meet.
 *
 * The folder may be deleted at any time, also under a run, and shared by processes: files appear whole, and a file that
 * is gone, torn or damaged is as one that never was. It cannot fail a run: the first problem is reported, and the cache
 * is off from then on. It grows to the size of the index at most, for older versions of a shard are removed.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { FirnError, problemOf } from '../errors.ts';
import { sweepTemporary, writeBytes } from '../storage/local-files.ts';
import { rootOf } from './root-view.ts';

/** No writer of a small file takes longer. */
const TEMPORARY_AGE_MS = 60 * 60 * 1000;

export interface DiskCacheOptions {
  /** Made when it is not there. */
  readonly folder: string;
  /** What tells one container from another: its address. */
  readonly scope: string;
  /** Told once, when the folder cannot be used. */
  readonly onWarning?: ((error: FirnError) => void) | undefined;
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

export class DiskCache {
  readonly #folder: string;
  readonly #onWarning: ((error: FirnError) => void) | undefined;
  /** Folders of roots that are there and were swept. */
  readonly #made = new Set<string>();
  #off = false;

  constructor({ folder, scope, onWarning }: DiskCacheOptions) {
    this.#folder = path.join(folder, digestOf(scope));
    this.#onWarning = onWarning;
  }

  /** The sealed bytes of this version of a shard; undefined when they are not here. */
  async read(prefix: string, etag: string): Promise<Buffer | undefined> {
    return await this.#use(async () => {
      try {
        return await readFile(this.#fileOf(prefix, etag));
      } catch (error) {
        if (isAbsent(error)) return undefined;
        throw error;
      }
    });
  }

  /** Keeps the sealed bytes of a shard, and removes what is here of its other versions. */
  async write(prefix: string, etag: string, sealed: Uint8Array): Promise<void> {
    await this.#use(async () => {
      const file = this.#fileOf(prefix, etag);
      const folder = path.dirname(file);
      await this.#make(folder);
      try {
        await writeBytes(file, sealed, { sync: 'nothing' });
      } catch (error) {
        // Somebody deleted the folder: make it again, once.
        if (!isAbsent(error)) throw error;
        this.#made.delete(folder);
        await this.#make(folder);
        await writeBytes(file, sealed, { sync: 'nothing' });
      }
      await this.#removeOthers(prefix, path.basename(file));
    });
  }

  /** Forgets one version (it is damaged), or with no ETag all of a shard that is no more. */
  async remove(prefix: string, etag?: string): Promise<void> {
    await this.#use(async () => {
      if (etag === undefined) await this.#removeOthers(prefix, undefined);
      else await rm(this.#fileOf(prefix, etag), { force: true });
    });
  }

  #fileOf(prefix: string, etag: string): string {
    return path.join(this.#folder, rootOf(prefix), `${prefix}.${digestOf(etag)}`);
  }

  async #make(folder: string): Promise<void> {
    if (this.#made.has(folder)) return;
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await sweepTemporary(folder, TEMPORARY_AGE_MS);
    this.#made.add(folder);
  }

  async #removeOthers(prefix: string, kept: string | undefined): Promise<void> {
    const folder = path.join(this.#folder, rootOf(prefix));
    const names = await readdir(folder).catch((error: unknown) => {
      if (isAbsent(error)) return [];
      throw error;
    });
    for (const name of names) {
      if (name !== kept && name.startsWith(`${prefix}.`)) await rm(path.join(folder, name), { force: true });
    }
  }

  async #use<T>(work: () => Promise<T>): Promise<T | undefined> {
    if (this.#off) return undefined;
    try {
      return await work();
    } catch (error) {
      if (!this.#off) {
        this.#off = true;
        this.#onWarning?.(
          new FirnError('FIRN_CACHE_UNUSABLE', { path: this.#folder, problem: problemOf(error) }, { cause: error }),
        );
      }
      return undefined;
    }
  }
}

function isAbsent(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
