/**
 * The bytes of a journal partition: a header, then records, one after another. Pure: no storage.
 *
 *     header:  offset  bytes  field (little-endian)
 *                   0      4  magic «FJRN»
 *                   4      2  format version, 1
 *                   6      2  bytes of the header, the checksum included (of any version)
 *                   8      8  time of creation, milliseconds since 1970-01-01T00:00:00Z
 *                  16      8  partition number
 *                  24      n  source (ASCII)
 *              24 + n      4  CRC-32 of all before
 *
 *     record:       0      4  marker FF 46 52 FE
 *                   4      4  bytes of the payload, 65,536 at most
 *                   8      1  type: 1 upload, 2 removal
 *                   9     16  id
 *                  25      n  payload, JSON in UTF-8
 *              25 + n      4  CRC-32 of the bytes from 4 to 25 + n
 *
 *     upload   {"path":…,"etag":…,"bytes":…}     id: the first 16 bytes of SHA-256(path, 0, etag)
 *     removal  {"path":…,"nonce":…}              id: the first 16 bytes of SHA-256(path, 0, nonce)
 *
 * The same event, delivered again, has the same id. FF and FE never occur in UTF-8, so no payload contains the marker and
 * a reader that lost its way finds the next record.
 *
 * CRC-32 (that of zlib) guards against damage, not against intent: whoever may write to the state container is trusted to
 * announce uploads. What a record announces is read and hashed before it is archived.
 */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { FirnError } from '../errors.ts';
import type { JournalRecord } from './record.ts';

const PARTITION_VERSION = 1;
const HEADER_FIXED_BYTES = 24;
const HEADER_BYTES_MAX = 1024;
const CRC_BYTES = 4;
const RECORD_HEAD_BYTES = 25;
const ID_BYTES = 16;
export const PAYLOAD_BYTES_MAX = 64 * 1024;
export const RECORD_BYTES_MAX = RECORD_HEAD_BYTES + PAYLOAD_BYTES_MAX + CRC_BYTES;
const magic = Buffer.from('FJRN', 'latin1');
const marker = Buffer.from([0xff, 0x46, 0x52, 0xfe]);
const TYPE_UPLOAD = 1;
const TYPE_REMOVAL = 2;

export interface PartitionHeader {
  readonly source: string;
  readonly partition: number;
  readonly created: Date;
}

export function headerBytes(source: string): number {
  return HEADER_FIXED_BYTES + Buffer.byteLength(source) + CRC_BYTES;
}

export function encodeHeader({ source, partition, created }: PartitionHeader): Buffer {
  const bytes = Buffer.alloc(headerBytes(source));
  magic.copy(bytes, 0);
  bytes.writeUInt16LE(PARTITION_VERSION, 4);
  bytes.writeUInt16LE(bytes.length, 6);
  bytes.writeBigUInt64LE(BigInt(created.getTime()), 8);
  bytes.writeBigUInt64LE(BigInt(partition), 16);
  bytes.write(source, HEADER_FIXED_BYTES);
  const crcAt = bytes.length - CRC_BYTES;
  bytes.writeUInt32LE(crc32(bytes.subarray(0, crcAt)), crcAt);
  return bytes;
}

/** 32 hex digits, the same for the same event. */
export function recordId(record: JournalRecord): string {
  const version = record.kind === 'upload' ? record.etag : record.nonce;
  return createHash('sha256').update(`${record.path}\0${version}`).digest().toString('hex', 0, ID_BYTES);
}

function payloadOf(record: JournalRecord): string {
  return record.kind === 'upload'
    ? JSON.stringify({ path: record.path, etag: record.etag, bytes: record.bytes })
    : JSON.stringify({ path: record.path, nonce: record.nonce });
}

/** The most that a character takes in JSON. */
const ESCAPED_BYTES_MAX = 6;
const PAYLOAD_FIXED_BYTES_MAX = 64;

/** @throws FIRN_PATH_UNUSABLE when the record is larger than a record may be. */
export function checkRecord(record: JournalRecord): void {
  const chars = record.path.length + (record.kind === 'upload' ? record.etag : record.nonce).length;
  if (chars * ESCAPED_BYTES_MAX + PAYLOAD_FIXED_BYTES_MAX <= PAYLOAD_BYTES_MAX) return;
  if (Buffer.byteLength(payloadOf(record)) > PAYLOAD_BYTES_MAX) {
    throw new FirnError('FIRN_PATH_UNUSABLE', { path: record.path, problem: 'it is too long for the journal' });
  }
}

/** @throws FIRN_PATH_UNUSABLE when the record is larger than a record may be. */
export function encodeRecord(record: JournalRecord): Buffer {
  checkRecord(record);
  const payload = Buffer.from(payloadOf(record));
  const bytes = Buffer.alloc(RECORD_HEAD_BYTES + payload.length + CRC_BYTES);
  marker.copy(bytes, 0);
  bytes.writeUInt32LE(payload.length, 4);
  bytes.writeUInt8(record.kind === 'upload' ? TYPE_UPLOAD : TYPE_REMOVAL, 8);
  bytes.write(recordId(record), 9, ID_BYTES, 'hex');
  payload.copy(bytes, RECORD_HEAD_BYTES);
  const crcAt = RECORD_HEAD_BYTES + payload.length;
  bytes.writeUInt32LE(crc32(bytes.subarray(4, crcAt)), crcAt);
  return bytes;
}

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
  /** The checksum holds, but the payload is not what its type says. */
  | 'payload';

/** Bytes that could not be understood, up to the next whole record. */
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
    id: held.toString('hex', 9, 9 + ID_BYTES),
    payload: held.subarray(RECORD_HEAD_BYTES, crcAt),
  };
}

function parsePayload(type: number, payload: Buffer): JournalRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(payload.toString('utf8'));
  } catch {
    // The caller reports the range as corrupt.
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { path, etag, bytes, nonce } = value as Readonly<Record<string, unknown>>;
  if (typeof path !== 'string') return undefined;
  if (type === TYPE_REMOVAL) return typeof nonce === 'string' ? { kind: 'removal', path, nonce } : undefined;
  const sized = typeof bytes === 'number' && Number.isSafeInteger(bytes) && bytes >= 0;
  return typeof etag === 'string' && sized ? { kind: 'upload', path, etag, bytes } : undefined;
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
  const header = {
    created: new Date(Number(held.readBigUInt64LE(8))),
    partition: Number(held.readBigUInt64LE(16)),
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
}

/**
 * Reads a partition in memory bounded by one record and one piece. Every byte is accounted for: it belongs to the header,
 * to a record, to an unknown record or to a corrupt range. No record is given that does not have its checksum.
 * @throws FIRN_REPOSITORY_NEWER, and what `pieces` throws.
 */
export async function* decodePartition(
  pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
  { blob, offset = 0 }: DecodeOptions,
): AsyncGenerator<PartitionEvent> {
  const window = new Window(pieces, offset);
  let bad: { offset: number; reason: CorruptReason } | undefined;
  function* endOfBad(): Generator<PartitionEvent> {
    if (bad !== undefined) yield { kind: 'corrupt', range: { ...bad, bytes: window.offset - bad.offset } };
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
    yield* endOfBad();
  } finally {
    await window.close();
  }
}

function eventOf(offset: number, bytes: number, type: number, id: string, payload: Buffer): PartitionEvent {
  if (type !== TYPE_UPLOAD && type !== TYPE_REMOVAL) return { kind: 'unknown', unknown: { offset, bytes, type } };
  const record = parsePayload(type, payload);
  if (record === undefined) return { kind: 'corrupt', range: { offset, bytes, reason: 'payload' } };
  return { kind: 'record', id, record };
}
