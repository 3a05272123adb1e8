/** JSON that lies in blobs: versioned, never trusted, and with a checksum where nothing seals it. */
import { crc32 } from 'node:zlib';
import { FirnError } from '../errors.ts';

/** Parses the JSON object of a versioned blob. @throws FIRN_BLOB_DAMAGED, FIRN_REPOSITORY_NEWER. */
export function parseJsonBlob(name: string, body: Buffer, formatMax: number): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(body.toString());
  } catch (cause) {
    throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem: 'it is not JSON' }, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem: 'it is not a JSON object' });
  }
  const { format } = value as { format?: unknown };
  if (typeof format !== 'number' || !Number.isSafeInteger(format) || format < 1) {
    throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem: 'it names no format version' });
  }
  if (format > formatMax) {
    throw new FirnError('FIRN_REPOSITORY_NEWER', { what: `blob ${name}`, version: format, supported: formatMax });
  }
  return value as Record<string, unknown>;
}

/** The last field, over all bytes before it. */
const checksumPattern = /^,"crc32":"([0-9a-f]{8})"\}$/;
const CHECKSUM_BYTES = ',"crc32":"00000000"}'.length;

/** A JSON object with the checksum of its bytes as its last field. */
export function encodeCheckedJson(value: object): Buffer {
  const text = JSON.stringify(value).slice(0, -1);
  return Buffer.from(`${text},"crc32":"${checksumOf(Buffer.from(text))}"}`);
}

function checksumOf(bytes: Uint8Array): string {
  return crc32(bytes).toString(16).padStart(8, '0');
}

/**
 * The same for an object with a checksum. One without is of format 1, as it was written before there was a checksum, or it
 * is damaged: whatever is newer has one. So no flipped bit makes a blob of a newer Firn of it.
 * @throws FIRN_BLOB_DAMAGED, FIRN_REPOSITORY_NEWER.
 */
export function parseCheckedJson(name: string, body: Buffer, formatMax: number): Record<string, unknown> {
  const end = Math.max(0, body.length - CHECKSUM_BYTES);
  const checksum = checksumPattern.exec(body.toString('latin1', end))?.[1];
  if (checksum !== undefined && checksum === checksumOf(body.subarray(0, end))) {
    return parseJsonBlob(name, body, formatMax);
  }
  const value = parseJsonBlob(name, body, Number.MAX_SAFE_INTEGER);
  if (checksum === undefined && value.format === 1 && value.crc32 === undefined) return value;
  throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem: 'its checksum is wrong' });
}

/** True for an object whose fields of these names are safe integers. */
export function hasNumbers<K extends string>(value: unknown, ...keys: K[]): value is Record<K, number> {
  if (typeof value !== 'object' || value === null) return false;
  return keys.every((key) => Number.isSafeInteger((value as Record<string, unknown>)[key]));
}

/** The same for fields that are texts. */
export function hasTexts<K extends string>(value: unknown, ...keys: K[]): value is Record<K, string> {
  if (typeof value !== 'object' || value === null) return false;
  return keys.every((key) => typeof (value as Record<string, unknown>)[key] === 'string');
}

/** The same for numbers that are not negative. */
export function hasCounts<K extends string>(value: unknown, ...keys: K[]): value is Record<K, number> {
  return hasNumbers(value, ...keys) && keys.every((key) => value[key] >= 0);
}
