/** The whole of Firn for end-to-end tests: Azurite and the functions hosted on it, in processes of their own. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type BlobLeaseClient, BlobServiceClient } from '@azure/storage-blob';
import { publishNow, waitForSnapshot, waitUntilRecorded } from '../../src/local/demo/watch.ts';
import { type Stack, startStack } from '../../src/local/stack.ts';
import { openFromEnvironment } from '../../src/open-from-environment.ts';
import type { Repository } from '../../src/repository.ts';
import { repositoryNames } from '../../src/settings.ts';
import type { Snapshot } from '../../src/snapshots/snapshot.ts';
import type { BlobMetadata } from '../../src/storage/blob-store.ts';

export interface Hosted {
  readonly stack: Stack;
  readonly repository: Repository;
  readonly folder: string;
  readonly logs: readonly string[];
  /** Puts a blob into the inbox, over the one that is there. The blob trigger does the rest. */
  put(name: string, content: string | Buffer, metadata?: BlobMetadata): Promise<void>;
  /** Names a batch to the queue once more. */
  queueBatch(source: string, batch: string): Promise<void>;
  /** Holds leases on all shards, so that every flush of an existing one fails; release with the answer. */
  blockShards(): Promise<() => Promise<void>>;
  publish(source: string): Promise<void>;
  recorded(source: string, records: number): Promise<void>;
  published(source: string, parent: Snapshot | undefined): Promise<Snapshot>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Failing invocations come back at once, and timers of publishing look every second. */
const impatient = {
  AzureFunctionsJobHost__extensions__queues__visibilityTimeout: '00:00:00',
  AzureFunctionsJobHost__extensions__queues__maxPollingInterval: '00:00:00.200',
  FIRN_PUBLISH_SCHEDULE: '* * * * * *',
  FIRN_PUBLISH_RETRY_SECONDS: '1',
};

export async function startHosted(environment: Record<string, string> = {}): Promise<Hosted> {
  const folder = await mkdtemp(path.join(tmpdir(), 'firn-e2e-'));
  const logs: string[] = [];
  const stack = await startStack({
    folder,
    blobPort: 0,
    queuePort: 0,
    httpPort: 0,
    environment: { ...impatient, ...environment },
    onLog: (line) => logs.push(line),
  });
  const { repository, containers } = await openFromEnvironment(stack.environment);
  const names = repositoryNames(repository.name);
  const service = BlobServiceClient.fromConnectionString(stack.environment.FIRN_STORAGE ?? '');
  const inbox = service.getContainerClient(names.inbox);
  const state = service.getContainerClient(names.state);
  return {
    stack,
    repository,
    folder,
    logs,
    async put(name, content, metadata = {}) {
      await inbox.getBlockBlobClient(name).uploadData(Buffer.from(content), { metadata: { ...metadata } });
    },
    async queueBatch(source, batch) {
      const message = Buffer.from(JSON.stringify({ source, batch })).toString('base64');
      await containers.queue(names.batchQueue).sendMessage(message);
    },
    async blockShards() {
      const leases: BlobLeaseClient[] = [];
      for await (const { name } of state.listBlobsFlat({ prefix: 'chunk-index/' })) {
        const lease = state.getBlobClient(name).getBlobLeaseClient();
        await lease.acquireLease(-1);
        leases.push(lease);
      }
      return async () => {
        for (const lease of leases) await lease.releaseLease();
      };
    },
    publish: (source) => publishNow(stack.hostUrl, source),
    recorded: (source, records) => waitUntilRecorded(repository, source, records, {}),
    published: (source, parent) => waitForSnapshot(repository, source, parent, {}),
    async [Symbol.asyncDispose]() {
      await stack.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
