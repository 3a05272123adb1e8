/** Reading JSON that lies in blobs: versioned, never trusted. */
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
