/**
 * Reads `host.json`: the settings of the Functions host that the local host honours, with the defaults of the real host
 * (as it runs on a developer's machine). Sections that it does not know are left alone; a value that it knows and
 * cannot use is FIRN_SETTING_INVALID and names its key.
 *
 * As in the real host, an app setting `AzureFunctionsJobHost__extensions__queues__batchSize` (and so on) overrides the
 * file.
 */
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { FirnError, problemOf } from '../errors.ts';

export interface HostSettings {
  /** 0 means no limit. */
  readonly functionTimeoutMs: number;
  readonly queues: {
    readonly batchSize: number;
    readonly newBatchThreshold: number;
    readonly maxDequeueCount: number;
    /** How long a message is hidden after a failed invocation. */
    readonly visibilityTimeoutMs: number;
    readonly maxPollingIntervalMs: number;
    readonly messageEncoding: 'base64' | 'none';
  };
  readonly blobs: { readonly maxDegreeOfParallelism: number; readonly poisonBlobThreshold: number };
  readonly http: { readonly routePrefix: string };
  readonly durableTask: {
    readonly hubName: string;
    readonly maxConcurrentActivityFunctions: number;
    readonly maxConcurrentOrchestratorFunctions: number;
  };
}

const OVERRIDE_PREFIX = 'AzureFunctionsJobHost__';
const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/** The file's settings; a missing file counts as an empty one. */
export async function readHostJson(
  path: string,
  overrides: Readonly<Record<string, string | undefined>> = {},
): Promise<HostSettings> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw invalid('', problemOf(error));
    text = '{"version":"2.0"}';
  }
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw invalid('', problemOf(error));
  }
  return hostSettings(document, overrides);
}

export function hostSettings(
  document: unknown,
  overrides: Readonly<Record<string, string | undefined>> = {},
): HostSettings {
  const read = reader(document, overrides);
  const version = read('version');
  if (version !== undefined && version !== '2.0') throw invalid('version', 'it must be "2.0"');

  const queue = (key: string): string => `extensions.queues.${key}`;
  const batchSize = count(read, queue('batchSize'), 16, 1, 32);
  const perCore = 10 * availableParallelism();
  return {
    functionTimeoutMs: timeout(read),
    queues: {
      batchSize,
      newBatchThreshold: count(read, queue('newBatchThreshold'), Math.floor(batchSize / 2), 0, 1_000),
      maxDequeueCount: count(read, queue('maxDequeueCount'), 5, 1, 1_000_000),
      visibilityTimeoutMs: duration(read, queue('visibilityTimeout'), 0, 0, 7 * 24 * 60 * MINUTE),
      maxPollingIntervalMs: duration(read, queue('maxPollingInterval'), 2 * SECOND, 100, 60 * MINUTE),
      messageEncoding: word(read, queue('messageEncoding'), 'base64', ['base64', 'none']),
    },
    blobs: {
      maxDegreeOfParallelism: count(read, 'extensions.blobs.maxDegreeOfParallelism', 16, 1, 1_000),
      poisonBlobThreshold: count(read, 'extensions.blobs.poisonBlobThreshold', 5, 1, 1_000),
    },
    http: { routePrefix: text(read, 'extensions.http.routePrefix', 'api', /^[^?#]*$/).replace(/^\/+|\/+$/g, '') },
    durableTask: {
      hubName: text(read, 'extensions.durableTask.hubName', 'TestHubName', /^[A-Za-z][A-Za-z0-9]{2,44}$/),
      maxConcurrentActivityFunctions: count(
        read,
        'extensions.durableTask.maxConcurrentActivityFunctions',
        perCore,
        1,
        10_000,
      ),
      maxConcurrentOrchestratorFunctions: count(
        read,
        'extensions.durableTask.maxConcurrentOrchestratorFunctions',
        perCore,
        1,
        10_000,
      ),
    },
  };
}

type Read = (key: string) => unknown;

function reader(document: unknown, overrides: Readonly<Record<string, string | undefined>>): Read {
  const byKey = new Map<string, string>();
  for (const [name, value] of Object.entries(overrides)) {
    if (value === undefined || !name.toLowerCase().startsWith(OVERRIDE_PREFIX.toLowerCase())) continue;
    byKey.set(name.slice(OVERRIDE_PREFIX.length).replaceAll('__', '.').toLowerCase(), value);
  }
  return (key) => {
    const override = byKey.get(key.toLowerCase());
    if (override !== undefined) return override;
    let value = document;
    for (const step of key.split('.')) {
      if (value === undefined || value === null) return undefined;
      if (typeof value !== 'object') throw invalid(key, 'what holds it is not an object');
      // The real host reads names without regard to case.
      value = Object.entries(value).find(([name]) => name.toLowerCase() === step.toLowerCase())?.[1];
    }
    return value ?? undefined;
  };
}

function count(read: Read, key: string, fallback: number, min: number, max: number): number {
  const value = read(key);
  if (value === undefined) return fallback;
  const number = typeof value === 'string' && value !== '' ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isInteger(number) || number < min || number > max) {
    throw invalid(key, `it must be a whole number from ${min} to ${max}`);
  }
  return number;
}

function duration(read: Read, key: string, fallback: number, min: number, max: number): number {
  const value = read(key);
  if (value === undefined) return fallback;
  const ms = typeof value === 'string' ? timeSpanMs(value) : undefined;
  if (ms === undefined || ms < min || ms > max) {
    throw invalid(key, `it must be a time span such as "00:00:30", from ${min / 1000} s to ${max / 1000} s`);
  }
  return ms;
}

function timeout(read: Read): number {
  const value = read('functionTimeout');
  if (value === '-1' || value === -1 || value === '-00:00:01') return 0;
  return duration(read, 'functionTimeout', 30 * MINUTE, SECOND, 24 * 24 * 60 * MINUTE);
}

function word<const T extends string>(read: Read, key: string, fallback: T, words: readonly T[]): T {
  const value = read(key);
  if (value === undefined) return fallback;
  const found = words.find((known) => known === String(value).toLowerCase());
  if (found === undefined) throw invalid(key, `it must be one of ${words.join(', ')}`);
  return found;
}

function text(read: Read, key: string, fallback: string, pattern: RegExp): string {
  const value = read(key);
  if (value === undefined) return fallback;
  if (typeof value !== 'string' || !pattern.test(value)) throw invalid(key, `it must match ${pattern.source}`);
  return value;
}

/** `[d.]hh:mm[:ss[.fraction]]`, the TimeSpan of .NET. Undefined where the text is none. */
export function timeSpanMs(value: string): number | undefined {
  const match = /^(?:(\d+)\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2})(\.\d{1,7})?)?$/.exec(value);
  if (match === null) return undefined;
  const [days, hours, minutes, seconds, fraction] = match.slice(1).map((part) => Number(part ?? 0));
  if ((hours ?? 0) > 23 || (minutes ?? 0) > 59 || (seconds ?? 0) > 59) return undefined;
  return Math.round(
    (((days ?? 0) * 24 + (hours ?? 0)) * 60 + (minutes ?? 0)) * MINUTE + ((seconds ?? 0) + (fraction ?? 0)) * SECOND,
  );
}

function invalid(key: string, problem: string): FirnError {
  return new FirnError('FIRN_SETTING_INVALID', { name: key === '' ? 'host.json' : `host.json: ${key}`, problem });
}
