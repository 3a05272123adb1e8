/**
 * What the local host says, as entries for whoever started it: to print, to filter, to write to a file. Entries at
 * level information or below, as far as the host writes them itself, name functions and counts, never blobs, messages
 * or contents.
 */
import type { RpcLogLevel } from './rpc.ts';

export interface HostLogEntry {
  readonly time: string;
  readonly level: RpcLogLevel;
  /** `host`: the local host itself; `system`: the Functions library; `user`: the app. */
  readonly category: 'host' | 'system' | 'user';
  readonly message: string;
  readonly functionName?: string;
  readonly invocationId?: string;
}

export type HostLogSink = (entry: HostLogEntry) => void;

/** Writes the host's own entries. */
export type HostLog = (level: RpcLogLevel, message: string, functionName?: string) => void;

export function hostLog(sink: HostLogSink): HostLog {
  return (level, message, functionName) =>
    sink({
      time: new Date().toISOString(),
      level,
      category: 'host',
      message,
      ...(functionName === undefined ? {} : { functionName }),
    });
}
