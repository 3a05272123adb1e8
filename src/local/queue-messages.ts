/**
 * Writing to storage queues, for output bindings and poison queues: queues are created when they are missing, and a
 * queue trigger of the same host is told that there is something to fetch, as the real host does.
 */
import type { QueueClient } from '@azure/storage-queue';
import type { AppSettings } from './app-settings.ts';
import { connectionOf, type HostedFunction, textOf } from './functions.ts';
import { type BindingInfo, dataValue, type RpcTypedData } from './rpc.ts';

export type MessageEncoding = 'base64' | 'none';

export interface QueueWatch {
  /** Calls back whenever this host has written to the queue. */
  watch(queueUrl: string, wake: () => void): () => void;
  written(queueUrl: string): void;
}

export function createQueueWatch(): QueueWatch {
  const watchers = new Map<string, Set<() => void>>();
  return {
    watch(queueUrl, wake) {
      const set = watchers.get(queueUrl) ?? new Set();
      watchers.set(queueUrl, set.add(wake));
      return () => set.delete(wake);
    },
    written(queueUrl) {
      for (const wake of watchers.get(queueUrl) ?? []) wake();
    },
  };
}

export interface QueueWriter {
  /** Resolves when the message is in the queue. */
  send(queue: QueueClient, message: string | Uint8Array, encoding: MessageEncoding): Promise<void>;
}

export function createQueueWriter(watch: QueueWatch): QueueWriter {
  return {
    async send(queue, message, encoding) {
      const text = encodeMessage(message, encoding);
      try {
        await queue.sendMessage(text);
      } catch (error) {
        if ((error as { code?: string }).code !== 'QueueNotFound') throw error;
        await queue.createIfNotExists();
        await queue.sendMessage(text);
      }
      watch.written(queue.url);
    },
  };
}

/** The data of an output binding of type `queue`, sent: an array is one message per element. */
export async function deliverToQueue(
  settings: AppSettings,
  writer: QueueWriter,
  encoding: MessageEncoding,
  target: HostedFunction,
  binding: BindingInfo,
  data: RpcTypedData,
): Promise<void> {
  const service = await settings.queueService(connectionOf(binding));
  const queue = service.getQueueClient(textOf(binding, 'queueName', target.name));
  const value = dataValue(data);
  for (const message of Array.isArray(value) ? value : [value]) {
    const body = typeof message === 'string' || message instanceof Uint8Array ? message : JSON.stringify(message);
    await writer.send(queue, body, encoding);
  }
}

export function encodeMessage(message: string | Uint8Array, encoding: MessageEncoding): string {
  return encoding === 'base64' ? Buffer.from(message).toString('base64') : Buffer.from(message).toString('utf8');
}

/** Undefined where the text is not base64 (or not UTF-8 inside), although it should be. */
export function decodeMessage(text: string, encoding: MessageEncoding): string | undefined {
  if (encoding === 'none') return text;
  const bytes = Buffer.from(text, 'base64');
  // Node skips what is not base64; only an exact round trip shows that there was nothing to skip.
  if (bytes.toString('base64').replace(/=+$/, '') !== text.trim().replace(/=+$/, '')) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
