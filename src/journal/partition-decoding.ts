/**
 * Reads the bytes of a journal partition, whatever was done to them. Pure: no storage. The form is in `partition.ts`.
 */
import { crc32 } from 'node:zlib';
import { FirnError } from '../errors.ts';
import {
  CRC_BYTES,
  HEADER_BYTES_MAX,
  HEADER_FIXED_BYTES,
  idOfEncoded,
  magic,
  marker,
  PARTITION_VERSION,
  PAYLOAD_BYTES_MAX,
  type PartitionHeader,
  partitionKinds,
  RECORD_HEAD_BYTES,
  recordKinds,
} from './partition.ts';
import type { ControlRecord, JournalRecord, PartitionRecord } from './record.ts';

export type CorruptReason =
  /** The header of the partition is damaged; its records are read all the same. */
  | 'header'
  /** No record begins where one should. */
  | 'marker'
  /** A record claims to be larger than a record may be. */
  | 'length'
  | 'checksum'
  /** The partition ends inside a record. */
  | 'torn'
  /** The partition ends between two records, before its known end. */
  | 'cut'
  /** The checksum holds, but the payload is not what its type says. */
  | 'payload';

/** Bytes that could not be understood, up to the next whole record; none where a whole header is gone. */
export interface CorruptRange {
  readonly offset: number;
  readonly bytes: number;
  readonly reason: CorruptReason;
}

/** A whole record of a type that this version does not know. */
export interface UnknownRecord {
  readonly offset: number;
  readonly bytes: number;
  readonly type: number;
}

export type PartitionEvent =
  | { readonly kind: 'header'; readonly header: PartitionHeader }
  | { readonly kind: 'record'; readonly id: string; readonly record: JournalRecord }
  | { readonly kind: 'control'; readonly record: ControlRecord }
  | { readonly kind: 'corrupt'; readonly range: CorruptRange }
  | { readonly kind: 'unknown'; readonly unknown: UnknownRecord };

type Inspected =
  | { readonly kind: 'record'; readonly bytes: number; readonly type: number; readonly id: string; payload: Buffer }
  | { readonly kind: 'more'; readonly bytes: number }
  | { readonly kind: 'bad'; readonly reason: CorruptReason };

/** What begins at the first byte; `more` when it takes more bytes to say. */
function inspect(held: Buffer): Inspected {
  const lead = Math.min(marker.length, held.length);
  if (!held.subarray(0, lead).equals(marker.subarray(0, lead))) return { kind: 'bad', reason: 'marker' };
  if (held.length < RECORD_HEAD_BYTES) return { kind: 'more', bytes: RECORD_HEAD_BYTES };
  const payloadBytes = held.readUInt32LE(4);
  if (payloadBytes > PAYLOAD_BYTES_MAX) return { kind: 'bad', reason: 'length' };
  const crcAt = RECORD_HEAD_BYTES + payloadBytes;
  const bytes = crcAt + CRC_BYTES;
  if (held.length < bytes) return { kind: 'more', bytes };
  if (crc32(held.subarray(4, crcAt)) !== held.readUInt32LE(crcAt)) return { kind: 'bad', reason: 'checksum' };
  return {
    kind: 'record',
    bytes,
    type: held.readUInt8(8),
    id: idOfEncoded(held),
    payload: held.subarray(RECORD_HEAD_BYTES, crcAt),
  };
}

function parsePayload(kind: PartitionRecord['kind'], payload: Buffer): PartitionRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(payload.toString('utf8'));
  } catch {
    // The caller reports the range as corrupt.
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { path, etag, bytes, nonce, replaces, records } = value as Readonly<Record<string, unknown>>;
  if (kind === 'upload') {
    if (typeof path !== 'string' || typeof etag !== 'string' || !isCount(bytes)) return undefined;
    return { kind, path, etag, bytes };
  }
  if (typeof nonce !== 'string') return undefined;
  if (kind === 'removal') return typeof path === 'string' ? { kind, path, nonce } : undefined;
  if (kind !== 'end') return { kind, nonce };
  if (!isCount(records) || !Array.isArray(replaces) || !replaces.every((blob) => typeof blob === 'string')) {
    return undefined;
  }
  return { kind, replaces, records, nonce };
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** Undefined when the header is damaged. @throws FIRN_REPOSITORY_NEWER. */
function parseHeader(held: Buffer, blob: string): { header: PartitionHeader; bytes: number } | undefined {
  if (held.length < HEADER_FIXED_BYTES + CRC_BYTES || !held.subarray(0, 4).equals(magic)) return undefined;
  const version = held.readUInt16LE(4);
  const bytes = held.readUInt16LE(6);
  const crcAt = bytes - CRC_BYTES;
  if (bytes < HEADER_FIXED_BYTES + CRC_BYTES || bytes > Math.min(held.length, HEADER_BYTES_MAX)) return undefined;
  if (crc32(held.subarray(0, crcAt)) !== held.readUInt32LE(crcAt)) return undefined;
  if (version > PARTITION_VERSION) {
    throw new FirnError('FIRN_REPOSITORY_NEWER', {
      what: `journal partition ${blob}`,
      version,
      supported: PARTITION_VERSION,
    });
  }
  const kind = partitionKinds[held.readUInt8(24)];
  const created = new Date(Number(held.readBigUInt64LE(8)));
  const partition = Number(held.readBigUInt64LE(16));
  if (kind === undefined || Number.isNaN(created.getTime()) || !isCount(partition)) return undefined;
  const header = {
    created,
    partition,
    kind,
    source: held.toString('latin1', HEADER_FIXED_BYTES, crcAt),
  };
  return { header, bytes };
}

/** A window over pieces of any size that slides forward. */
class Window {
  readonly #pieces: AsyncIterator<Buffer> | Iterator<Buffer>;
  held: Buffer = Buffer.alloc(0);
  offset: number;
  ended = false;

  constructor(pieces: AsyncIterable<Buffer> | Iterable<Buffer>, offset: number) {
    this.#pieces = Symbol.asyncIterator in pieces ? pieces[Symbol.asyncIterator]() : pieces[Symbol.iterator]();
    this.offset = offset;
  }

  /** Holds at least so many bytes, unless the end comes first. */
  async fill(bytes: number): Promise<void> {
    const parts = [this.held];
    let held = this.held.length;
    while (!this.ended && held < bytes) {
      const { done, value } = await this.#pieces.next();
      if (done === true) {
        this.ended = true;
      } else {
        parts.push(value);
        held += value.length;
      }
    }
    if (parts.length > 1) this.held = Buffer.concat(parts, held);
  }

  drop(bytes: number): void {
    this.held = this.held.subarray(bytes);
    this.offset += bytes;
  }

  async close(): Promise<void> {
    await this.#pieces.return?.();
  }
}

export interface DecodeOptions {
  /** The name of the partition in messages. */
  readonly blob: string;
  /** Where the pieces begin in the partition; only at 0 a header is expected. */
  readonly offset?: number;
  /** Where the partition ends at least; when nothing comes up to there, that is corrupt too. */
  readonly end?: number | undefined;
}

/**
 * Reads a partition in memory bounded by one record and one piece. Every byte is accounted for: it belongs to the header,
 * to a record, to an unknown record or to a corrupt range. No record is given that does not have its checksum.
 * @throws FIRN_REPOSITORY_NEWER, and what `pieces` throws.
 */
export async function* decodePartition(
  pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
  { blob, offset = 0, end = 0 }: DecodeOptions,
): AsyncGenerator<PartitionEvent> {
  const window = new Window(pieces, offset);
  let bad: { offset: number; reason: CorruptReason } | undefined;
  function* endOfBad(endOffset = window.offset): Generator<PartitionEvent> {
    if (bad !== undefined) yield { kind: 'corrupt', range: { ...bad, bytes: endOffset - bad.offset } };
    bad = undefined;
  }
  try {
    if (offset === 0) {
      await window.fill(HEADER_BYTES_MAX);
      const parsed = parseHeader(window.held, blob);
      if (parsed !== undefined) {
        window.drop(parsed.bytes);
        yield { kind: 'header', header: parsed.header };
      } else if (window.held.length > 0) {
        bad = { offset: 0, reason: 'header' };
      }
    }
    for (;;) {
      await window.fill(RECORD_HEAD_BYTES);
      if (window.held.length === 0) break;
      let found = inspect(window.held);
      while (found.kind === 'more' && !window.ended) {
        await window.fill(found.bytes);
        found = inspect(window.held);
      }
      if (found.kind === 'record') {
        yield* endOfBad();
        const { bytes, type, id, payload } = found;
        yield eventOf(window.offset, bytes, type, id, payload);
        window.drop(bytes);
        continue;
      }
      bad ??= { offset: window.offset, reason: found.kind === 'more' ? 'torn' : found.reason };
      const next = window.held.indexOf(marker, 1);
      // The last bytes may be the beginning of a marker.
      const keep = window.ended ? 0 : marker.length - 1;
      window.drop(next > 0 ? next : Math.max(1, window.held.length - keep));
    }
    if (window.offset < end) bad ??= { offset: window.offset, reason: 'cut' };
    yield* endOfBad(Math.max(window.offset, end));
  } finally {
    await window.close();
  }
}

function eventOf(offset: number, bytes: number, type: number, id: string, payload: Buffer): PartitionEvent {
  const kind = recordKinds.get(type);
  if (kind === undefined) return { kind: 'unknown', unknown: { offset, bytes, type } };
  const record = parsePayload(kind, payload);
  if (record === undefined) return { kind: 'corrupt', range: { offset, bytes, reason: 'payload' } };
  return record.kind === 'upload' || record.kind === 'removal'
    ? { kind: 'record', id, record }
    : { kind: 'control', record };
}
