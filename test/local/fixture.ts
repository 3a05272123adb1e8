/** Starts the fixture app in the local host with queues, containers and a task hub of its own, and reads its effects. */
import { fileURLToPath } from 'node:url';
import { BlobServiceClient, type ContainerClient } from '@azure/storage-blob';
import { type QueueClient, QueueServiceClient } from '@azure/storage-queue';
import { type FunctionsHostProcess, type SpawnHostOptions, spawnFunctionsHost } from '../../src/local/host-client.ts';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { until } from '../kit/until.ts';

const appRoot = fileURLToPath(new URL('./fixture-app', import.meta.url));

export interface Fixture {
  /** What the host keeps for itself lies under this name. */
  readonly hostId: string;
  readonly host: () => FunctionsHostProcess;
  readonly logs: string[];
  readonly inbox: ContainerClient;
  readonly small: ContainerClient;
  readonly jobs: QueueClient;
  readonly copies: QueueClient;
  readonly hooked: QueueClient;
  /** Bodies of the effects, in the order in which they were left. */
  effects(kind: string, key: string): Promise<unknown[]>;
  /** Waits until there are at least so many, then gives them. */
  effectsOf(kind: string, key: string, atLeast?: number): Promise<unknown[]>;
  openGate(name: string): Promise<void>;
  /** Starts the host (again). */
  start(): Promise<void>;
  fetch(path: string, init?: RequestInit): Promise<Response>;
  stop(): Promise<void>;
}

export async function startFixture(options: Partial<SpawnHostOptions> = {}): Promise<Fixture> {
  const connectionString = azuriteConnectionString();
  const blobs = BlobServiceClient.fromConnectionString(connectionString);
  const queues = QueueServiceClient.fromConnectionString(connectionString);
  const name = uniqueName('local');
  const effectsContainer = blobs.getContainerClient(`${name}-effects`);
  const inbox = blobs.getContainerClient(`${name}-inbox`);
  const small = blobs.getContainerClient(`${name}-small`);
  const jobs = queues.getQueueClient(`${name}-jobs`);
  const copies = queues.getQueueClient(`${name}-copies`);
  const hooked = queues.getQueueClient(`${name}-hooked`);
  await Promise.all([effectsContainer, inbox, small].map((container) => container.create()));
  await Promise.all([jobs, copies, hooked].map((queue) => queue.create()));

  const logs: string[] = [];
  let host: FunctionsHostProcess | undefined;
  const running = (): FunctionsHostProcess => {
    if (host === undefined) throw new Error('the host is not started');
    return host;
  };
  const effects = async (kind: string, key: string): Promise<unknown[]> => {
    const found: unknown[] = [];
    for await (const { name: blob } of effectsContainer.listBlobsFlat({ prefix: `${kind}/${key}/` })) {
      found.push(JSON.parse((await effectsContainer.getBlobClient(blob).downloadToBuffer()).toString()));
    }
    return found;
  };
  const start = async (): Promise<void> => {
    host = await spawnFunctionsHost({
      appRoot,
      entry: 'app.ts',
      httpPort: 0,
      messageLeaseSeconds: 2,
      blobRetryMs: 20,
      drainMsMax: 10_000,
      onLog: (line) => logs.push(line),
      ...options,
      settings: {
        AzureWebJobsStorage: connectionString,
        AzureFunctionsWebHost__hostid: name,
        AzureFunctionsJobHost__extensions__durableTask__hubName: `h${name.replaceAll('-', '')}`,
        FIXTURE_STORAGE: connectionString,
        EFFECTS_CONTAINER: effectsContainer.containerName,
        INBOX: inbox.containerName,
        SMALL: small.containerName,
        JOBS_QUEUE: jobs.name,
        COPIES_QUEUE: copies.name,
        HOOKED_QUEUE: hooked.name,
        ...options.settings,
      },
    });
  };
  await start();
  return {
    hostId: name,
    host: running,
    logs,
    inbox,
    small,
    jobs,
    copies,
    hooked,
    effects,
    effectsOf: (kind, key, atLeast = 1) =>
      until(`${atLeast} × ${kind}/${key}`, async () => {
        const found = await effects(kind, key);
        return found.length >= atLeast ? found : undefined;
      }),
    async openGate(gate) {
      await effectsContainer.getBlockBlobClient(`gates/${gate}`).uploadData(Buffer.from('open'));
    },
    start,
    fetch: (path, init) => fetch(`${running().url}${path}`, init),
    stop: () => running().stop(),
  };
}

export async function send(queue: QueueClient, message: unknown): Promise<void> {
  await queue.sendMessage(Buffer.from(JSON.stringify(message)).toString('base64'));
}

/** Waits until a queue holds no messages, visible or not. */
export async function emptied(queue: QueueClient): Promise<void> {
  await until(`${queue.name} is empty`, async () => {
    const { approximateMessagesCount } = await queue.getProperties();
    return approximateMessagesCount === 0 ? true : undefined;
  });
}
