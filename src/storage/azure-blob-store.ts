/**
 * The blob store on Azure Blob Storage, and on Azurite.
 *
 * It promises what the port says. Transient faults are retried by the SDK below it, with the options of `connect.ts`.
 * On Azurite, `append` without a position may name a wrong offset when several append at once (it reads the length
 * before it appends); with a position the offset is always right.
 */
import type { ContainerClient, BlobItem as ServiceItem } from '@azure/storage-blob';
import { sdkSignal, uploadBlocks } from './azure-block-upload.ts';
import { codeOf, failureOf, meansExists, toStoreError } from './azure-errors.ts';
import {
  checkAppendBlock,
  checkBlobName,
  checkFolderPrefix,
  checkLeaseId,
  checkLeaseSeconds,
  checkMetadata,
  checkNewBlobName,
  checkPrefix,
  checkRange,
  nameFromListing,
} from './blob-rules.ts';
import {
  type BlobProperties,
  type BlobStore,
  BlobStoreError,
  type BlobStream,
  type ReadOptions,
  type Tier,
  tiers,
  type WriteOptions,
} from './blob-store.ts';

const blobHTTPHeaders = { blobContentType: 'application/octet-stream' };
const ifNew = { ifNoneMatch: '*' };
/** How often one `readStream` takes up a broken connection again. */
const RESUMES_MAX = 5;
/** The most that the service gives at once. */
const PAGE_ITEMS = 5_000;

export function createAzureBlobStore(container: ContainerClient): BlobStore {
  const url = withoutQuery(container.url);

  /** Runs one call and gives its error the form that the port promises. */
  async function run<T>(blob: string | undefined, signal: AbortSignal | undefined, call: () => Promise<T>): Promise<T> {
    signal?.throwIfAborted();
    try {
      return await call();
    } catch (error) {
      throw toStoreError(error, { url, blob }, signal);
    }
  }

  async function runCreate<T>(name: string, signal: AbortSignal | undefined, call: () => Promise<T>): Promise<T> {
    return await run(name, signal, async () => {
      try {
        return await call();
      } catch (error) {
        if (meansExists(error)) throw new BlobStoreError('exists', name, { cause: error });
        throw error;
      }
    });
  }

  async function propertiesOf(
    name: string,
    signal: AbortSignal | undefined,
    ifMatch?: string,
  ): Promise<BlobProperties> {
    const conditions = ifMatch === undefined ? {} : { conditions: { ifMatch } };
    const found = await container.getBlobClient(name).getProperties({ ...conditions, ...sdkSignal(signal) });
    return {
      ...commonProperties(found),
      bytes: found.contentLength ?? 0,
      tier: tierOf(found.accessTier),
      sealed: found.isSealed ?? false,
    };
  }

  /** What a range of no bytes at `offset` gives; undefined when the blob has grown past it since. */
  async function openEmpty(name: string, offset: number, options: ReadOptions): Promise<BlobStream | undefined> {
    const properties = await propertiesOf(name, options.signal, options.ifMatch);
    if (properties.tier === 'Archive') throw new BlobStoreError('offline', name);
    if (offset > properties.bytes) throw new BlobStoreError('range', name);
    if (offset < properties.bytes && options.length !== 0) return undefined;
    return { body: piecesOf([]), properties: { ...properties, tier: undefined } };
  }

  async function open(name: string, options: ReadOptions): Promise<BlobStream> {
    const offset = options.offset ?? 0;
    const conditions = options.ifMatch === undefined ? {} : { conditions: { ifMatch: options.ifMatch } };
    while (true) {
      if (options.length === 0) {
        const empty = await openEmpty(name, offset, options);
        if (empty !== undefined) return empty;
      }
      try {
        const found = await container.getBlobClient(name).download(offset, options.length, {
          maxRetryRequests: RESUMES_MAX,
          ...conditions,
          ...sdkSignal(options.signal),
        });
        if (found.readableStreamBody === undefined) throw new Error('the service sent no body');
        const bytes = Number(/\/(\d+)$/.exec(found.contentRange ?? '')?.[1] ?? found.contentLength ?? 0);
        return {
          body: mapErrors(name, options.signal, found.readableStreamBody as AsyncIterable<Buffer>),
          properties: { ...commonProperties(found), bytes, tier: undefined, sealed: found.isSealed ?? false },
        };
      } catch (error) {
        // The service refuses a range at the very end of a blob, so also any range of an empty one.
        if (failureOf(error) !== 'range') throw error;
        const empty = await openEmpty(name, offset, options);
        if (empty !== undefined) return empty;
      }
    }
  }

  async function* mapErrors(
    name: string,
    signal: AbortSignal | undefined,
    pieces: AsyncIterable<Buffer>,
  ): AsyncGenerator<Buffer> {
    try {
      for await (const piece of pieces) {
        signal?.throwIfAborted();
        yield piece;
      }
    } catch (error) {
      throw toStoreError(error, { url, blob: name }, signal);
    }
  }

  async function* mapPages<T>(signal: AbortSignal | undefined, pages: AsyncIterable<T>): AsyncGenerator<T> {
    const iterator = pages[Symbol.asyncIterator]();
    while (true) {
      const page = await run(undefined, signal, () => iterator.next());
      if (page.done) return;
      yield page.value;
    }
  }

  return {
    url,

    async createContainer(options) {
      return await run(undefined, options?.signal, async () => {
        const { succeeded } = await container.createIfNotExists(sdkSignal(options?.signal));
        return succeeded;
      });
    },

    async deleteContainer(options) {
      return await run(undefined, options?.signal, async () => {
        try {
          await container.delete(sdkSignal(options?.signal));
          return true;
        } catch (error) {
          if (failureOf(error) === 'missing') return false;
          throw error;
        }
      });
    },

    async create(name, body, options) {
      checkNewBlobName(name);
      checkMetadata(options?.metadata);
      return await runCreate(name, options?.signal, async () => {
        const client = container.getBlockBlobClient(name);
        return written(
          await client.upload(body, body.length, {
            ...writeOptions(options),
            conditions: ifNew,
            ...sdkSignal(options?.signal),
          }),
        );
      });
    },

    async createFromStream(name, body, options) {
      checkNewBlobName(name);
      checkMetadata(options?.metadata);
      return await runCreate(name, options?.signal, async () => {
        const client = container.getBlockBlobClient(name);
        try {
          return written(
            await uploadBlocks(client, body, { ...writeOptions(options), conditions: ifNew }, options?.signal),
          );
        } catch (error) {
          // Another writer's commit has dropped our blocks.
          if (codeOf(error) !== 'InvalidBlockList' || !(await client.exists(sdkSignal(options?.signal)))) throw error;
          throw new BlobStoreError('exists', name, { cause: error });
        }
      });
    },

    async replace(name, body, options) {
      checkBlobName(name);
      checkMetadata(options.metadata);
      return await run(name, options.signal, async () => {
        return written(
          await container.getBlockBlobClient(name).upload(body, body.length, {
            ...writeOptions(options),
            conditions: { ifMatch: options.ifMatch },
            ...sdkSignal(options.signal),
          }),
        );
      });
    },

    async read(name, options = {}) {
      checkBlobName(name);
      checkRange(options.offset, options.length);
      return await run(name, options.signal, async () => {
        const { body, properties } = await open(name, options);
        return { body: Buffer.concat(await Array.fromAsync(body)), properties };
      });
    },

    async readStream(name, options = {}) {
      checkBlobName(name);
      checkRange(options.offset, options.length);
      return await run(name, options.signal, () => open(name, options));
    },

    async properties(name, options) {
      checkBlobName(name);
      return await run(name, options?.signal, () => propertiesOf(name, options?.signal));
    },

    async *list(options = {}) {
      const prefix = options.prefix ?? '';
      checkPrefix(prefix);
      const pages = container
        .listBlobsFlat({ prefix, includeMetadata: true, ...sdkSignal(options.signal) })
        .byPage({ maxPageSize: PAGE_ITEMS });
      for await (const page of mapPages(options.signal, pages)) {
        for (const item of page.segment.blobItems) {
          options.signal?.throwIfAborted();
          yield { name: nameFromListing(item.name), ...propertiesOfItem(item) };
        }
      }
    },

    async *listFolders(options = {}) {
      const prefix = options.prefix ?? '';
      checkFolderPrefix(prefix);
      const pages = container
        .listBlobsByHierarchy('/', { prefix, ...sdkSignal(options.signal) })
        .byPage({ maxPageSize: PAGE_ITEMS });
      for await (const page of mapPages(options.signal, pages)) {
        for (const folder of page.segment.blobPrefixes ?? []) {
          options.signal?.throwIfAborted();
          yield nameFromListing(folder.name).slice(prefix.length, -1);
        }
      }
    },

    async delete(name, options = {}) {
      checkBlobName(name);
      return await run(name, options.signal, async () => {
        const conditions = options.ifMatch === undefined ? {} : { conditions: { ifMatch: options.ifMatch } };
        try {
          await container.getBlobClient(name).delete({ ...conditions, ...sdkSignal(options.signal) });
          return true;
        } catch (error) {
          if (isBlobMissing(error)) return false;
          throw error;
        }
      });
    },

    async createAppend(name, first, options = {}) {
      checkNewBlobName(name);
      checkMetadata(options.metadata);
      checkAppendBlock(first);
      return await runCreate(name, options.signal, async () => {
        const client = container.getAppendBlobClient(name);
        await client.create({
          blobHTTPHeaders,
          ...(options.metadata === undefined ? {} : { metadata: { ...options.metadata } }),
          conditions: ifNew,
          ...sdkSignal(options.signal),
        });
        const added = await client.appendBlock(first, first.length, {
          conditions: { appendPosition: 0 },
          ...sdkSignal(options.signal),
        });
        return { ...written(added), offset: 0, blocks: added.blobCommittedBlockCount ?? 1 };
      });
    },

    async append(name, block, options = {}) {
      checkBlobName(name);
      checkAppendBlock(block);
      return await run(name, options.signal, async () => {
        const conditions = options.position === undefined ? {} : { conditions: { appendPosition: options.position } };
        const added = await container
          .getAppendBlobClient(name)
          .appendBlock(block, block.length, { ...conditions, ...sdkSignal(options.signal) });
        const offset = options.position ?? Number(added.blobAppendOffset);
        return { ...written(added), offset, blocks: added.blobCommittedBlockCount ?? 0 };
      });
    },

    async seal(name, options) {
      checkBlobName(name);
      await run(name, options?.signal, () => container.getAppendBlobClient(name).seal(sdkSignal(options?.signal)));
    },

    async acquireLease(name, leaseId, seconds, options) {
      checkBlobName(name);
      checkLeaseId(leaseId);
      checkLeaseSeconds(seconds);
      const lease = container.getBlobClient(name).getBlobLeaseClient(leaseId);
      await run(name, options?.signal, () => lease.acquireLease(seconds, sdkSignal(options?.signal)));
    },

    async renewLease(name, leaseId, options) {
      checkBlobName(name);
      checkLeaseId(leaseId);
      const lease = container.getBlobClient(name).getBlobLeaseClient(leaseId);
      await run(name, options?.signal, () => lease.renewLease(sdkSignal(options?.signal)));
    },

    async releaseLease(name, leaseId, options) {
      checkBlobName(name);
      checkLeaseId(leaseId);
      return await run(name, options?.signal, async () => {
        try {
          await container.getBlobClient(name).getBlobLeaseClient(leaseId).releaseLease(sdkSignal(options?.signal));
          return true;
        } catch (error) {
          if (failureOf(error) === 'lease-lost' || isBlobMissing(error)) return false;
          throw error;
        }
      });
    },

    async breakLease(name, options) {
      checkBlobName(name);
      return await run(name, options?.signal, async () => {
        try {
          await container.getBlobClient(name).getBlobLeaseClient().breakLease(0, sdkSignal(options?.signal));
          return true;
        } catch (error) {
          if (codeOf(error) === 'LeaseNotPresentWithLeaseOperation') return false;
          throw error;
        }
      });
    },

    async writeLeased(name, body, leaseId, options) {
      checkBlobName(name);
      checkLeaseId(leaseId);
      return await run(name, options?.signal, async () => {
        try {
          return written(
            await container.getBlockBlobClient(name).upload(body, body.length, {
              blobHTTPHeaders,
              conditions: { leaseId, ifMatch: '*' },
              ...sdkSignal(options?.signal),
            }),
          );
        } catch (error) {
          // «If-Match: *» fails only where there is nothing.
          if (codeOf(error) === 'ConditionNotMet') throw new BlobStoreError('missing', name, { cause: error });
          throw error;
        }
      });
    },
  };
}

function writeOptions(options: WriteOptions | undefined) {
  return {
    blobHTTPHeaders,
    ...(options?.metadata === undefined ? {} : { metadata: { ...options.metadata } }),
    ...(options?.tier === undefined ? {} : { tier: options.tier }),
  };
}

function written(answer: { etag?: string | undefined }): { etag: string } {
  if (answer.etag === undefined) throw new Error('the service sent no ETag');
  return { etag: answer.etag };
}

/** A container that is missing is a failure of its own, wherever a missing blob is not. */
function isBlobMissing(error: unknown): boolean {
  return failureOf(error) === 'missing' && !codeOf(error).startsWith('Container');
}

function commonProperties(found: {
  etag?: string | undefined;
  lastModified?: Date | undefined;
  metadata?: Record<string, string> | undefined;
}): { etag: string; lastModified: Date; metadata: Record<string, string> } {
  return {
    etag: quoted(found.etag ?? ''),
    lastModified: found.lastModified ?? new Date(0),
    metadata: lowerCaseNames(found.metadata),
  };
}

function propertiesOfItem(item: ServiceItem): BlobProperties {
  return {
    ...commonProperties({ ...item.properties, metadata: item.metadata }),
    bytes: item.properties.contentLength ?? 0,
    tier: tierOf(item.properties.accessTier),
    sealed: item.properties.isSealed ?? false,
  };
}

/** Listings write the ETag without the quotes that headers have. */
function quoted(etag: string): string {
  return etag.startsWith('"') ? etag : `"${etag}"`;
}

/** The service keeps the case in which a name was written, and headers have none. */
function lowerCaseNames(metadata: Record<string, string> | undefined): Record<string, string> {
  return Object.fromEntries(Object.entries(metadata ?? {}).map(([name, value]) => [name.toLowerCase(), value]));
}

function tierOf(text: string | undefined): Tier | undefined {
  return tiers.find((tier) => tier === text);
}

async function* piecesOf(pieces: readonly Buffer[]): AsyncGenerator<Buffer> {
  yield* pieces;
}

/** A query may hold a signature. */
function withoutQuery(url: string): string {
  return url.split('?', 1)[0] ?? url;
}
