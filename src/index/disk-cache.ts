/**
 * Shards in a local folder, as they lie on storage: sealed, so nothing secret is on the disk, and whatever is read from
 * here is checked like what comes from storage. A file is `chunk-index/<part>/<prefix>.<container>.<version>.<bytes>`,
 * where the part is the first two digits of the prefix (one where it has only one), and the version that of the shard's
 * ETag: a shard that changed is simply not found, and repositories do not meet.
 *
 * The folder may be deleted at any time, also under a run, and shared by processes: files appear whole, and a file that
 * is gone, torn or damaged is as one that never was. It cannot fail a run: the first problem is reported, and the cache
 * is off from then on. Older versions of a shard are removed, and it never stays above its limit: each part has an equal
 * share of it for the shards of all repositories, since hashes spread evenly. So a write looks at one small folder only,
 * and a read at none. A lower limit takes effect part by part, as they are used.
 */
import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { FirnError, problemOf } from '../errors.ts';
import { isAbsent, sweepTemporary } from '../storage/local-files.ts';
import { holdFolder, readUsed, sizedName, writeUsed } from './bounded-folder.ts';
import type { ListedShard } from './root-view.ts';

const PART_DIGITS_MAX = 2;
/** Folders: those of one digit and those of two. */
export const CACHE_PARTS = 16 + 16 ** PART_DIGITS_MAX;

/** No writer of a small file takes longer. */
const TEMPORARY_AGE_MS = 60 * 60 * 1000;

/** A few in a row come about where processes delete the folder and make it all the time. */
const MAKE_TRIES_MAX = 10;

export interface DiskCacheOptions {
  /** Made when it is not there. */
  readonly folder: string;
  /** Of all files in it, whatever container they are of. */
  readonly bytesMax: number;
  /** What tells one container from another: its address. */
  readonly scope: string;
  /** Milliseconds since 1970; the system's clock where undefined. */
  readonly now?: (() => number) | undefined;
  /** Told once, when the folder cannot be used. */
  readonly onWarning?: ((error: FirnError) => void) | undefined;
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

function partOf(prefix: string): string {
  return prefix.slice(0, PART_DIGITS_MAX);
}

/** Node says of a folder that is deleted while it is made that it is none; when it says so each time, it is true. */
async function makeFolder(folder: string): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      return;
    } catch (error) {
      if (tries === MAKE_TRIES_MAX) throw error;
    }
  }
}

export class DiskCache {
  readonly #folder: string;
  readonly #partBytesMax: number;
  readonly #scope: string;
  readonly #now: () => number;
  readonly #onWarning: ((error: FirnError) => void) | undefined;
  /** Parts that this process has used. */
  readonly #entered = new Set<string>();
  #off = false;

  constructor({ folder, bytesMax, scope, now, onWarning }: DiskCacheOptions) {
    this.#folder = path.join(folder, 'chunk-index');
    this.#partBytesMax = Math.floor(bytesMax / CACHE_PARTS);
    this.#scope = digestOf(scope);
    this.#now = now ?? Date.now;
    this.#onWarning = onWarning;
  }

  /** The sealed bytes of this version of a shard; undefined when they are not here. */
  async read(prefix: string, version: ListedShard): Promise<Buffer | undefined> {
    return await this.#use(async () => {
      await this.#enter(prefix);
      return await readUsed(this.#fileOf(prefix, version), this.#now());
    });
  }

  /** Keeps the sealed bytes of a shard, and removes what is here of its other versions. */
  async write(prefix: string, etag: string, sealed: Uint8Array): Promise<void> {
    await this.#use(async () => {
      if (sealed.length > this.#partBytesMax) return await this.#forget(prefix);
      const file = this.#fileOf(prefix, { etag, storedBytes: sealed.length });
      await this.#enter(prefix);
      try {
        await makeFolder(path.dirname(file));
        await writeUsed(file, sealed, this.#now());
      } catch (error) {
        // Somebody deletes the folder just now: then this is not kept.
        if (!isAbsent(error)) throw error;
      }
      await this.#forget(prefix, path.basename(file));
    });
  }

  /** Forgets a shard that is no more, or is damaged here. */
  async remove(prefix: string): Promise<void> {
    await this.#use(async () => await this.#forget(prefix));
  }

  #folderOf(prefix: string): string {
    return path.join(this.#folder, partOf(prefix));
  }

  #fileOf(prefix: string, { etag, storedBytes }: ListedShard): string {
    return path.join(this.#folderOf(prefix), sizedName(this.#shardName(prefix) + digestOf(etag), storedBytes));
  }

  /** What the names of all versions of a shard begin with. */
  #shardName(prefix: string): string {
    return `${prefix}.${this.#scope}.`;
  }

  /** Removes the versions of a shard but this one, and holds its folder to the limit. */
  async #forget(prefix: string, but?: string): Promise<void> {
    const versions = this.#shardName(prefix);
    const isStale = (name: string) => name !== but && name.startsWith(versions);
    await holdFolder(this.#folderOf(prefix), this.#partBytesMax, isStale);
  }

  /** What others left in the folder, or keep there under a higher limit, goes when it is used for the first time. */
  async #enter(prefix: string): Promise<void> {
    const part = partOf(prefix);
    if (this.#entered.has(part)) return;
    this.#entered.add(part);
    const folder = this.#folderOf(prefix);
    await sweepTemporary(folder, TEMPORARY_AGE_MS, this.#now());
    await holdFolder(folder, this.#partBytesMax);
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
