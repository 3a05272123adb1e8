/**
 * Blob storage in memory, for tests that need no service: it answers every call of the port as the Azure adapter does
 * on Azure, and `test/storage/blob-store-conformance.ts` holds the two together.
 *
 * Several stores may share one account, as several processes would. Time is injected, so leases expire when a test says
 * so. Bytes are copied in and out. The store is a plain object of the port's methods and nothing else: decorators
 * (faults, crashes, counters) wrap it from outside.
 */
import { randomUUID } from 'node:crypto';
import { FirnError } from '../../src/errors.ts';
import { compareNames } from '../../src/filetree/entry.ts';
import { abortablePieces } from '../../src/storage/abortable.ts';
import {
  APPEND_BLOCKS_MAX,
  checkAppendBlock,
  checkBlobName,
  checkFolderPrefix,
  checkLeaseId,
  checkLeaseSeconds,
  checkMetadata,
  checkNewBlobName,
  checkPrefix,
  checkRange,
} from '../../src/storage/blob-rules.ts';
import {
  type BlobContent,
  type BlobFailure,
  type BlobItem,
  type BlobMetadata,
  type BlobProperties,
  type BlobStore,
  BlobStoreError,
  type CallOptions,
  type ReadOptions,
  type Tier,
} from '../../src/storage/blob-store.ts';

export interface MemoryAccountOptions {
  /** Milliseconds since the epoch; the machine's clock where undefined. */
  readonly now?: () => number;
  /** Blocks that an append blob takes; 50,000 where undefined, as in the service. */
  readonly appendBlocksMax?: number;
  /** Bytes of one piece of `readStream`. */
  readonly streamPieceBytes?: number;
}

export interface MemoryStoreOptions extends MemoryAccountOptions {
  /** False: the container does not exist yet. */
  readonly container?: boolean;
}

export interface MemoryAccount {
  /** A store over the container of that name; the same name gives the same content. It exists unless told otherwise. */
  container(name: string, options?: { exists?: boolean }): BlobStore;
  /** Another account with the same content, of which neither sees what the other does from now on. */
  clone(options?: MemoryAccountOptions): MemoryAccount;
  /** Changes the bytes of a blob that is there as no service would: of any kind, sealed or leased, and all else stays. */
  overwrite(container: string, name: string, bytes: Uint8Array): void;
}

interface Lease {
  readonly id: string;
  readonly seconds: number;
  readonly endsAt: number;
  readonly broken: boolean;
}

interface Blob {
  readonly kind: 'block' | 'append';
  pieces: Buffer[];
  bytes: number;
  etag: string;
  lastModified: Date;
  readonly metadata: BlobMetadata;
  readonly tier: Tier | undefined;
  sealed: boolean;
  lease: Lease | undefined;
}

type Container = Map<string, Blob>;

const STREAM_PIECE_BYTES = 64 * 1024;

export function createMemoryBlobStore(options: MemoryStoreOptions = {}): BlobStore {
  return createMemoryAccount(options).container('memory', { exists: options.container ?? true });
}

export function createMemoryAccount(options: MemoryAccountOptions = {}): MemoryAccount {
  return accountOver(new Map(), options);
}

function accountOver(containers: Map<string, Container>, options: MemoryAccountOptions): MemoryAccount {
  return {
    clone(others = options) {
      const copies = Array.from(containers, ([name, container]): [string, Container] => [
        name,
        new Map(Array.from(container, ([blobName, blob]) => [blobName, { ...blob, pieces: [...blob.pieces] }])),
      ]);
      return accountOver(new Map(copies), others);
    },
    overwrite(container, name, bytes) {
      const blob = containers.get(container)?.get(name) ?? fail('missing', name);
      containers
        .get(container)
        ?.set(name, { ...blob, pieces: [Buffer.from(bytes)], bytes: bytes.length, etag: newEtag() });
    },
    container(name, { exists = true } = {}) {
      if (exists && !containers.has(name)) containers.set(name, new Map());
      return storeOver(name, containers, options);
    },
  };
}

function storeOver(
  containerName: string,
  containers: Map<string, Container>,
  settings: MemoryAccountOptions,
): BlobStore {
  const now = settings.now ?? Date.now;
  const appendBlocksMax = settings.appendBlocksMax ?? APPEND_BLOCKS_MAX;
  const streamPieceBytes = settings.streamPieceBytes ?? STREAM_PIECE_BYTES;

  /** Lets other callers in, as a request would. What follows it in a method happens in one step. */
  async function enter(options: CallOptions | undefined): Promise<void> {
    options?.signal?.throwIfAborted();
    await undefined;
    options?.signal?.throwIfAborted();
  }

  function containerOf(): Container {
    const container = containers.get(containerName);
    if (container === undefined) throw new FirnError('FIRN_CONTAINER_MISSING', { url: `memory:${containerName}` });
    return container;
  }

  function blobOf(name: string): Blob {
    return containerOf().get(name) ?? fail('missing', name);
  }

  /** The HTTP date has seconds only. */
  function stamp(): { etag: string; lastModified: Date } {
    return { etag: newEtag(), lastModified: new Date(Math.floor(now() / 1000) * 1000) };
  }

  function leaseStateOf(blob: Blob): 'none' | 'held' | 'expired' | 'broken' {
    if (blob.lease === undefined) return 'none';
    if (blob.lease.broken) return 'broken';
    return now() < blob.lease.endsAt ? 'held' : 'expired';
  }

  function propertiesOf(blob: Blob): BlobProperties {
    return {
      etag: blob.etag,
      bytes: blob.bytes,
      lastModified: new Date(blob.lastModified),
      metadata: { ...blob.metadata },
      tier: blob.tier,
      sealed: blob.sealed,
      leased: leaseStateOf(blob) === 'held',
    };
  }

  function refuseLeased(name: string, blob: Blob): void {
    if (leaseStateOf(blob) === 'held') fail('leased', name);
  }

  function put(
    name: string,
    body: Buffer,
    options: { metadata?: BlobMetadata; tier?: Tier | undefined; lease?: Lease | undefined },
  ): { etag: string } {
    const blob: Blob = {
      kind: 'block',
      pieces: [body],
      bytes: body.length,
      ...stamp(),
      metadata: { ...options.metadata },
      tier: options.tier ?? 'Hot',
      sealed: false,
      lease: options.lease,
    };
    containerOf().set(name, blob);
    return { etag: blob.etag };
  }

  function appendTo(blob: Blob, block: Uint8Array): { offset: number; blocks: number; etag: string } {
    const offset = blob.bytes;
    blob.pieces.push(Buffer.from(block));
    blob.bytes += block.length;
    Object.assign(blob, stamp());
    // A write ends the memory of a lease that is over.
    if (leaseStateOf(blob) !== 'held') blob.lease = undefined;
    return { offset, blocks: blob.pieces.length, etag: blob.etag };
  }

  function readNow(name: string, options: ReadOptions): BlobContent {
    const blob = blobOf(name);
    if (options.ifMatch !== undefined && options.ifMatch !== blob.etag) fail('changed', name);
    if (blob.tier === 'Archive') fail('offline', name);
    const offset = options.offset ?? 0;
    if (offset > blob.bytes) fail('range', name);
    const whole = Buffer.concat(blob.pieces);
    const body = Buffer.from(
      whole.subarray(offset, options.length === undefined ? undefined : offset + options.length),
    );
    // The service names no tier when it sends a body.
    return { body, properties: { ...propertiesOf(blob), tier: undefined } };
  }

  return {
    url: `memory:${containerName}`,

    async createContainer(options) {
      await enter(options);
      if (containers.has(containerName)) return false;
      containers.set(containerName, new Map());
      return true;
    },

    async deleteContainer(options) {
      await enter(options);
      return containers.delete(containerName);
    },

    async create(name, body, options) {
      checkNewBlobName(name);
      checkMetadata(options?.metadata);
      const copy = Buffer.from(body);
      await enter(options);
      if (containerOf().has(name)) fail('exists', name);
      return put(name, copy, options ?? {});
    },

    async createFromStream(name, body, options) {
      checkNewBlobName(name);
      checkMetadata(options?.metadata);
      await enter(options);
      const pieces: Buffer[] = [];
      for await (const piece of abortablePieces(body, options?.signal)) pieces.push(Buffer.from(piece));
      await enter(options);
      if (containerOf().has(name)) fail('exists', name);
      return put(name, Buffer.concat(pieces), options ?? {});
    },

    async replace(name, body, options) {
      checkBlobName(name);
      checkMetadata(options.metadata);
      const copy = Buffer.from(body);
      await enter(options);
      const blob = containerOf().get(name);
      // The service says «condition not met» of a blob that is not there.
      if (blob === undefined || blob.etag !== options.ifMatch) return fail('changed', name);
      refuseLeased(name, blob);
      return put(name, copy, options);
    },

    async replaceFromStream(name, body, options) {
      const pieces: Buffer[] = [];
      for await (const piece of abortablePieces(body, options.signal)) pieces.push(Buffer.from(piece));
      return await this.replace(name, Buffer.concat(pieces), options);
    },

    async read(name, options = {}) {
      checkBlobName(name);
      checkRange(options.offset, options.length);
      await enter(options);
      return readNow(name, options);
    },

    async readStream(name, options = {}) {
      checkBlobName(name);
      checkRange(options.offset, options.length);
      await enter(options);
      const { body, properties } = readNow(name, options);
      async function* pieces(): AsyncGenerator<Buffer> {
        for (let at = 0; at < body.length; at += streamPieceBytes) {
          await enter(options);
          yield Buffer.from(body.subarray(at, at + streamPieceBytes));
        }
      }
      return { body: pieces(), properties };
    },

    async properties(name, options) {
      checkBlobName(name);
      await enter(options);
      const blob = blobOf(name);
      return { ...propertiesOf(blob), ...(blob.kind === 'append' && { blocks: blob.pieces.length }) };
    },

    async *list(options = {}) {
      const prefix = options.prefix ?? '';
      checkPrefix(prefix);
      await enter(options);
      const names = [...containerOf().keys()].filter((name) => name.startsWith(prefix)).sort(compareNames);
      for (const name of names) {
        await enter(options);
        const blob = containerOf().get(name);
        if (blob !== undefined) yield { name, ...propertiesOf(blob) } satisfies BlobItem;
      }
    },

    async *listFolders(options = {}) {
      const prefix = options.prefix ?? '';
      checkFolderPrefix(prefix);
      await enter(options);
      const folders = new Set<string>();
      for (const name of containerOf().keys()) {
        const end = name.startsWith(prefix) ? name.indexOf('/', prefix.length) : -1;
        if (end !== -1) folders.add(name.slice(prefix.length, end + 1));
      }
      for (const folder of [...folders].sort(compareNames)) {
        await enter(options);
        yield folder.slice(0, -1);
      }
    },

    async delete(name, options = {}) {
      checkBlobName(name);
      await enter(options);
      const container = containerOf();
      const blob = container.get(name);
      if (blob === undefined) return false;
      if (options.ifMatch !== undefined && options.ifMatch !== blob.etag) fail('changed', name);
      refuseLeased(name, blob);
      return container.delete(name);
    },

    async createAppend(name, first, options = {}) {
      checkNewBlobName(name);
      checkMetadata(options.metadata);
      checkAppendBlock(first);
      const copy = Buffer.from(first);
      await enter(options);
      const container = containerOf();
      if (container.has(name)) fail('exists', name);
      const blob: Blob = {
        kind: 'append',
        pieces: [],
        bytes: 0,
        ...stamp(),
        metadata: { ...options.metadata },
        tier: undefined,
        sealed: false,
        lease: undefined,
      };
      container.set(name, blob);
      return appendTo(blob, copy);
    },

    async append(name, block, options = {}) {
      checkBlobName(name);
      checkAppendBlock(block);
      const copy = Buffer.from(block);
      await enter(options);
      const blob = blobOf(name);
      if (blob.kind !== 'append') throw new Error(`${name} is not an append blob`);
      refuseLeased(name, blob);
      if (blob.sealed) fail('sealed', name);
      if (options.position !== undefined && options.position !== blob.bytes) fail('position', name);
      if (blob.pieces.length >= appendBlocksMax) fail('full', name);
      return appendTo(blob, copy);
    },

    async seal(name, options) {
      checkBlobName(name);
      await enter(options);
      const blob = blobOf(name);
      if (blob.kind !== 'append') throw new Error(`${name} is not an append blob`);
      refuseLeased(name, blob);
      // The service leaves ETag and time as they are.
      blob.sealed = true;
    },

    async acquireLease(name, leaseId, seconds, options) {
      checkBlobName(name);
      checkLeaseId(leaseId);
      checkLeaseSeconds(seconds);
      await enter(options);
      const blob = blobOf(name);
      if (leaseStateOf(blob) === 'held' && blob.lease?.id !== leaseId) fail('leased', name);
      blob.lease = { id: leaseId, seconds, endsAt: now() + seconds * 1000, broken: false };
      return { etag: blob.etag };
    },

    async renewLease(name, leaseId, options) {
      checkBlobName(name);
      checkLeaseId(leaseId);
      await enter(options);
      const blob = blobOf(name);
      const lease = blob.lease;
      if (lease === undefined || lease.broken || lease.id !== leaseId) return fail('lease-lost', name);
      blob.lease = { ...lease, endsAt: now() + lease.seconds * 1000 };
    },

    async releaseLease(name, leaseId, options) {
      checkBlobName(name);
      checkLeaseId(leaseId);
      await enter(options);
      const blob = containerOf().get(name);
      if (blob?.lease?.id !== leaseId) return false;
      blob.lease = undefined;
      return true;
    },

    async breakLease(name, options) {
      checkBlobName(name);
      await enter(options);
      const blob = blobOf(name);
      if (blob.lease === undefined) return false;
      blob.lease = { ...blob.lease, broken: true };
      return true;
    },

    async writeLeased(name, body, leaseId, options) {
      checkBlobName(name);
      checkLeaseId(leaseId);
      const copy = Buffer.from(body);
      await enter(options);
      const blob = blobOf(name);
      if (leaseStateOf(blob) !== 'held' || blob.lease?.id !== leaseId) fail('lease-lost', name);
      return put(name, copy, { lease: blob.lease });
    },
  };
}

function newEtag(): string {
  return `"0x${randomUUID()}"`;
}

function fail(failure: BlobFailure, name: string): never {
  throw new BlobStoreError(failure, name);
}
