/**
 * The blob store on Azure Blob Storage, and on Azurite.
 *
 * It promises what the port says. Transient faults are retried by the SDK below it, with the options of `connect.ts`.
 * On Azurite, `append` without a position may name a wrong offset when several append at once (it reads the length
 * before it appends); with a position the offset is always right.
 */
import type { ContainerClient } from '@azure/storage-blob';
import { openBlob } from './azure-blob-reads.ts';
import { sdkSignal, uploadBlocks, uploadWhole } from './azure-block-upload.ts';
import { codeOf, failureOf, meansContainerMissing, meansExists, toStoreError } from './azure-errors.ts';
import { getProperties, propertiesOfItem } from './azure-properties.ts';
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
import { type BlobStore, BlobStoreError, isBlobFailure, type WriteOptions } from './blob-store.ts';

const blobHTTPHeaders = { blobContentType: 'application/octet-stream' };
const ifNew = { ifNoneMatch: '*' };
/** The most that the service gives at once. */
const PAGE_ITEMS = 5_000;
/** How often a read into memory begins, whose connection breaks each time just when the blob is replaced. */
const READS_MAX = 5;

export function createAzureBlobStore(container: ContainerClient): BlobStore {
  const url = withoutQuery(container.url);
  const place = { container, url };

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
          if (meansContainerMissing(error)) return false;
          throw error;
        }
      });
    },

    async create(name, body, options) {
      checkNewBlobName(name);
      checkMetadata(options?.metadata);
      return await runCreate(name, options?.signal, async () => {
        const client = container.getBlockBlobClient(name);
        const how = { ...writeOptions(options), conditions: ifNew };
        return written(await uploadWhole(client, body, how, options?.signal));
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

    async replaceFromStream(name, body, options) {
      checkBlobName(name);
      checkMetadata(options.metadata);
      return await run(name, options.signal, async () => {
        const client = container.getBlockBlobClient(name);
        const conditions = { ifMatch: options.ifMatch };
        try {
          return written(await uploadBlocks(client, body, { ...writeOptions(options), conditions }, options.signal));
        } catch (error) {
          // Another writer's commit has dropped our blocks, and changed the blob.
          if (codeOf(error) !== 'InvalidBlockList') throw error;
          throw new BlobStoreError('changed', name, { cause: error });
        }
      });
    },

    async read(name, options = {}) {
      checkBlobName(name);
      checkRange(options.offset, options.length);
      return await run(name, options.signal, async () => {
        for (let reads = 1; ; reads += 1) {
          const { body, properties } = await openBlob(place, name, options);
          const bytesExpected = Math.min(options.length ?? properties.bytes, properties.bytes - (options.offset ?? 0));
          try {
            return { body: await collected(body, Math.max(0, bytesExpected)), properties };
          } catch (error) {
            // The connection broke, and the blob is another one by now: whoever did not ask for a version gets that one.
            if (options.ifMatch !== undefined || reads === READS_MAX || !isBlobFailure(error, 'changed')) throw error;
          }
        }
      });
    },

    async readStream(name, options = {}) {
      checkBlobName(name);
      checkRange(options.offset, options.length);
      return await run(name, options.signal, () => openBlob(place, name, options));
    },

    async properties(name, options) {
      checkBlobName(name);
      return await run(name, options?.signal, () => getProperties(container, name, options ?? {}));
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
        const client = container.getBlobClient(name);
        try {
          await client.delete({ ...conditions, ...sdkSignal(options.signal) });
          return true;
        } catch (error) {
          if (failureOf(error) === 'missing') return false;
          // «Condition not met» is also said of a blob that is gone.
          if (failureOf(error) === 'changed' && !(await client.exists(sdkSignal(options.signal)))) return false;
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
        try {
          const added = await client.appendBlock(first, first.length, {
            conditions: { appendPosition: 0 },
            ...sdkSignal(options.signal),
          });
          return { ...written(added), offset: 0, blocks: added.blobCommittedBlockCount ?? 1 };
        } catch (error) {
          if (failureOf(error) !== 'position') throw error;
          // Where the answer to the first try was lost, the second meets its own work.
          const properties = await client.getProperties(sdkSignal(options.signal));
          if ((properties.contentLength ?? 0) < first.length) throw error;
          // A difference may have come about on the way.
          for (let reads = 1; reads <= 2; reads += 1) {
            const there = await client.downloadToBuffer(0, first.length, sdkSignal(options.signal));
            if (!there.equals(first)) continue;
            return { ...written(properties), offset: 0, blocks: properties.blobCommittedBlockCount ?? 1 };
          }
          throw error;
        }
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
      const { etag } = await run(name, options?.signal, () => lease.acquireLease(seconds, sdkSignal(options?.signal)));
      return { etag };
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
          if (failureOf(error) === 'lease-lost' || failureOf(error) === 'missing') return false;
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

/** A query may hold a signature. */
function withoutQuery(url: string): string {
  return url.split('?', 1)[0] ?? url;
}

/** The pieces in one buffer, each copied as it comes, so that they are not all held beside it. */
async function collected(pieces: AsyncIterable<Buffer>, bytesExpected: number): Promise<Buffer> {
  const whole = Buffer.allocUnsafeSlow(bytesExpected);
  let bytes = 0;
  for await (const piece of pieces) {
    if (bytes + piece.length > bytesExpected) throw new Error('the service sent more than it announced');
    bytes += piece.copy(whole, bytes);
  }
  return whole.subarray(0, bytes);
}
