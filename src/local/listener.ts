/** What every trigger looks like to the host. */
import type { HostedFunction } from './functions.ts';
import type { HostLog } from './log.ts';
import type { RpcTypedData } from './rpc.ts';

export interface Listener {
  /** Takes no new work and resolves when the work under way has ended. May be called again. */
  stop(): Promise<void>;
  /**
   * Called when the work under way did not end in time after `stop`: gives up what it holds, so that the next host finds
   * it at once.
   */
  abandon(): Promise<void>;
  /** Work under way or waiting in this process. */
  readonly pending: number;
}

/** Runs the function once for one piece of work and delivers its outputs; rejects when the invocation failed. */
export type Run = (input: RpcTypedData, triggerMetadata: Record<string, RpcTypedData>) => Promise<unknown>;

export interface ListenerContext {
  readonly target: HostedFunction;
  readonly run: Run;
  readonly log: HostLog;
}

/** Typed data as the real host sends values that are neither text nor numbers. */
export function jsonData(value: unknown): RpcTypedData {
  return { json: JSON.stringify(value) ?? 'null' };
}

/** What the real host adds to the trigger metadata of every invocation but those of HTTP and timer functions. */
export function systemMetadata(functionName: string): Record<string, RpcTypedData> {
  return {
    sys: jsonData({
      MethodName: functionName,
      UtcNow: new Date().toISOString(),
      RandGuid: crypto.randomUUID(),
    }),
  };
}
