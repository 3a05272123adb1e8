/**
 * The bytes of a journal partition: a header, then records, one after another. Pure: no storage. This module writes them,
 * `partition-decoding.ts` reads them.
 *
 *     header:  offset  bytes  field (little-endian)
 *                   0      4  magic «FJRN»
 *                   4      2  format version, 1
 *                   6      2  bytes of the header, the checksum included (of any version)
 *                   8      8  time of creation, milliseconds since 1970-01-01T00:00:00Z
 *                  16      8  partition number
 *                  24      1  kind: 0 log, 1 compacted
 *                  25      n  source (ASCII)
 *              25 + n      4  CRC-32 of all before
 *
 *     record:       0      4  marker FF 46 52 FE
 *                   4      4  bytes of the payload, 65,536 at most
 *                   8      1  type: 1 upload, 2 removal, 3 leave, 4 rejoin, 5 end of a compaction
 *                   9     16  id
 *                  25      n  payload, JSON in UTF-8
 *              25 + n      4  CRC-32 of the bytes from 4 to 25 + n
 *
 *     upload   {"path":…,"etag":…,"bytes":…}              id: the first 16 bytes of SHA-256(path, 0, etag)
 *     removal  {"path":…,"nonce":…}                       id: the first 16 bytes of SHA-256(path, 0, nonce)
 *     leave    {"nonce":…}                                id: the first 16 bytes of SHA-256(0, nonce)
 *     rejoin   {"nonce":…}                                the same
 *     end      {"replaces":[<blob>,…],"records":…,"nonce":…}   the same
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
import type { PartitionRecord } from './record.ts';

export const PARTITION_VERSION = 1;
export const HEADER_FIXED_BYTES = 25;
export const HEADER_BYTES_MAX = 1024;
export const CRC_BYTES = 4;
export const RECORD_HEAD_BYTES = 25;
export const ID_OFFSET = 9;
export const ID_BYTES = 16;
export const PAYLOAD_BYTES_MAX = 64 * 1024;
export const magic = Buffer.from('FJRN', 'latin1');
export const marker = Buffer.from([0xff, 0x46, 0x52, 0xfe]);

/** Log: records as they were appended. Compacted: what is left of several partitions, ended by an end record. */
export type PartitionKind = 'log' | 'compacted';
export const partitionKinds: readonly PartitionKind[] = ['log', 'compacted'];

const typesOfRecords = { upload: 1, removal: 2, leave: 3, rejoin: 4, end: 5 } as const satisfies Record<
  PartitionRecord['kind'],
  number
>;
export const recordKinds = new Map<number, PartitionRecord['kind']>(
  Object.entries(typesOfRecords).map(([kind, type]) => [type, kind as PartitionRecord['kind']]),
);

/** Types beyond are of a newer Firn. */
export const RECORD_TYPE_MAX = Math.max(...recordKinds.keys());

export interface PartitionHeader {
  readonly source: string;
  readonly partition: number;
  readonly created: Date;
  readonly kind: PartitionKind;
}

export function headerBytes(source: string): number {
  return HEADER_FIXED_BYTES + Buffer.byteLength(source) + CRC_BYTES;
}

export function encodeHeader({ source, partition, created, kind }: PartitionHeader): Buffer {
  const bytes = Buffer.alloc(headerBytes(source));
  magic.copy(bytes, 0);
  bytes.writeUInt16LE(PARTITION_VERSION, 4);
  bytes.writeUInt16LE(bytes.length, 6);
  bytes.writeBigUInt64LE(BigInt(created.getTime()), 8);
  bytes.writeBigUInt64LE(BigInt(partition), 16);
  bytes.writeUInt8(partitionKinds.indexOf(kind), 24);
  bytes.write(source, HEADER_FIXED_BYTES);
  const crcAt = bytes.length - CRC_BYTES;
  bytes.writeUInt32LE(crc32(bytes.subarray(0, crcAt)), crcAt);
  return bytes;
}

/** 16 bytes, each a character: the same for the same event. */
export function recordId(record: PartitionRecord): string {
  const path = 'path' in record ? record.path : '';
  const version = record.kind === 'upload' ? record.etag : record.nonce;
  return createHash('sha256').update(`${path}\0${version}`).digest().toString('latin1', 0, ID_BYTES);
}

/** The id of an encoded record. */
export function idOfEncoded(record: Buffer): string {
  return record.toString('latin1', ID_OFFSET, ID_OFFSET + ID_BYTES);
}

function payloadOf(record: PartitionRecord): string {
  switch (record.kind) {
    case 'upload':
      return JSON.stringify({ path: record.path, etag: record.etag, bytes: record.bytes });
    case 'removal':
      return JSON.stringify({ path: record.path, nonce: record.nonce });
    case 'end':
      return JSON.stringify({ replaces: record.replaces, records: record.records, nonce: record.nonce });
    default:
      return JSON.stringify({ nonce: record.nonce });
  }
}

/** The most that a character takes in JSON. */
const ESCAPED_BYTES_MAX = 6;
const PAYLOAD_FIXED_BYTES_MAX = 64;

/** @throws FIRN_PATH_UNUSABLE when the record is larger than a record may be. */
export function checkRecord(record: PartitionRecord): void {
  if (record.kind === 'upload') {
    const chars = record.path.length + record.etag.length;
    if (chars * ESCAPED_BYTES_MAX + PAYLOAD_FIXED_BYTES_MAX <= PAYLOAD_BYTES_MAX) return;
  }
  if (Buffer.byteLength(payloadOf(record)) > PAYLOAD_BYTES_MAX) {
    const path = 'path' in record ? record.path : record.kind;
    throw new FirnError('FIRN_PATH_UNUSABLE', { path, problem: 'it is too long for the journal' });
  }
}

/** @throws FIRN_PATH_UNUSABLE when the record is larger than a record may be. */
export function encodeRecord(record: PartitionRecord): Buffer {
  checkRecord(record);
  const payload = Buffer.from(payloadOf(record));
  const bytes = Buffer.alloc(RECORD_HEAD_BYTES + payload.length + CRC_BYTES);
  marker.copy(bytes, 0);
  bytes.writeUInt32LE(payload.length, 4);
  bytes.writeUInt8(typesOfRecords[record.kind], 8);
  bytes.write(recordId(record), ID_OFFSET, ID_BYTES, 'latin1');
  payload.copy(bytes, RECORD_HEAD_BYTES);
  const crcAt = RECORD_HEAD_BYTES + payload.length;
  bytes.writeUInt32LE(crc32(bytes.subarray(4, crcAt)), crcAt);
  return bytes;
}
