/**
 * The port to blob storage: one container, seen as a flat map of names to blobs.
 *
 * It promises what Firn relies on and Azure Blob Storage gives: a blob appears whole (body, metadata and tier at once)
 * or not at all; `create` succeeds for one caller only; a conditional write succeeds only against the ETag it names;
 * reads and listings after a successful write see it. It does not retry decisions: transient faults are retried below
 * this port by the adapter, so a conditional write whose first answer was lost may be answered with `exists` or
 * `changed` although it took effect. Callers treat both as «look again».
 *
 * Failures are `BlobStoreError` with one of the `BlobFailure` words where a caller is expected to decide, and
 * `FirnError` (FIRN_STORAGE_UNREACHABLE, FIRN_STORAGE_DENIED, FIRN_STORAGE_FAILED) where it is not. A container that is
 * missing is FIRN_CONTAINER_MISSING: nothing is said of any blob then. An aborted `signal` rejects with the signal's reason.
 *
 * Two adapters exist: Azure (`azure-blob-store.ts`) and memory (the test kit). One conformance suite,
 * `test/storage/blob-store-conformance.ts`, runs against both.
 */

/** Access tiers that a block blob can be written to. */
export const tiers = ['Hot', 'Cool', 'Cold', 'Archive'] as const;
export type Tier = (typeof tiers)[number];

export type BlobFailure =
  /** No blob of that name. */
  | 'missing'
  /** `create` met a blob of that name. */
  | 'exists'
  /** The ETag named by `ifMatch` is not the blob's. */
  | 'changed'
  /** `append` at a position that is not the blob's end. */
  | 'position'
  /** The append blob was sealed. */
  | 'sealed'
  /** The append blob holds as many blocks as it can (50,000). */
  | 'full'
  /** Another lease is in the way. */
  | 'leased'
  /** The lease named is not (or no longer) the blob's. */
  | 'lease-lost'
  /** The blob lies in the Archive tier. */
  | 'offline'
  /** The range begins behind the end of the blob. */
  | 'range';

export class BlobStoreError extends Error {
  override readonly name = 'BlobStoreError';
  readonly failure: BlobFailure;
  readonly blob: string;

  constructor(failure: BlobFailure, blob: string, options?: { cause?: unknown }) {
    super(`${blob}: ${failure}`, options);
    this.failure = failure;
    this.blob = blob;
  }
}

export function isBlobFailure(error: unknown, ...failures: BlobFailure[]): error is BlobStoreError {
  return error instanceof BlobStoreError && failures.includes(error.failure);
}

/** Metadata names are lower-case identifiers ([a-z0-9_]); values are printable ASCII. */
export type BlobMetadata = Readonly<Record<string, string>>;

export interface BlobProperties {
  readonly etag: string;
  readonly bytes: number;
  readonly lastModified: Date;
  readonly metadata: BlobMetadata;
  /** Undefined where the service names none: of append blobs, and in what comes with a read. */
  readonly tier: Tier | undefined;
  /** Of an append blob: it was sealed. */
  readonly sealed: boolean;
  /** A lease is on it, and has not ended. */
  readonly leased: boolean;
  /** Blocks in an append blob, as `properties` tells; listings and reads do not. */
  readonly blocks?: number | undefined;
}

export interface BlobItem extends BlobProperties {
  readonly name: string;
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface WriteOptions extends CallOptions {
  readonly metadata?: BlobMetadata;
  /** The account's default tier where undefined. */
  readonly tier?: Tier | undefined;
}

export interface ReadOptions extends CallOptions {
  /** First byte; 0 where undefined. */
  readonly offset?: number | undefined;
  /** Bytes at most; to the end where undefined. */
  readonly length?: number | undefined;
  /** The read fails with `changed` unless the blob has this ETag. */
  readonly ifMatch?: string | undefined;
}

export interface WriteResult {
  readonly etag: string;
}

export interface BlobContent {
  readonly body: Buffer;
  readonly properties: BlobProperties;
}

export interface BlobStream {
  /**
   * Ends with an error rather than early when the connection breaks for good. Destroyed by leaving the loop. The pieces are
   * their reader's own; those that are not all of their `ArrayBuffer` may share it with others.
   */
  readonly body: AsyncIterable<Buffer>;
  readonly properties: BlobProperties;
}

export interface AppendResult {
  /** Where the appended bytes begin. */
  readonly offset: number;
  /** Blocks in the blob, this one included; the service takes 50,000. */
  readonly blocks: number;
  readonly etag: string;
}

export interface BlobStore {
  /** For messages: the address of the container, without any credential. */
  readonly url: string;

  /** Creates the container; true when it was not there. */
  createContainer(options?: CallOptions): Promise<boolean>;
  /** Deletes the container with all in it; true when it was there. */
  deleteContainer(options?: CallOptions): Promise<boolean>;

  /** Writes a blob that is not there yet (`If-None-Match: *`). A second call fails with `exists`. */
  create(name: string, body: Uint8Array, options?: WriteOptions): Promise<WriteResult>;
  /**
   * The same for a body of any length, staged in blocks and committed at once: until then nothing is visible, and an
   * iterable that throws leaves no blob. Pieces may have any size; memory is bounded by a few blocks.
   */
  createFromStream(name: string, body: AsyncIterable<Uint8Array>, options?: WriteOptions): Promise<WriteResult>;
  /** Replaces a blob that has this ETag (`If-Match`). Fails with `changed` also when there is no blob, and with `leased`. */
  replace(name: string, body: Uint8Array, options: WriteOptions & { ifMatch: string }): Promise<WriteResult>;
  /** The same for a body of any length; until all of it is there, the old blob is. */
  replaceFromStream(
    name: string,
    body: AsyncIterable<Uint8Array>,
    options: WriteOptions & { ifMatch: string },
  ): Promise<WriteResult>;

  /**
   * Reads a blob or a range into memory that is the caller's own. A range that ends behind the blob is cut; one that begins at its end is empty;
   * one that begins behind it fails with `range`. Fails with `missing`, `changed`, `offline`.
   */
  read(name: string, options?: ReadOptions): Promise<BlobContent>;
  /** Reads as a stream; broken connections are resumed under the same ETag. */
  readStream(name: string, options?: ReadOptions): Promise<BlobStream>;
  properties(name: string, options?: CallOptions): Promise<BlobProperties>;
  /**
   * Blobs in the order of their names (UTF-8 bytes; a service may put characters beyond U+FFFF before those from U+E000
   * on), with metadata.
   */
  list(options?: CallOptions & { prefix?: string }): AsyncIterable<BlobItem>;
  /**
   * The distinct first segments under `prefix` (which is empty or ends with «/»), each without «/»: the «folders»
   * there, in the order of the listing, so as if each still had its «/». Blobs directly under the prefix are not among them.
   */
  listFolders(options?: CallOptions & { prefix?: string }): AsyncIterable<string>;
  /** True when it was there. Fails with `leased`. With `ifMatch` it fails with `changed` when the blob has another ETag. */
  delete(name: string, options?: CallOptions & { ifMatch?: string }): Promise<boolean>;

  /**
   * Creates an append blob with the given first block. Fails with `exists`. The one thing here that takes two requests:
   * a reader may meet the blob while it is empty, and it stays empty when the writer dies between them.
   */
  createAppend(
    name: string,
    first: Uint8Array,
    options?: CallOptions & { metadata?: BlobMetadata },
  ): Promise<AppendResult>;
  /**
   * Appends one block (1 byte to 4 MiB), at `position` where that is given. Fails: `missing`, `sealed`, `full`,
   * `position`, `leased`. With a position, an append whose first answer was lost is answered with `position`; without
   * one it may be appended twice.
   */
  append(name: string, block: Uint8Array, options?: CallOptions & { position?: number }): Promise<AppendResult>;
  /** Makes an append blob read-only for ever; sealing a sealed one succeeds. The ETag may stay what it was. */
  seal(name: string, options?: CallOptions): Promise<void>;

  /**
   * Takes a lease of 15 to 60 seconds; ids are GUIDs. Succeeds again for the same id. Fails: `leased`, `missing`.
   * @returns the ETag of the blob, which a lease leaves as it is; undefined where the service does not tell.
   */
  acquireLease(
    name: string,
    leaseId: string,
    seconds: number,
    options?: CallOptions,
  ): Promise<{ readonly etag: string | undefined }>;
  /** Fails with `lease-lost` when the lease is another's, or ended and was taken or broken since. */
  renewLease(name: string, leaseId: string, options?: CallOptions): Promise<void>;
  /** True when the lease was this one; false when it is not (any more). */
  releaseLease(name: string, leaseId: string, options?: CallOptions): Promise<boolean>;
  /** Ends any lease at once; false when there was none, or it was released or overwritten. Fails: `missing`. */
  breakLease(name: string, options?: CallOptions): Promise<boolean>;
  /** Replaces a blob under the lease; its metadata goes. Fails: `lease-lost`, `missing`. */
  writeLeased(name: string, body: Uint8Array, leaseId: string, options?: CallOptions): Promise<WriteResult>;
}

/** The properties of a blob; undefined where there is none. */
export async function propertiesIfThere(
  store: Pick<BlobStore, 'properties'>,
  name: string,
  options?: CallOptions,
): Promise<BlobProperties | undefined> {
  try {
    return await store.properties(name, options);
  } catch (error) {
    if (isBlobFailure(error, 'missing')) return undefined;
    throw error;
  }
}
