/**
 * Uploads a local folder into the inbox, with the attributes of files, folders and links in the metadata of the blobs, as
 * `inbox-source.ts` reads them. It is what any other uploader may do; nothing of the engine is needed.
 *
 * An upload that is there already is left alone: one of the same size, mtime and mode, and of the same ctime, which no program
 * sets back after it has written. It costs a question, and but for the first few, when nobody knows yet that there are any, it
 * is neither read nor sent. Files below the folder that are gone stay in the inbox: deleting is the user's.
 */
import pMap from 'p-map';
import { FirnError, isFirnError } from '../errors.ts';
import type { EntryAttributes } from '../filetree/entry.ts';
import { timeOfNanoseconds } from '../filetree/time.ts';
import { checkSourceName } from '../journal/source-name.ts';
import type { SkippedPath } from '../snapshots/snapshot.ts';
import { checkNewBlobName } from '../storage/blob-rules.ts';
import {
  type BlobMetadata,
  type BlobProperties,
  type BlobStore,
  type CallOptions,
  isBlobFailure,
  propertiesIfThere,
} from '../storage/blob-store.ts';
import { FolderListing } from './folder-listing.ts';
import { checkFolder, type FolderScan, scanFolder } from './folder-source.ts';
import type { ArchiveItem, OpenedItem } from './item.ts';

/** Uploads up to this size are sent in one request. */
const SINGLE_BYTES_MAX = 8 * 1024 * 1024;
const READ_TRIES_MAX = 3;

export interface UploadedFolder {
  /** Files and links sent. */
  readonly files: number;
  readonly folders: number;
  /** Bytes sent. */
  readonly bytes: number;
  /** Files and links that were there already. */
  readonly unchanged: number;
  readonly skipped: readonly SkippedPath[];
}

export interface UploadOptions extends CallOptions {
  readonly uploadsInFlightMax: number;
  /** Rest on size, mtime and mode: for file systems whose ctime says nothing. */
  readonly ignoreCtime?: boolean | undefined;
  readonly onProgress?: ((progress: { files: number; bytes: number; path: string }) => void) | undefined;
}

type PutItem = Extract<ArchiveItem, { op: 'put' }>;
type SentItem = Exclude<OpenedItem, { type: 'gone' }>;

/** @throws FIRN_SOURCE_NAME_INVALID, FIRN_FOLDER_MISSING, FIRN_NOT_A_FOLDER. What cannot be read is skipped and named. */
export async function uploadFolder(
  inbox: BlobStore,
  source: string,
  folder: string,
  options: UploadOptions,
): Promise<UploadedFolder> {
  checkSourceName(source);
  await checkFolder(folder);
  const { signal, uploadsInFlightMax, onProgress } = options;
  const sent = { files: 0, folders: 0, bytes: 0, unchanged: 0 };
  const skipped: SkippedPath[] = [];
  const scan: FolderScan = { unchangedFiles: 0, unchangedBytes: 0 };
  using listing = new FolderListing(folder, new Date());
  const items = scanFolder({ listing, base: undefined, signal }, scan);
  const uploads = new Uploads(inbox, { signal });
  await pMap(
    items,
    async (item) => {
      if (item.op === 'skip') skipped.push({ path: item.path, code: item.code, problem: item.problem });
      if (item.op !== 'put') return;
      try {
        const done = await uploadItem(uploads, `${source}/${item.path}`, item, options);
        if (done === undefined) return;
        if (done.type === 'folder') sent.folders += 1;
        else if (done.bytes === undefined) sent.unchanged += 1;
        else sent.files += 1;
        sent.bytes += done.bytes ?? 0;
        onProgress?.({ files: sent.files + sent.unchanged, bytes: sent.bytes, path: item.path });
      } catch (error) {
        // A name that the storage cannot take (a backslash, a control character) is a problem of that file alone.
        if (!isFirnError(error, 'FIRN_FILE_UNREADABLE', 'FIRN_FILE_CHANGING', 'FIRN_PATH_UNUSABLE')) throw error;
        skipped.push({ path: item.path, code: error.code, problem: error.message });
      }
    },
    { concurrency: uploadsInFlightMax },
  );
  return { ...sent, skipped };
}

function metadataOf({ mtime, mode }: EntryAttributes, extra: BlobMetadata = {}): BlobMetadata {
  return {
    ...(mtime === undefined ? {} : { mtime }),
    ...(mode === undefined ? {} : { mode: mode.toString(8).padStart(4, '0') }),
    ...extra,
  };
}

/** @returns undefined when the item is gone; `bytes` undefined when it was there already. */
async function uploadItem(
  uploads: Uploads,
  name: string,
  item: PutItem,
  { ignoreCtime = false, signal }: UploadOptions,
): Promise<{ type: SentItem['type']; bytes: number | undefined } | undefined> {
  checkNewBlobName(name);
  for (let tries = 0; tries < READ_TRIES_MAX; tries += 1) {
    const opened = await item.open({ signal });
    if (opened.type === 'gone') return undefined;
    if (opened.type === 'folder') {
      await uploads.put(name, Buffer.alloc(0), metadataOf(opened.attributes, { hdi_isfolder: 'true' }));
      return { type: 'folder', bytes: undefined };
    }
    const ctime = ignoreCtime || opened.ctime === undefined ? undefined : timeOfNanoseconds(opened.ctime);
    const touched: BlobMetadata = ctime === undefined ? {} : { ctime };
    if (opened.type === 'link') {
      const target = Buffer.from(opened.target);
      const written = await uploads.put(
        name,
        target,
        metadataOf(opened.attributes, { ...touched, is_symlink: 'true' }),
      );
      return { type: 'link', bytes: written ? 0 : undefined };
    }
    try {
      const written = await uploads.putFile(name, opened, metadataOf(opened.attributes, touched));
      return { type: 'file', bytes: written ? opened.bytes : undefined };
    } catch (error) {
      if (!(error instanceof ChangedMeanwhile)) throw error;
    } finally {
      // Where it was not asked for by reading to the end: it closes the file.
      await opened.unchanged();
    }
  }
  throw new FirnError('FIRN_FILE_CHANGING', { path: item.path, tries: READ_TRIES_MAX });
}

type OpenedFile = Extract<OpenedItem, { type: 'file' }>;

/** The file while it was read, or the upload while it was sent. */
class ChangedMeanwhile extends Error {}

/** The content, which fails at its end when the file did not stand still: nothing of it is to become visible then. */
async function* stable(opened: OpenedFile): AsyncGenerator<Buffer> {
  yield* opened.content;
  if (!(await opened.unchanged())) throw new ChangedMeanwhile();
}

/** Writes what is not there in the same form. */
class Uploads {
  readonly #inbox: BlobStore;
  readonly #options: CallOptions;
  /** There was an upload of the last name that was asked for: most likely the folder was uploaded before. */
  #areThere = false;

  constructor(inbox: BlobStore, options: CallOptions) {
    this.#inbox = inbox;
    this.#options = options;
  }

  /** Over whatever is there. @returns whether it was written. */
  async put(name: string, body: Buffer, metadata: BlobMetadata): Promise<boolean> {
    return await this.#write(name, body, metadata, this.#areThere ? await this.#find(name) : undefined);
  }

  /** Reads the file only where it is written. @throws {ChangedMeanwhile} */
  async putFile(name: string, opened: OpenedFile, metadata: BlobMetadata): Promise<boolean> {
    const isLarge = opened.bytes > SINGLE_BYTES_MAX;
    const there = isLarge || this.#areThere ? await this.#find(name) : undefined;
    if (there !== undefined && isSame(there, opened.bytes, metadata)) return false;
    if (!isLarge) return await this.#write(name, Buffer.concat(await Array.fromAsync(stable(opened))), metadata, there);
    const options = { ...this.#options, metadata };
    try {
      if (there === undefined) await this.#inbox.createFromStream(name, stable(opened), options);
      else await this.#inbox.replaceFromStream(name, stable(opened), { ...options, ifMatch: there.etag });
      return true;
    } catch (error) {
      if (isBlobFailure(error, 'exists', 'changed')) throw new ChangedMeanwhile('', { cause: error });
      throw error;
    }
  }

  /** @param there what is there, as far as it is known. */
  async #write(name: string, body: Buffer, metadata: BlobMetadata, there?: BlobProperties): Promise<boolean> {
    for (let known = there; ; known = await this.#find(name)) {
      if (known !== undefined && isSame(known, body.length, metadata)) return false;
      const options = { ...this.#options, metadata };
      try {
        if (known === undefined) await this.#inbox.create(name, body, options);
        else await this.#inbox.replace(name, body, { ...options, ifMatch: known.etag });
        return true;
      } catch (error) {
        if (!isBlobFailure(error, 'exists', 'changed', 'missing')) throw error;
      }
    }
  }

  async #find(name: string): Promise<BlobProperties | undefined> {
    const there = await propertiesIfThere(this.#inbox, name, this.#options);
    this.#areThere = there !== undefined;
    return there;
  }
}

function isSame(there: BlobProperties, bytes: number, metadata: BlobMetadata): boolean {
  return there.bytes === bytes && sameMetadata(there.metadata, metadata);
}

function sameMetadata(there: BlobMetadata, wanted: BlobMetadata): boolean {
  const names = new Set([...Object.keys(there), ...Object.keys(wanted)]);
  if (wanted.ctime === undefined) names.delete('ctime');
  return [...names].every((name) => there[name] === wanted[name]);
}
