/** What a source hands to the archive pipeline, in `compareChanges` order of the changes they become. */
import type { EntryAttributes } from '../filetree/entry.ts';
import type { CallOptions } from '../storage/blob-store.ts';

export interface OpenOptions extends CallOptions {
  /** Each piece of the content is of no use any more when the next is asked for; so they may come in one buffer. */
  readonly transientPieces?: boolean;
}

/** Of a file or link. */
interface OpenedEntry {
  readonly attributes: EntryAttributes;
  readonly etag?: string | undefined;
  /** Of a local one: when its file system last changed content, attributes or names of it, in nanoseconds since 1970. */
  readonly ctime?: bigint | undefined;
}

/** One opening of a file, link or folder of a source. */
export type OpenedItem =
  | (OpenedEntry & {
      readonly type: 'file';
      /** As it was when it was opened. */
      readonly bytes: number;
      /** The pieces belong to their reader. */
      readonly content: AsyncIterable<Buffer>;
      /** Asked after the content was read: whether it stood still meanwhile. Releases what the opening holds; never rejects. */
      readonly unchanged: () => Promise<boolean>;
    })
  | (OpenedEntry & { readonly type: 'link'; readonly target: string })
  | { readonly type: 'folder'; readonly attributes: EntryAttributes; readonly etag?: string | undefined }
  /** It is not there any more: nothing is archived. */
  | { readonly type: 'gone' };

export type ArchiveItem =
  | { readonly path: string; readonly op: 'remove' }
  /** The source cannot give it; an earlier version stays in the tree. */
  | { readonly path: string; readonly op: 'skip'; readonly code: string; readonly problem: string }
  | {
      readonly path: string;
      readonly op: 'put';
      /** As the source announced it; the pipeline reads small files whole. */
      readonly bytes: number;
      /** The tree has a file or link of this name: one that is gone when it is opened is removed. */
      readonly isKnown?: boolean;
      /** @throws FIRN_FILE_UNREADABLE when it cannot be read for a reason of its own. */
      readonly open: (options?: OpenOptions) => Promise<OpenedItem>;
    };
