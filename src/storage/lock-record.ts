/** What a lock blob says of its owner: JSON, for people and for the next owner's token. */
import type { BlobStore } from './blob-store.ts';

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

/** Undefined when the body is none of ours. Fails with `missing`. */
export async function readLockRecord(
  store: BlobStore,
  blob: string,
  signal: AbortSignal | undefined,
): Promise<LockRecord | undefined> {
  const { body } = await store.read(blob, { signal });
  return parseLockRecord(body.toString());
}

function parseLockRecord(text: string): LockRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { owner, reason, since, token, lease } = value as Partial<Record<keyof LockRecord, unknown>>;
  if (typeof owner !== 'string' || typeof reason !== 'string' || typeof since !== 'string') return undefined;
  if (typeof lease !== 'string' || !Number.isSafeInteger(token)) return undefined;
  return { owner, reason, since, token: Number(token), lease };
}
