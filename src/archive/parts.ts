/** What archiving works with; `repository.ts` provides it. */
import type { ChunkWriter } from '../chunks/chunk-writer.ts';
import type { Chunker } from '../chunks/chunker.ts';
import type { ChunkLocation } from '../chunks/location.ts';
import type { FirnError } from '../errors.ts';
import type { FiletreeStore } from '../filetree/filetree-store.ts';
import type { ChunkIndex } from '../index/chunk-index.ts';
import type { Journal } from '../journal/journal.ts';
import type { Keys } from '../sealing/keys.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import type { Settings } from '../settings.ts';
import type { BlobStore } from '../storage/blob-store.ts';
import type { PendingChunks } from './pending-chunks.ts';

export interface ArchiveParts {
  readonly inbox: BlobStore;
  readonly state: SealedBlobs;
  readonly keys: Keys;
  /** Undefined for one chunk a file. */
  readonly chunker: Chunker | undefined;
  readonly filetrees: FiletreeStore;
  readonly settings: Settings;
  /** The journal of a source; one a process, so that appends share blocks. @throws FIRN_SOURCE_NAME_INVALID. */
  readonly journalOf: (source: string) => Journal;
  readonly createIndex: () => ChunkIndex;
  readonly pendingChunks: PendingChunks;
  readonly createWriter: (
    onStored: (locations: readonly ChunkLocation[]) => void,
    signal: AbortSignal | undefined,
  ) => ChunkWriter;
  readonly now: () => Date;
  readonly onWarning: (error: FirnError) => void;
}
