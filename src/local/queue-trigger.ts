/**
 * The storage queue trigger, as the real host runs it: messages are fetched in batches of `batchSize` while no more
 * than `newBatchThreshold` are being processed; a message is hidden while its function runs and deleted when it
 * succeeded; after a failure it shows again after `visibilityTimeout`, and after `maxDequeueCount` deliveries it is
 * moved to `<queue>-poison`. An idle queue is polled more and more slowly, up to `maxPollingInterval`.
 *
 * It differs from the real host in one number: a fetched message is hidden for seconds, renewed while its function
 * runs, not for ten minutes. So what a killed host held shows again soon.
 *
 * Delivery is at least once: a message whose deletion fails is delivered again.
 */
import type { DequeuedMessageItem, QueueClient } from '@azure/storage-queue';
import { problemOf } from '../errors.ts';
import type { AppSettings } from './app-settings.ts';
import { connectionOf, textOf } from './functions.ts';
import { pause } from './gate.ts';
import type { HostSettings } from './host-json.ts';
import { failureLine } from './invoke.ts';
import { jsonData, type Listener, type ListenerContext, systemMetadata } from './listener.ts';
import { decodeMessage, type QueueWatch, type QueueWriter } from './queue-messages.ts';
import type { RpcTypedData } from './rpc.ts';

const POLL_MS_MIN = 100;
const POLL_GROWTH = 1.5;
/** A queue that cannot be reached is asked again this often. */
const FAILED_POLL_MS = 1_000;

export interface QueueTriggerOptions extends ListenerContext {
  readonly settings: AppSettings;
  readonly queues: HostSettings['queues'];
  readonly writer: QueueWriter;
  readonly watch: QueueWatch;
  /** For how long a fetched message is hidden at a time. */
  readonly leaseSeconds: number;
}

interface Held {
  readonly message: DequeuedMessageItem;
  popReceipt: string;
  done: Promise<void>;
  renewal: { stop(): Promise<void> } | undefined;
}

export async function startQueueTrigger(options: QueueTriggerOptions): Promise<Listener> {
  const { target, queues, log, leaseSeconds } = options;
  const binding = target.trigger.binding;
  const queueName = textOf(binding, 'queueName', target.name);
  const service = await options.settings.queueService(connectionOf(binding));
  const queue = service.getQueueClient(queueName);
  const poison = service.getQueueClient(`${queueName}-poison`);

  const stopping = new AbortController();
  const held = new Map<string, Held>();
  let wake = new AbortController();
  const wakeUp = (): void => wake.abort();
  const unwatch = options.watch.watch(queue.url, wakeUp);
  stopping.signal.addEventListener('abort', wakeUp);

  /** Waits until woken or until the time is over. */
  async function rest(ms: number): Promise<void> {
    await pause(ms, wake.signal);
    if (wake.signal.aborted) wake = new AbortController();
  }

  async function poll(): Promise<void> {
    let intervalMs = POLL_MS_MIN;
    while (!stopping.signal.aborted) {
      if (held.size > queues.newBatchThreshold) {
        await Promise.race([...held.values()].map(({ done }) => done));
        continue;
      }
      let messages: DequeuedMessageItem[];
      try {
        messages = await receive(queue, queues.batchSize, leaseSeconds, stopping.signal);
      } catch (error) {
        if (stopping.signal.aborted) break;
        log('warning', `The queue ${queueName} cannot be read: ${problemOf(error)}`, target.name);
        await rest(FAILED_POLL_MS);
        continue;
      }
      for (const message of messages) hold(message);
      if (messages.length > 0) {
        intervalMs = POLL_MS_MIN;
      } else {
        await rest(intervalMs);
        intervalMs = Math.min(intervalMs * POLL_GROWTH, queues.maxPollingIntervalMs);
      }
    }
  }

  function hold(message: DequeuedMessageItem): void {
    const entry: Held = { message, popReceipt: message.popReceipt, done: Promise.resolve(), renewal: undefined };
    held.set(message.messageId, entry);
    entry.done = handle(entry)
      .catch((error: unknown) => {
        // The message shows again when its time is over; nothing is lost.
        log('warning', `A message of ${queueName} could not be settled: ${problemOf(error)}`, target.name);
      })
      .finally(() => held.delete(message.messageId));
  }

  async function handle(entry: Held): Promise<void> {
    const { message } = entry;
    const text = decodeMessage(message.messageText, queues.messageEncoding);
    if (text === undefined) {
      log(
        'error',
        `A message of ${queueName} is not ${queues.messageEncoding}; it goes to the poison queue`,
        target.name,
      );
      return moveToPoison(entry);
    }
    // A host that dies while it runs the last delivery never gets to count it as failed.
    if (message.dequeueCount > queues.maxDequeueCount) return moveToPoison(entry);

    entry.renewal = keepHidden(entry);
    let failure: unknown;
    let failed = false;
    try {
      await options.run({ string: text }, triggerMetadata(message, text, target.name));
    } catch (error) {
      failed = true;
      failure = error;
    } finally {
      await entry.renewal.stop();
    }
    if (!failed) {
      await queue.deleteMessage(message.messageId, entry.popReceipt);
      return;
    }
    const last = message.dequeueCount >= queues.maxDequeueCount;
    log(
      'error',
      `Delivery ${message.dequeueCount} of ${queues.maxDequeueCount} failed: ${failureLine(failure)}` +
        (last ? `; the message goes to ${poison.name}` : ''),
      target.name,
    );
    if (last) await moveToPoison(entry);
    else await show(entry, queues.visibilityTimeoutMs);
  }

  /** Copied first and deleted then: a crash in between leaves two, never none. */
  async function moveToPoison(entry: Held): Promise<void> {
    // The text is moved as it is: a message that could not be decoded must not be changed on the way.
    await options.writer.send(poison, entry.message.messageText, 'none');
    await queue.deleteMessage(entry.message.messageId, entry.popReceipt);
  }

  async function show(entry: Held, afterMs: number): Promise<void> {
    const seconds = Math.ceil(afterMs / 1000);
    const { popReceipt } = await queue.updateMessage(
      entry.message.messageId,
      entry.popReceipt,
      entry.message.messageText,
      seconds,
    );
    if (popReceipt !== undefined) entry.popReceipt = popReceipt;
    if (seconds === 0) wakeUp();
  }

  function keepHidden(entry: Held): { stop(): Promise<void> } {
    const ended = new AbortController();
    const loop = (async () => {
      while (!ended.signal.aborted) {
        await pause((leaseSeconds * 1000) / 3, ended.signal);
        if (ended.signal.aborted) return;
        try {
          await show(entry, leaseSeconds * 1000);
        } catch (error) {
          log('warning', `A message of ${queueName} could not be kept hidden: ${problemOf(error)}`, target.name);
        }
      }
    })();
    return {
      stop() {
        ended.abort();
        return loop;
      },
    };
  }

  const polling = poll();
  return {
    get pending() {
      return held.size;
    },
    async stop() {
      stopping.abort();
      unwatch();
      await polling;
      await Promise.all([...held.values()].map(({ done }) => done));
    },
    async abandon() {
      await Promise.allSettled(
        [...held.values()].map(async (entry) => {
          await entry.renewal?.stop();
          await show(entry, 0);
        }),
      );
    },
  };
}

async function receive(
  queue: QueueClient,
  count: number,
  visibilityTimeout: number,
  abortSignal: AbortSignal,
): Promise<DequeuedMessageItem[]> {
  try {
    const { receivedMessageItems } = await queue.receiveMessages({
      numberOfMessages: count,
      visibilityTimeout,
      abortSignal,
    });
    return receivedMessageItems;
  } catch (error) {
    // The real host waits for a queue that is not there yet.
    if ((error as { code?: string }).code === 'QueueNotFound') return [];
    throw error;
  }
}

/** Names as the real host sends them; the library makes their first letter small. */
function triggerMetadata(
  message: DequeuedMessageItem,
  text: string,
  functionName: string,
): Record<string, RpcTypedData> {
  return {
    ...payloadProperties(text),
    QueueTrigger: { string: text },
    DequeueCount: { int: message.dequeueCount },
    ExpirationTime: jsonData(message.expiresOn),
    Id: { string: message.messageId },
    InsertionTime: jsonData(message.insertedOn),
    NextVisibleTime: jsonData(message.nextVisibleOn),
    PopReceipt: { string: message.popReceipt },
    ...systemMetadata(functionName),
  };
}

/** The top-level properties of a message that is a JSON object. */
function payloadProperties(text: string): Record<string, RpcTypedData> {
  let payload: unknown;
  try {
    payload = JSON.parse(text);
  } catch {
    return {};
  }
  if (typeof payload !== 'object' || payload === null || Array.isArray(payload)) return {};
  return Object.fromEntries(
    Object.entries(payload).map(([key, value]) => [
      key,
      typeof value === 'string' ? { string: value } : jsonData(value),
    ]),
  );
}
