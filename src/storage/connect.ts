/**
 * The way to a storage account: from its settings to blob stores and queues.
 *
 * Nothing is sent before the first call. An account that cannot be reached answers with FIRN_STORAGE_UNREACHABLE within
 * about fifteen seconds. @azure/identity is loaded only when a token is first needed.
 */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import { BlobServiceClient, type StorageRetryOptions } from '@azure/storage-blob';
import { type QueueClient, QueueServiceClient } from '@azure/storage-queue';
import { FirnError } from '../errors.ts';
import type { StorageConnection } from '../settings.ts';
import { createAzureBlobStore } from './azure-blob-store.ts';
import { repeatThrottled } from './azure-throttling.ts';
import type { BlobStore } from './blob-store.ts';

/**
 * Waits of 0, 1.2 and 3.6 seconds between four tries; with four connects of at most 2.5 seconds that is the limit that
 * this module promises. A service that is busy for longer is left to the retry of the function or the user.
 */
const retryOptions = { maxTries: 4, retryDelayInMs: 1_200, maxRetryDelayInMs: 4_000 };
const CONNECT_MS_MAX = 2_500;
/** A request without a byte in either direction for this long is broken off and tried again. */
const SILENCE_MS_MAX = 100_000;
const SOCKETS_MAX = 256;

export interface Storage {
  /** The address of the blob service, without any credential. */
  readonly url: string;
  container(name: string): BlobStore;
  /** The SDK's own client; its errors are the SDK's. */
  queue(name: string): QueueClient;
}

export interface ConnectOptions {
  /** Internal, for tests: in the place of the waits between tries. */
  readonly retryMs?: number;
}

/** Fails with FIRN_SETTING_INVALID when the connection cannot be understood. */
export function connectStorage(connection: StorageConnection, { retryMs }: ConnectOptions = {}): Storage {
  const retry = {
    ...retryOptions,
    ...(retryMs !== undefined && { retryDelayInMs: retryMs, maxRetryDelayInMs: retryMs }),
  };
  const { blobs, queues } =
    'connectionString' in connection
      ? fromConnectionString(connection.connectionString, retry)
      : fromIdentity(connection, retry);
  repeatThrottled(blobs, queues);
  return {
    url: blobs.url.split('?', 1)[0] ?? blobs.url,
    container: (name) => createAzureBlobStore(blobs.getContainerClient(name)),
    queue: (name) => queues.getQueueClient(name),
  };
}

interface Services {
  readonly blobs: BlobServiceClient;
  readonly queues: QueueServiceClient;
}

function fromConnectionString(connectionString: string, retry: StorageRetryOptions): Services {
  const text = connectionString.trim();
  const isHttps = !/^UseDevelopmentStorage=true|DefaultEndpointsProtocol=http;|BlobEndpoint=http:/i.test(text);
  try {
    return {
      blobs: BlobServiceClient.fromConnectionString(text, pipelineOptions(isHttps, retry)),
      queues: QueueServiceClient.fromConnectionString(text, pipelineOptions(isHttps, retry)),
    };
  } catch {
    // The SDK's own message may repeat the value, which holds a key.
    throw new FirnError('FIRN_SETTING_INVALID', {
      name: 'FIRN_STORAGE',
      problem: 'it is not a connection string of a storage account with blobs and queues',
    });
  }
}

function fromIdentity(
  connection: Exclude<StorageConnection, { connectionString: string }>,
  retry: StorageRetryOptions,
): Services {
  const blobUrl = serviceUrl('FIRN_STORAGE__blobServiceUri', connection.blobServiceUri);
  const queueUrl = serviceUrl('FIRN_STORAGE__queueServiceUri', connection.queueServiceUri);
  const credential = lazyCredential(connection.clientId);
  return {
    blobs: new BlobServiceClient(blobUrl.href, credential, pipelineOptions(blobUrl.protocol === 'https:', retry)),
    queues: new QueueServiceClient(queueUrl.href, credential, pipelineOptions(queueUrl.protocol === 'https:', retry)),
  };
}

function serviceUrl(name: string, value: string): URL {
  const url = URL.parse(value);
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new FirnError('FIRN_SETTING_INVALID', { name, problem: 'it is not an address' });
  }
  return url;
}

type TokenCredential = import('@azure/identity').TokenCredential;

/** One credential for both services; the client id names a user-assigned identity. */
function lazyCredential(clientId: string | undefined): TokenCredential {
  let loading: Promise<TokenCredential> | undefined;
  async function load(): Promise<TokenCredential> {
    const { DefaultAzureCredential } = await import('@azure/identity');
    return new DefaultAzureCredential(clientId === undefined ? {} : { managedIdentityClientId: clientId });
  }
  return {
    async getToken(scopes, options) {
      loading ??= load();
      const credential = await loading;
      return await credential.getToken(scopes, options);
    },
  };
}

/** `agent` is an option of the pipeline below the storage clients, which hand over what they do not know themselves. */
interface PipelineOptions {
  readonly retryOptions: StorageRetryOptions;
  agent?: HttpAgent | HttpsAgent;
}

function pipelineOptions(isHttps: boolean, retry: StorageRetryOptions): PipelineOptions {
  const options: PipelineOptions = { retryOptions: retry };
  // The SDK brings an agent of its own for a proxy, and leaves ours alone if there is one.
  if (!proxyNamed()) options.agent = limitedAgent(isHttps);
  return options;
}

function proxyNamed(): boolean {
  return ['HTTPS_PROXY', 'HTTP_PROXY', 'ALL_PROXY'].some(
    (name) => Boolean(process.env[name]) || Boolean(process.env[name.toLowerCase()]),
  );
}

/** An agent that keeps connections and gives up on those that do not come about or fall silent. The SDK does neither. */
export function limitedAgent(isHttps: boolean, connectMsMax = CONNECT_MS_MAX): HttpAgent | HttpsAgent {
  const options = { keepAlive: true, maxSockets: SOCKETS_MAX, timeout: SILENCE_MS_MAX };
  const agent = isHttps ? new HttpsAgent(options) : new HttpAgent(options);
  const connect = agent.createConnection.bind(agent);
  agent.createConnection = (connectOptions, callback) => {
    const socket = connect(connectOptions, callback);
    if (socket instanceof Socket) limit(socket, connectMsMax);
    return socket as Duplex;
  };
  return agent;
}

function limit(socket: Socket, connectMsMax: number): void {
  const giveUp = (problem: string): void => {
    socket.destroy(Object.assign(new Error(problem), { code: 'ETIMEDOUT' }));
  };
  const timer = setTimeout(() => giveUp(`no connection within ${connectMsMax} ms`), connectMsMax);
  const stop = (): void => clearTimeout(timer);
  socket.once(socket instanceof TLSSocket ? 'secureConnect' : 'connect', stop).once('close', stop);
  socket.on('timeout', () => giveUp(`no answer within ${SILENCE_MS_MAX} ms`));
}
