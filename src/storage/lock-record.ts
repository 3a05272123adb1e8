/** What a lock blob says of its owner: JSON, for people and for the next owner's token. */
import { hostname } from 'node:os';
import type { BlobStore, CallOptions } from './blob-store.ts';

/** In the state container. */
export const LOCK_PREFIX = 'locks/';

/** A token begins with a count, or with milliseconds since 1970: what is greater is damage, and leaves no room to grow. */
const TOKEN_MAX = 2 ** 50;

export interface LockRecord {
  /** Empty while the lock never had an owner. */
  readonly owner: string;
  readonly reason: string;
  /** RFC 3339, by the owner's clock: for people only. */
  readonly since: string;
  /** Owners so far, this one included. */
  readonly token: number;
  /** A fingerprint of the lease's id, by which a later step of the same run is recognised. */
  readonly lease: string;
}

export function writeLockRecord(record: LockRecord): Buffer {
  return Buffer.from(`${JSON.stringify(record)}\n`);
}

/** How this process names itself as an owner. */
export function thisProcess(): string {
  return `${hostname()}/${process.pid}`;
}

/** An owner, since when and why, for a message. */
export function ownerText(record: LockRecord | undefined): string {
  return record === undefined ? 'another run' : `${record.owner} since ${record.since} (${record.reason})`;
}

export interface LockReading {
  readonly etag: string;
  /** A lease is on it, and has not ended. */
  readonly held: boolean;
  /** Undefined when the body is none of ours. */
  readonly record: LockRecord | undefined;
}

/** Fails with `missing`. */
export async function readLockBlob(store: BlobStore, name: string, options: CallOptions): Promise<LockReading> {
  const { body, properties } = await store.read(LOCK_PREFIX + name, options);
  return { etag: properties.etag, held: properties.leased, record: parseLockRecord(body) };
}

function parseLockRecord(body: Buffer): LockRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(body.toString());
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { owner, reason, since, token, lease } = value as Partial<Record<keyof LockRecord, unknown>>;
  if (typeof owner !== 'string' || typeof reason !== 'string' || typeof since !== 'string') return undefined;
  if (typeof lease !== 'string' || typeof token !== 'number' || !Number.isSafeInteger(token)) return undefined;
  if (token < 0 || token > TOKEN_MAX) return undefined;
  return { owner, reason, since, token, lease };
}
