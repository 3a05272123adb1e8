/**
 * The inbox as a source: the records of one batch, turned into items in order of path.
 *
 * An upload is read with `If-Match` of the version that was announced. One that was deleted since is gone. One that is
 * there in another version is read as it is, since an upload that is replaced again and again would never be archived
 * otherwise, and is recorded again for the batch that this version belongs to: a removal may lie in between, and only that
 * batch may consume it. Attributes travel in the metadata of the upload: `mtime` in RFC 3339 (as rclone writes it; else
 * the blob's last modification), `mode` in octal, `hdi_isfolder=true` for a folder, `is_symlink=true` for a symbolic link
 * whose target is the content (as AzCopy writes it).
 */
import { FirnError } from '../errors.ts';
import { comparePaths, type EntryAttributes } from '../filetree/entry.ts';
import type { JournalRecord } from '../journal/record.ts';
import { removedAt } from '../journal/removals.ts';
import { type BlobProperties, type BlobStore, type BlobStream, isBlobFailure } from '../storage/blob-store.ts';
import type { ArchiveItem, OpenedItem } from './item.ts';

/** Longest target of a symbolic link that is taken, in bytes. */
const LINK_TARGET_BYTES_MAX = 64 * 1024;

/** What is left of the records of a batch: removals, and for each path its announced versions, oldest first. */
export type BatchStep =
  | { readonly path: string; readonly op: 'remove' }
  | { readonly path: string; readonly op: 'put'; readonly etags: readonly string[]; readonly bytes: number };

/**
 * Decides what a batch comes to. Of several versions of a path the last one counts (an older one is kept as a candidate,
 * because events come out of order); an upload before a removal of its path, or of a folder above it, falls away. Pure.
 */
export function resolveRecords(records: Iterable<JournalRecord>): BatchStep[] {
  const puts = new Map<string, { etags: string[]; bytes: number; at: number }>();
  const removals = new Map<string, number>();
  let at = 0;
  for (const record of records) {
    at += 1;
    if (record.kind === 'removal') {
      removals.set(record.path, at);
      continue;
    }
    const put = puts.get(record.path);
    if (put === undefined || put.at < removedAt(removals, record.path)) {
      puts.set(record.path, { etags: [record.etag], bytes: record.bytes, at });
    } else {
      put.etags.push(record.etag);
      put.bytes = Math.max(put.bytes, record.bytes);
      put.at = at;
    }
  }
  const steps: BatchStep[] = [...removals.keys()].map((path) => ({ path, op: 'remove' }));
  for (const [path, put] of puts) {
    if (put.at > removedAt(removals, path)) steps.push({ path, op: 'put', etags: put.etags, bytes: put.bytes });
  }
  return steps.sort((a, b) => comparePaths(a.path, b.path) || (a.op === b.op ? 0 : a.op === 'remove' ? -1 : 1));
}

/**
 * The items of a batch. `onReplaced` is told of uploads that are there, but in none of the versions that were announced:
 * not every change of an upload has an event (its metadata may be set afterwards), so they are to be recorded again.
 */
export function* inboxItems(
  inbox: BlobStore,
  source: string,
  steps: Iterable<BatchStep>,
  onReplaced: (path: string) => void = () => {},
): Generator<ArchiveItem> {
  for (const step of steps) {
    if (step.op === 'remove') yield step;
    else {
      const { path, etags, bytes } = step;
      yield {
        path,
        op: 'put',
        bytes,
        open: async (options) => {
          for (const etag of etags.toReversed()) {
            const upload = await openVersion(inbox, `${source}/${path}`, etag, options?.signal);
            if (upload === 'missing') return { type: 'gone' };
            if (upload !== 'changed') return await openedUpload(path, upload);
          }
          onReplaced(path);
          const current = await openVersion(inbox, `${source}/${path}`, undefined, options?.signal);
          if (typeof current === 'string') return { type: 'gone' };
          return { ...(await openedUpload(path, current)), etag: undefined };
        },
      };
    }
  }
}

/** @param etag undefined for the version that is there; the reading keeps to the one that it began with. */
async function openVersion(
  inbox: BlobStore,
  name: string,
  etag: string | undefined,
  signal: AbortSignal | undefined,
): Promise<BlobStream | 'missing' | 'changed'> {
  try {
    return await inbox.readStream(name, { ifMatch: etag, signal });
  } catch (error) {
    if (isBlobFailure(error, 'missing')) return 'missing';
    if (isBlobFailure(error, 'changed')) return 'changed';
    if (isBlobFailure(error, 'offline')) {
      throw new FirnError(
        'FIRN_FILE_UNREADABLE',
        { path: name, problem: 'it lies in the Archive tier' },
        { cause: error },
      );
    }
    throw error;
  }
}

async function openedUpload(path: string, { properties, body }: BlobStream): Promise<OpenedItem> {
  const attributes = attributesOf(properties);
  const { metadata, etag, bytes } = properties;
  if (metadata.hdi_isfolder === 'true') {
    await drain(path, body);
    return { type: 'folder', attributes, etag };
  }
  if (metadata.is_symlink === 'true') {
    const raw = await drain(path, body);
    const target = raw.toString();
    if (!Buffer.from(target).equals(raw)) {
      throw new FirnError('FIRN_FILE_UNREADABLE', { path, problem: 'the target of the link is not valid UTF-8' });
    }
    if (target.includes('\0')) {
      throw new FirnError('FIRN_FILE_UNREADABLE', { path, problem: 'the target of the link has a zero byte' });
    }
    return { type: 'link', attributes, etag, target };
  }
  // The ETag of the reading is the proof that it stood still.
  return { type: 'file', attributes, etag, bytes, content: body, unchanged: async () => true };
}

async function drain(path: string, body: AsyncIterable<Buffer>): Promise<Buffer> {
  const held: Buffer[] = [];
  let bytes = 0;
  for await (const piece of body) {
    held.push(piece);
    bytes += piece.length;
    if (bytes > LINK_TARGET_BYTES_MAX) {
      throw new FirnError('FIRN_FILE_UNREADABLE', { path, problem: 'a link or folder has more content than fits one' });
    }
  }
  return Buffer.concat(held);
}

const rfc3339Pattern = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/i;

/** The time in UTC with the decimals that are not zero; undefined when it cannot be read. */
export function normalizeTime(text: string): string | undefined {
  const match = rfc3339Pattern.exec(text.trim());
  if (!match) return undefined;
  const [, seconds, decimals, zone] = match;
  const milliseconds = Date.parse(`${seconds}${zone?.toUpperCase()}`);
  if (Number.isNaN(milliseconds)) return undefined;
  const fraction = (decimals ?? '').replace(/0+$/, '');
  const utc = new Date(milliseconds).toISOString();
  // The zone may have moved it out of the years that four digits can write.
  return /^\d{4}-/.test(utc) ? `${utc.slice(0, 19)}${fraction === '' ? '' : `.${fraction}`}Z` : undefined;
}

/** The attributes that the metadata of an upload carries. */
export function attributesOf({ metadata, lastModified }: BlobProperties): EntryAttributes {
  const modeText = metadata.mode ?? '';
  // Some writers include the bits of the file's type.
  const mode = /^[0-7]{1,7}$/.test(modeText) ? Number.parseInt(modeText, 8) & 0o7777 : undefined;
  const written = metadata.mtime === undefined ? undefined : normalizeTime(metadata.mtime);
  return { mtime: written ?? normalizeTime(lastModified.toISOString()), mode };
}
