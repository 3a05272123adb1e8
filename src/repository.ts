/**
 * A repository: opens or creates one and wires its parts. The only module that knows all of them; functions, command
 * line and local stack get everything from here.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import type { BatchParts } from './archive/batches.ts';
import type { ArchiveParts } from './archive/parts.ts';
import { PendingChunks } from './archive/pending-chunks.ts';
import { type ChunkReader, createChunkReader } from './chunks/chunk-reader.ts';
import { chunkWriterSizes, createChunkWriter } from './chunks/chunk-writer.ts';
import { checkChunkerParameters, createChunker } from './chunks/chunker.ts';
import { FirnError, isFirnError } from './errors.ts';
import { createFiletreeStore, type FiletreeStore } from './filetree/filetree-store.ts';
import { createChunkIndexes } from './index/chunk-index.ts';
import { RepairGate } from './index/marker.ts';
import type { JournalSettings } from './journal/journal-parts.ts';
import { createJournals } from './journal/journals.ts';
import type { PublishParts } from './publish/parts.ts';
import {
  type Chunking,
  CONFIG_NAME,
  defaultChunking,
  encodeConfig,
  parseConfig,
  type RepositoryConfig,
  verifyConfig,
} from './sealing/config.ts';
import {
  changePassphrase,
  createKey,
  type KeyRing,
  keyNames,
  openMasterKey,
  type PassphraseChange,
} from './sealing/key-ring.ts';
import { type Keys, keysFromMaster, MASTER_KEY_BYTES, plainKeys } from './sealing/keys.ts';
import { type ScryptCost, wrapMasterKey } from './sealing/master-key.ts';
import { SealedBlobs } from './sealing/sealed-blobs.ts';
import { repositoryNames, type Settings } from './settings.ts';
import { SnapshotStore } from './snapshots/snapshot-store.ts';
import { type BlobStore, type CallOptions, isBlobFailure } from './storage/blob-store.ts';
import { createOwn } from './storage/create-own.ts';
import { thisProcess } from './storage/lock-record.ts';
import { createLocks } from './storage/locks.ts';

/** Where containers come from: an account, or the test kit. */
export interface Containers {
  container(name: string): BlobStore;
}

/** Dispose of it when the process ends: its journals are closed, so that all they took is durable. */
export interface Inbox extends BatchParts, AsyncDisposable {}

/** Disposed of as an inbox is. */
export interface Repository extends ArchiveParts, PublishParts, AsyncDisposable {
  readonly name: string;
  readonly config: RepositoryConfig;
  readonly data: SealedBlobs;
  readonly chunks: ChunkReader;
}

export interface OpenOptions extends CallOptions {
  readonly now?: () => Date;
  readonly onWarning?: (error: FirnError) => void;
  /** Internal, for tests: entries over which a shard of the chunk index splits. */
  readonly shardEntriesMax?: number;
}

export interface CreateOptions extends OpenOptions {
  /** Without encryption no passphrase is taken. */
  readonly encrypted: boolean;
  readonly chunking?: Chunking;
  readonly thinChunks?: 'packed' | 'blob';
  /** Cost of the passphrase; the default is right for everything but tests. */
  readonly scryptCost?: ScryptCost;
}

/**
 * Creates a repository, with its containers.
 * @throws FIRN_REPOSITORY_EXISTS, FIRN_REPOSITORY_ENCRYPTED when there is no passphrase to wrap the key with,
 * FIRN_USAGE when there is one and none is wanted, FIRN_CONFIG_DAMAGED where a repository has lost its config: new keys
 * would shut out what is there.
 */
export async function createRepository(
  containers: Containers,
  settings: Settings,
  options: CreateOptions,
): Promise<Repository> {
  const names = repositoryNames(settings.repository);
  const data = containers.container(names.data);
  const { passphrase } = settings;
  if (options.encrypted && passphrase === undefined) {
    throw new FirnError('FIRN_REPOSITORY_ENCRYPTED', { repository: settings.repository });
  }
  if (!options.encrypted && passphrase !== undefined) {
    throw new FirnError('FIRN_USAGE', {
      problem: 'A passphrase was given for a repository that is not to be encrypted.',
    });
  }
  for (const container of [names.inbox, names.data, names.state]) {
    await containers.container(container).createContainer(options);
  }
  const exists = new FirnError('FIRN_REPOSITORY_EXISTS', { repository: settings.repository, url: data.url });
  if ((await readIfThere(data, CONFIG_NAME, options)) !== undefined) throw exists;
  for (const prefix of ['snapshots/', 'chunks/']) {
    for await (const { name } of data.list({ ...options, prefix })) {
      throw new FirnError('FIRN_CONFIG_DAMAGED', { what: CONFIG_NAME, problem: `it is missing, and ${name} is there` });
    }
  }

  const config: RepositoryConfig = {
    id: randomUUID(),
    created: (options.now?.() ?? new Date()).toISOString(),
    encryption: options.encrypted ? 'aes-256-gcm' : 'none',
    chunking: options.chunking ?? defaultChunking,
    thinChunks: options.thinChunks ?? 'packed',
  };
  let keys: Keys = plainKeys;
  if (passphrase !== undefined) {
    const master = randomBytes(MASTER_KEY_BYTES);
    keys = keysFromMaster(master);
    const key = await wrapMasterKey(config.id, master, passphrase, options.scryptCost);
    await createKey(data, key, options);
  }
  // The config last: a repository is there when its config is. A key that was left without one opens nothing.
  if (!(await createOwn(data, CONFIG_NAME, encodeConfig(config, keys), options))) throw exists;
  return wire(containers, settings, config, keys, options);
}

/**
 * Opens a repository.
 * @throws FIRN_REPOSITORY_MISSING, FIRN_REPOSITORY_NEWER, FIRN_REPOSITORY_ENCRYPTED, FIRN_REPOSITORY_PLAIN,
 * FIRN_PASSPHRASE_WRONG, FIRN_CONFIG_DAMAGED.
 */
export async function openRepository(
  containers: Containers,
  settings: Settings,
  options: OpenOptions = {},
): Promise<Repository> {
  const data = containers.container(repositoryNames(settings.repository).data);
  // At the same time as the config, which says whether there are any.
  const listing = settings.passphrase === undefined ? undefined : keyNames(data, options);
  listing?.catch(() => undefined);
  const { config, tag, passphrase } = await readConfig(data, settings, options);
  let keys: Keys = plainKeys;
  if (passphrase !== undefined) {
    const ring: KeyRing = { data, repository: settings.repository, repositoryId: config.id };
    keys = keysFromMaster(await openMasterKey(ring, passphrase, { ...options, names: await listing }));
  }
  verifyConfig(config, tag, keys);
  return wire(containers, settings, config, keys, options);
}

/**
 * Changes the passphrase of a repository from the one in the settings.
 * @throws what `openRepository` and `changePassphrase` throw.
 */
export async function changeRepositoryPassphrase(
  containers: Containers,
  settings: Settings,
  { to, keepOld }: { readonly to: string; readonly keepOld: boolean },
  options: CallOptions & { readonly scryptCost?: ScryptCost } = {},
): Promise<PassphraseChange> {
  const { repository } = settings;
  const data = containers.container(repositoryNames(repository).data);
  const { config, passphrase: from } = await readConfig(data, settings, options);
  if (from === undefined) {
    throw new FirnError('FIRN_USAGE', {
      problem: `The repository ${repository} is not encrypted: it has no passphrase.`,
    });
  }
  return await changePassphrase({ data, repository, repositoryId: config.id }, { from, to, keepOld }, options);
}

/** The passphrase is there exactly where the repository is encrypted. */
async function readConfig(
  data: BlobStore,
  { repository, passphrase }: Settings,
  options: CallOptions,
): Promise<{ config: RepositoryConfig; tag: string; passphrase: string | undefined }> {
  const body = await readIfThere(data, CONFIG_NAME, options);
  if (body === undefined) throw new FirnError('FIRN_REPOSITORY_MISSING', { repository, url: data.url });
  const { config, tag } = parseConfig(body);
  if (config.encryption === 'none') {
    if (passphrase !== undefined) throw new FirnError('FIRN_REPOSITORY_PLAIN', { repository });
  } else if (passphrase === undefined) {
    throw new FirnError('FIRN_REPOSITORY_ENCRYPTED', { repository });
  }
  return { config, tag, passphrase };
}

export interface PreparedRepository {
  readonly repository: Repository;
  readonly created: boolean;
}

/** Opens the repository, or creates an encrypted one where there is none. @throws what opening and creating throw. */
export async function openOrCreateRepository(
  containers: Containers,
  settings: Settings,
  options: OpenOptions = {},
): Promise<PreparedRepository> {
  const open = async () => ({ repository: await openRepository(containers, settings, options), created: false });
  try {
    return await open();
  } catch (error) {
    if (!isFirnError(error, 'FIRN_REPOSITORY_MISSING')) throw error;
  }
  try {
    return { repository: await createRepository(containers, settings, { ...options, encrypted: true }), created: true };
  } catch (error) {
    // Another one was faster.
    if (!isFirnError(error, 'FIRN_REPOSITORY_EXISTS')) throw error;
    return await open();
  }
}

async function readIfThere(store: BlobStore, name: string, options: CallOptions): Promise<Buffer | undefined> {
  try {
    return (await store.read(name, options)).body;
  } catch (error) {
    if (isBlobFailure(error, 'missing') || isFirnError(error, 'FIRN_CONTAINER_MISSING')) return undefined;
    throw error;
  }
}

/** What can be done without the keys: uploads are recorded, batches sealed and named. */
export function openInbox(containers: Containers, settings: Settings, options: OpenOptions = {}): Inbox {
  const names = repositoryNames(settings.repository);
  const now = options.now ?? (() => new Date());
  const journals = createJournals(containers.container(names.state), journalSettingsOf(settings), { now });
  return {
    settings,
    inbox: containers.container(names.inbox),
    state: { store: containers.container(names.state) },
    journalOf: journals.of,
    now,
    onWarning: options.onWarning ?? (() => {}),
    [Symbol.asyncDispose]: journals.close,
  };
}

function journalSettingsOf(settings: Settings): JournalSettings {
  return {
    recordsMax: settings.batchRecordsMax,
    uploadBytesMax: settings.batchBytesMax,
    ageSecondsMax: settings.batchAgeSecondsMax,
  };
}

function wire(
  containers: Containers,
  settings: Settings,
  config: RepositoryConfig,
  keys: Keys,
  options: OpenOptions,
): Repository {
  const dataStore = containers.container(repositoryNames(settings.repository).data);
  const data = new SealedBlobs(dataStore, keys);
  const inbox = openInbox(containers, settings, options);
  const state = new SealedBlobs(inbox.state.store, keys);
  const { chunking, thinChunks } = config;
  const chunker =
    chunking.method === 'file' ? undefined : createChunker(checkChunkerParameters(chunking), keys.chunkingKey);
  const filetrees: FiletreeStore = createFiletreeStore(dataStore, keys);
  const repairGate = new RepairGate(state.store);
  return {
    ...inbox,
    name: settings.repository,
    config,
    keys,
    data,
    state,
    chunker,
    filetrees,
    snapshots: new SnapshotStore(data, state, keys),
    locks: createLocks(state.store, { owner: thisProcess() }),
    checkRepair: (call) => repairGate.check(call),
    chunks: createChunkReader(dataStore, keys, { cacheBytesMax: settings.frameCacheBytesMax }),
    createIndex: createChunkIndexes(state, {
      cacheBytesMax: settings.indexCacheBytesMax,
      cacheFolder: settings.cacheFolder,
      cacheFolderBytesMax: settings.cacheFolderBytesMax,
      checkShards: (call) => repairGate.check(call),
      onWarning: inbox.onWarning,
      ...(options.shardEntriesMax !== undefined && { shardEntriesMax: options.shardEntriesMax }),
    }),
    pendingChunks: new PendingChunks(state, settings.pendingEntriesMax),
    createWriter: (onStored, signal) =>
      createChunkWriter(
        dataStore,
        keys,
        {
          ...chunkWriterSizes,
          compressionLevel: settings.compressionLevel,
          tier: settings.chunkTier,
          thinChunks,
          uploadsInFlightMax: settings.uploadsInFlightMax,
        },
        onStored,
        { signal },
      ),
  };
}
