/**
 * The filters of sealed partitions on storage: `journal/<source>/<partition>.filter`, written once when the partition is
 * sealed and deleted with it. A filter saves reading and nothing rests on it: without one, anything may be contained.
 */
import { type BlobStore, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import { type BloomFilter, buildFilter, parseFilter } from './bloom-filter.ts';
import { journalPrefix, partitionOfBlob } from './manifest.ts';

const SUFFIX = '.filter';

export function filterBlobName(source: string, blob: string): string {
  return `${journalPrefix(source)}${blob}${SUFFIX}`;
}

/** The partition whose filter has this name (without the folder); undefined for any other name. */
export function partitionOfFilter(name: string): string | undefined {
  const blob = name.endsWith(SUFFIX) ? name.slice(0, -SUFFIX.length) : '';
  return partitionOfBlob(blob) === undefined ? undefined : blob;
}

/** @returns the bytes of the filter. One that is there already is of the same ids: it stays. */
export async function writeFilter(
  state: BlobStore,
  source: string,
  blob: string,
  ids: ReadonlySet<string>,
  options?: CallOptions,
): Promise<number> {
  const bytes = buildFilter(ids);
  try {
    await state.create(filterBlobName(source, blob), bytes, options);
  } catch (error) {
    if (!isBlobFailure(error, 'exists')) throw error;
  }
  return bytes.length;
}

/** Undefined when it is missing or cannot be understood. */
export async function readFilter(
  state: BlobStore,
  source: string,
  blob: string,
  options?: CallOptions,
): Promise<BloomFilter | undefined> {
  try {
    return parseFilter((await state.read(filterBlobName(source, blob), options)).body);
  } catch (error) {
    if (isBlobFailure(error, 'missing')) return undefined;
    throw error;
  }
}
