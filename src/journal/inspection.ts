/**
 * What there is in a journal, for a person: partitions, live uploads, damage. It reads every partition to its end, one at a
 * time; memory is bounded by the ids and paths of one partition. It changes nothing, except that a manifest which is missing
 * or damaged is made anew, as by any call.
 */
import { type BlobProperties, type CallOptions, isBlobFailure, propertiesIfThere } from '../storage/blob-store.ts';
import type { JournalParts } from './journal-parts.ts';
import {
  batchName,
  leavePartition,
  type Manifest,
  type PartitionEntry,
  type PartitionMark,
  type PartitionState,
  partitionBlobName,
} from './manifest.ts';
import type { CorruptRange, UnknownRecord } from './partition-decoding.ts';
import { readPartition } from './partition-reading.ts';
import { removedAt } from './removals.ts';
import { countSetAside } from './set-aside.ts';

export interface PartitionInspection {
  readonly partition: number;
  /** Name of its blob under `journal/<source>/`. */
  readonly blob: string;
  /** Undefined for one that is no batch and will be none: a mark, or retired. */
  readonly batch: string | undefined;
  /** `left`: it would be a batch, had its source not been left. */
  readonly state: PartitionState | 'left';
  readonly mark: PartitionMark | undefined;
  readonly compacted: boolean;
  /** It is about to be published. */
  readonly held: boolean;
  readonly created: Date;
  readonly sealedAt: Date | undefined;
  /** When the last record was appended; of an active partition, as far as the service tells. */
  readonly lastAt: Date | undefined;
  /** Whole records, repeated ones included, by reading where it is not sealed. */
  readonly records: number;
  /** Bytes of the uploads in those. */
  readonly uploadBytes: number;
  /** What its blob takes; 0 where that is missing. */
  readonly blobBytes: number;
  /** Blocks in its blob: how often something was written to it. Undefined where that is missing. */
  readonly blocks: number | undefined;
  /** Undefined where it has no filter. */
  readonly filterBytes: number | undefined;
  /** The manifest names it, and its blob is gone. */
  readonly missing: boolean;
}

export interface JournalInspection {
  readonly source: string;
  /** In the order of their numbers; retired ones whose deletion is not finished are among them. */
  readonly partitions: readonly PartitionInspection[];
  /** Uploads to be archived: in batches and the active partition, each event once in its partition, without those removed later in it. */
  readonly uploads: { readonly count: number; readonly bytes: number };
  /** Removals to be applied. */
  readonly removals: number;
  /** Records that a reader passes over, because one of the same id stands before them in their partition. */
  readonly duplicates: number;
  readonly corrupt: readonly (CorruptRange & { readonly blob: string })[];
  readonly unknown: readonly (UnknownRecord & { readonly blob: string })[];
  /** How many there are; at most `NAMED_MAX` of each are named. */
  readonly corruptCount: number;
  readonly unknownCount: number;
  /** Blobs of damaged bytes that were kept, under `journal-set-aside/<source>/`. */
  readonly setAside: number;
}

export const NAMED_MAX = 1_000;

interface Found {
  records: number;
  uploadBytes: number;
  uploads: { count: number; bytes: number };
  removals: number;
  duplicates: number;
  corrupt: CorruptRange[];
  unknown: UnknownRecord[];
  corruptCount: number;
  unknownCount: number;
}

export async function inspectJournal(parts: JournalParts, options?: CallOptions): Promise<JournalInspection> {
  const { state, source, manifests } = parts;
  const { manifest } = await manifests.load(options);
  const partitions: PartitionInspection[] = [];
  const uploads = { count: 0, bytes: 0 };
  const sums = { removals: 0, duplicates: 0, corruptCount: 0, unknownCount: 0 };
  const corrupt: JournalInspection['corrupt'][number][] = [];
  const unknown: JournalInspection['unknown'][number][] = [];
  for (const entry of manifest.partitions.toSorted((a, b) => a.partition - b.partition)) {
    const stateNow = stateOf(manifest, entry);
    const name = partitionBlobName(source, entry.blob);
    const found = nothingFound();
    const properties = await propertiesIfThere(parts.state, name, options);
    const isLive = entry.mark === undefined && (stateNow === 'active' || stateNow === 'sealed');
    if (properties !== undefined && isLive) await readInto(parts, entry, found, options);
    uploads.count += found.uploads.count;
    uploads.bytes += found.uploads.bytes;
    sums.removals += found.removals;
    sums.duplicates += found.duplicates;
    sums.corruptCount += found.corruptCount;
    sums.unknownCount += found.unknownCount;
    for (const range of found.corrupt) if (corrupt.length < NAMED_MAX) corrupt.push({ ...range, blob: entry.blob });
    for (const each of found.unknown) if (unknown.length < NAMED_MAX) unknown.push({ ...each, blob: entry.blob });
    partitions.push(told(entry, stateNow, found, properties));
  }
  return {
    source,
    partitions,
    uploads,
    ...sums,
    corrupt,
    unknown,
    setAside: await countSetAside(state, source, options),
  };
}

function nothingFound(): Found {
  const uploads = { count: 0, bytes: 0 };
  const counts = { records: 0, uploadBytes: 0, removals: 0, duplicates: 0, corruptCount: 0, unknownCount: 0 };
  return { ...counts, uploads, corrupt: [], unknown: [] };
}

function stateOf(manifest: Manifest, entry: PartitionEntry): PartitionInspection['state'] {
  const left = leavePartition(manifest)?.partition ?? 0;
  return entry.state === 'sealed' && entry.mark === undefined && entry.partition < left ? 'left' : entry.state;
}

function told(
  entry: PartitionEntry,
  state: PartitionInspection['state'],
  found: Found,
  properties: BlobProperties | undefined,
): PartitionInspection {
  const { partition, blob, mark, compacted = false, held = false, sealedAt, lastAt } = entry;
  const isActive = state === 'active';
  const lastModified = isActive ? properties?.lastModified : undefined;
  return {
    partition,
    blob,
    batch: mark === undefined && state !== 'retired' ? batchName(entry) : undefined,
    state,
    mark,
    compacted,
    held,
    created: new Date(entry.created),
    sealedAt: sealedAt === undefined ? undefined : new Date(sealedAt),
    lastAt: lastAt === undefined ? lastModified : new Date(lastAt),
    records: isActive ? found.records : (entry.records ?? 0),
    uploadBytes: isActive ? found.uploadBytes : (entry.uploadBytes ?? 0),
    blobBytes: properties?.bytes ?? 0,
    blocks: properties?.blocks,
    filterBytes: entry.filterBytes,
    // A retired one is on its way out.
    missing: properties === undefined && state !== 'retired',
  };
}

async function readInto(
  { state, source }: JournalParts,
  { blob, blobBytes }: PartitionEntry,
  found: Found,
  options?: CallOptions,
): Promise<void> {
  const uploads = new Map<string, { path: string; bytes: number; at: number }>();
  const removals = new Map<string, number>();
  const seen = new Set<string>();
  try {
    let at = 0;
    for await (const event of readPartition(state, partitionBlobName(source, blob), { ...options, blobBytes })) {
      at += 1;
      if (event.kind === 'corrupt') {
        found.corruptCount += 1;
        if (found.corrupt.length < NAMED_MAX) found.corrupt.push(event.range);
      } else if (event.kind === 'unknown') {
        found.unknownCount += 1;
        if (found.unknown.length < NAMED_MAX) found.unknown.push(event.unknown);
      } else if (event.kind === 'record') {
        const { id, record } = event;
        found.records += 1;
        if (record.kind === 'upload') found.uploadBytes += record.bytes;
        if (seen.has(id)) found.duplicates += 1;
        else if (record.kind === 'upload') uploads.set(id, { path: record.path, bytes: record.bytes, at });
        else removals.set(record.path, at);
        seen.add(id);
      }
    }
  } catch (error) {
    // Retired while it was looked at.
    if (!isBlobFailure(error, 'missing')) throw error;
  }
  found.removals = removals.size;
  for (const { path, bytes, at } of uploads.values()) {
    if (at < removedAt(removals, path)) continue;
    found.uploads.count += 1;
    found.uploads.bytes += bytes;
  }
}
