/** What the publish steps work with; `repository.ts` provides it. */
import type { FirnError } from '../errors.ts';
import type { FiletreeStore } from '../filetree/filetree-store.ts';
import type { ChunkIndex } from '../index/chunk-index.ts';
import type { Journal } from '../journal/journal.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import type { Settings } from '../settings.ts';
import type { SnapshotStore } from '../snapshots/snapshot-store.ts';
import type { BlobStore, CallOptions } from '../storage/blob-store.ts';
import type { Locks } from '../storage/locks.ts';

export interface PublishParts {
  readonly inbox: BlobStore;
  readonly data: SealedBlobs;
  readonly state: SealedBlobs;
  readonly snapshots: SnapshotStore;
  readonly filetrees: FiletreeStore;
  readonly settings: Settings;
  /** The journal of a source; one a process, so that appends share blocks. @throws FIRN_SOURCE_NAME_INVALID. */
  readonly journalOf: (source: string) => Journal;
  /** Locks of the repository. */
  readonly locks: Locks;
  /** For steps that take long: throws FIRN_REPAIR_UNFINISHED while a repair is. What it found is good for a second. */
  readonly checkRepair: (options?: CallOptions) => Promise<void>;
  /** A session of the chunk index with nothing recorded. */
  readonly createIndex: () => ChunkIndex;
  readonly now: () => Date;
  /** Told about what was wrong and could be helped. */
  readonly onWarning: (error: FirnError) => void;
}
