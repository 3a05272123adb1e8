/**
 * The blob trigger. Azurite sends no events, so the container is listed again and again, and what has no receipt under
 * its present ETag is delivered: at least once, at most `maxDegreeOfParallelism` at a time, in the order of the names.
 *
 * A function registered with `sdkBinding: true` is handed a reference (`modelBindingData`), never content, exactly as
 * the real host does; any other gets the content as bytes, up to CONTENT_BYTES_MAX. What fails is tried again, five
 * times in all with growing delays; then a message goes to `webjobs-blobtrigger-poison` and the blob counts as dealt
 * with until it changes.
 *
 * It differs from the Event Grid source of the real host: blobs that were there before the function are delivered too,
 * and a blob that is replaced twice between two listings is delivered once.
 */
import type { BlobItem, ContainerClient } from '@azure/storage-blob';
import { problemOf } from '../errors.ts';
import type { AppSettings } from './app-settings.ts';
import { parseBlobPath } from './blob-path.ts';
import { openBlobReceipts } from './blob-receipts.ts';
import { connectionOf, textOf } from './functions.ts';
import { createGate, pause } from './gate.ts';
import type { HostSettings } from './host-json.ts';
import { failureLine } from './invoke.ts';
import { jsonData, type Listener, type ListenerContext, systemMetadata } from './listener.ts';
import type { QueueWriter } from './queue-messages.ts';
import type { RpcTypedData } from './rpc.ts';

const SCAN_MS = 1_000;
const SCAN_MS_WHEN_ACTIVE = 100;
/** A large container is not listed all the time: the rest between listings is at least this many times as long. */
const SCAN_REST_FACTOR = 4;
const IN_FLIGHT_MAX = 1_000;
const CONTENT_BYTES_MAX = 64 * 1024 * 1024;
const POISON_QUEUE = 'webjobs-blobtrigger-poison';

export interface BlobTriggerOptions extends ListenerContext {
  readonly settings: AppSettings;
  readonly blobs: HostSettings['blobs'];
  readonly writer: QueueWriter;
  /** Where receipts are kept; it exists. */
  readonly hostContainer: ContainerClient;
  readonly hostId: string;
  /** Before the second try; it doubles with each one. */
  readonly retryMs: number;
}

export interface BlobListener extends Listener {
  /** Runs the function for one blob by hand, whether or not it has a receipt. */
  runFor(blob: string): Promise<void>;
}

export async function startBlobTrigger(options: BlobTriggerOptions): Promise<BlobListener> {
  const { target, log } = options;
  const binding = target.trigger.binding;
  const path = parseBlobPath(textOf(binding, 'path', target.name), target.name);
  const connection = connectionOf(binding);
  const container = (await options.settings.blobService(connection)).getContainerClient(path.container);
  const poison = (await options.settings.queueService(connection)).getQueueClient(POISON_QUEUE);
  const receipts = await openBlobReceipts(
    options.hostContainer,
    `blobreceipts/${options.hostId}/${target.name}/${container.containerName}`,
  );
  const byReference = binding.sdkBinding === true;

  const stopping = new AbortController();
  const gate = createGate(options.blobs.maxDegreeOfParallelism);
  const inFlight = new Map<string, Promise<void>>();

  async function scan(): Promise<boolean> {
    let found = false;
    const listed = new Set<string>();
    const items = container.listBlobsFlat({
      prefix: path.prefix,
      includeMetadata: true,
      abortSignal: stopping.signal,
    });
    for await (const item of items) {
      const variables = path.match(item.name);
      if (variables === undefined) continue;
      listed.add(item.name);
      if (inFlight.has(item.name) || receipts.has(item.name, etagOf(item))) continue;
      found = true;
      take(item);
      // Listing waits for the function: what is taken is bounded, however many blobs there are.
      while (gate.waiting > 0 || inFlight.size >= IN_FLIGHT_MAX) {
        await Promise.race(inFlight.values());
        if (stopping.signal.aborted) return found;
      }
      if (stopping.signal.aborted) return found;
    }
    receipts.retain((blob) => listed.has(blob) || inFlight.has(blob));
    return found;
  }

  async function poll(): Promise<void> {
    while (!stopping.signal.aborted) {
      const startedMs = performance.now();
      let found = false;
      try {
        found = await scan();
      } catch (error) {
        if (stopping.signal.aborted) return;
        // A container that is not there yet is an empty one.
        if ((error as { statusCode?: number }).statusCode !== 404) {
          log('warning', `The container ${path.container} cannot be listed: ${problemOf(error)}`, target.name);
        }
      }
      const tookMs = performance.now() - startedMs;
      const restMs = found ? SCAN_MS_WHEN_ACTIVE : Math.max(SCAN_MS, SCAN_REST_FACTOR * tookMs);
      await pause(restMs, stopping.signal);
    }
  }

  function take(item: BlobItem): void {
    const done = deliver(item)
      .catch((error: unknown) => {
        log('warning', `A blob could not be settled and is delivered again: ${problemOf(error)}`, target.name);
      })
      .finally(() => inFlight.delete(item.name));
    inFlight.set(item.name, done);
  }

  async function deliver(first: BlobItem): Promise<void> {
    let item: BlobItem | undefined = first;
    for (let attempt = 1; ; attempt += 1) {
      const current: BlobItem = item;
      const failure = await gate.run(() => attemptOnce(current));
      if (failure === undefined) return receipts.record(current.name, etagOf(current));
      if (stopping.signal.aborted) return;

      const last = attempt >= options.blobs.poisonBlobThreshold;
      log(
        'error',
        `Try ${attempt} of ${options.blobs.poisonBlobThreshold} failed: ${failureLine(failure.error)}` +
          (last ? `; a message goes to ${POISON_QUEUE}` : ''),
        target.name,
      );
      if (last) {
        await options.writer.send(poison, poisonMessage(current), 'base64');
        return receipts.record(current.name, etagOf(current));
      }
      await pause(options.retryMs * 2 ** (attempt - 1), stopping.signal);
      if (stopping.signal.aborted) return;
      item = await refreshed(current);
      if (item === undefined) return;
    }
  }

  async function attemptOnce(item: BlobItem): Promise<{ error: unknown } | undefined> {
    if (stopping.signal.aborted) return { error: undefined };
    try {
      await options.run(await inputOf(item), triggerMetadata(item));
      return undefined;
    } catch (error) {
      return { error };
    }
  }

  async function inputOf(item: BlobItem): Promise<RpcTypedData> {
    if (byReference) {
      const content = { Connection: connection, ContainerName: path.container, BlobName: item.name };
      return {
        modelBindingData: {
          version: '1.0',
          source: 'AzureStorageBlobs',
          contentType: 'application/json',
          content: Buffer.from(JSON.stringify(content)),
        },
      };
    }
    const bytes = item.properties.contentLength ?? 0;
    if (bytes > CONTENT_BYTES_MAX) {
      throw new Error(
        `the blob has ${bytes} bytes, and the local host hands over ${CONTENT_BYTES_MAX} at most; use sdkBinding: true`,
      );
    }
    const blob = container.getBlobClient(item.name);
    return { bytes: await blob.downloadToBuffer(0, undefined, { conditions: { ifMatch: etagOf(item) } }) };
  }

  /** Names as the real host sends them; the library makes their first letter small, in what is nested too. */
  function triggerMetadata(item: BlobItem): Record<string, RpcTypedData> {
    const variables = Object.entries(path.match(item.name) ?? {});
    return {
      ...Object.fromEntries(variables.map(([name, value]) => [name, { string: value }])),
      BlobTrigger: { string: `${path.container}/${item.name}` },
      Uri: jsonData(container.getBlobClient(item.name).url),
      Properties: jsonData({
        LastModified: item.properties.lastModified,
        CreatedOn: item.properties.createdOn ?? item.properties.lastModified,
        ETag: etagOf(item),
        ContentLength: item.properties.contentLength ?? 0,
        ContentType: item.properties.contentType ?? null,
        ContentHash: Buffer.from(item.properties.contentMD5 ?? []).toString('base64'),
        BlobType: item.properties.blobType,
        AccessTier: item.properties.accessTier ?? null,
        Metadata: item.metadata ?? {},
      }),
      Metadata: jsonData(item.metadata ?? {}),
      ...systemMetadata(target.name),
    };
  }

  /** The blob as it is now; undefined when it is gone. */
  async function refreshed(item: BlobItem): Promise<BlobItem | undefined> {
    try {
      const properties = await container.getBlobClient(item.name).getProperties();
      return {
        ...item,
        metadata: properties.metadata ?? {},
        properties: {
          ...item.properties,
          etag: properties.etag ?? '',
          lastModified: properties.lastModified ?? item.properties.lastModified,
          contentLength: properties.contentLength ?? 0,
        },
      };
    } catch (error) {
      if ((error as { statusCode?: number }).statusCode === 404) return undefined;
      throw error;
    }
  }

  function poisonMessage(item: BlobItem): string {
    return JSON.stringify({
      Type: 'BlobTrigger',
      FunctionId: `Host.Functions.${target.name}`,
      BlobType: item.properties.blobType,
      ContainerName: path.container,
      BlobName: item.name,
      ETag: etagOf(item),
    });
  }

  const polling = poll();
  return {
    get pending() {
      return inFlight.size;
    },
    async stop() {
      stopping.abort();
      await polling;
      await Promise.all(inFlight.values());
    },
    // What has no receipt is delivered by the next host.
    abandon: () => Promise.resolve(),
    async runFor(name) {
      const item = await refreshed({
        name,
        snapshot: '',
        deleted: false,
        properties: { etag: '', lastModified: new Date(0) },
      });
      if (item === undefined) throw new Error(`there is no blob ${name} in ${path.container}`);
      const failure = await gate.run(() => attemptOnce(item));
      if (failure !== undefined) throw failure.error;
    },
  };
}

/** With quotes, as HTTP has it and as `If-Match` wants it; a listing leaves them out. */
function etagOf(item: BlobItem): string {
  const { etag } = item.properties;
  return etag.startsWith('"') ? etag : `"${etag}"`;
}
