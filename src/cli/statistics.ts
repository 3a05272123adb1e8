/**
 * The figures of a repository, from one pass over the chunk index, the chunk blobs and what waits. Memory holds the
 * names of the tar chunks and of what waiting receipts point at; everything else streams.
 */
import { batchesWithoutReceipt, failedBatches } from '../archive/batches.ts';
import { findReceipt, listReceipts, readLocations } from '../archive/receipt.ts';
import { CHUNKS_PREFIX, parseChunkBlob, THIN_PREFIX, tarHashOfThinBlob } from '../chunks/chunk-blobs.ts';
import { type FirnError, isFirnError } from '../errors.ts';
import type { ChunkIndex } from '../index/chunk-index.ts';
import { journalSources } from '../journal/journal.ts';
import type { Repository } from '../repository.ts';
import type { Hash } from '../sealing/keys.ts';
import type { BlobItem, CallOptions } from '../storage/blob-store.ts';

interface BlobCount {
  blobs: number;
  storedBytes: number;
}

interface ChunkBlobCount extends BlobCount {
  /** Before compression: of the chunk, or of the tar stream. Thin chunks have none of their own. */
  rawBytes: number;
}

export interface Statistics {
  readonly snapshots: number;
  readonly sources: readonly string[];
  /** Chunk blobs by type; `blobs`, `storedBytes` and `rawBytes` are the sums. `thin` counts both forms. */
  readonly chunks: ChunkBlobCount & {
    readonly large: ChunkBlobCount;
    readonly tar: ChunkBlobCount;
    readonly thin: ChunkBlobCount;
  };
  readonly index: { readonly entries: number; readonly shards: number; readonly storedBytes: number };
  /** Large and tar chunks that neither the index nor a waiting receipt points at. */
  readonly unreferenced: BlobCount;
  readonly waiting: {
    readonly receipts: number;
    /** Sealed, not archived yet. */
    readonly batches: number;
    /** Sources with uploads in no sealed batch yet. */
    readonly openSources: number;
    readonly failedBatches: number;
  };
}

export interface StatisticsOptions extends CallOptions {
  readonly onWarning: (error: FirnError) => void;
  readonly onProgress?: (blobs: number) => void;
}

/** Large chunks are looked up in groups: neighbours in the listing share a shard. */
const LOOKUP_CHUNKS = 1_000;

export async function collectStatistics(repository: Repository, options: StatisticsOptions): Promise<Statistics> {
  const { signal } = options;
  // What is pending is read before the index, so that a publish in between moves chunks from the one to the other and
  // never past both.
  const pending = await pendingBlobs(repository, options);
  const index = repository.createIndex();
  const tars = await tarsInIndex(index, { signal });
  const chunks = await countChunkBlobs(repository, index, new Set([...pending.blobs, ...tars]), options);
  const { snapshots, sources } = await countSnapshots(repository, options);
  let failed = 0;
  for await (const _ of failedBatches(repository, { signal })) failed += 1;
  return {
    snapshots,
    sources,
    ...chunks,
    index: await index.statistics({ signal }),
    waiting: { receipts: pending.receipts, ...(await countWaiting(repository, options)), failedBatches: failed },
  };
}

async function countSnapshots(
  repository: Repository,
  { signal, onWarning }: StatisticsOptions,
): Promise<{ snapshots: number; sources: string[] }> {
  const sources = new Set<string>();
  const names = await repository.snapshots.names({ signal });
  const onDamaged = ({ error }: { error: FirnError }) => onWarning(error);
  for await (const { source } of repository.snapshots.list({ signal, onDamaged })) sources.add(source);
  return { snapshots: names.length, sources: [...sources].sort() };
}

async function countWaiting(
  repository: Repository,
  { signal }: StatisticsOptions,
): Promise<{ batches: number; openSources: number }> {
  let batches = 0;
  let openSources = 0;
  for await (const source of journalSources(repository.state.store, { signal })) {
    batches += (await batchesWithoutReceipt(repository, source, { signal })).length;
    if (await repository.journalOf(source).hasOpenRecords({ signal })) openSources += 1;
  }
  return { batches, openSources };
}

async function pendingBlobs(
  { state }: Repository,
  { signal, onWarning }: StatisticsOptions,
): Promise<{ receipts: number; blobs: Set<Hash> }> {
  const blobs = new Set<Hash>();
  let receipts = 0;
  for await (const { source, batch } of listReceipts(state.store, undefined, { signal })) {
    receipts += 1;
    try {
      const receipt = await findReceipt(state, source, batch, { signal });
      const table = receipt && (await readLocations(state, receipt, { signal }));
      for (const { blob } of table?.locations() ?? []) blobs.add(blob);
    } catch (error) {
      if (!isFirnError(error, 'FIRN_RECEIPT_DAMAGED')) throw error;
      onWarning(error);
    }
  }
  return { receipts, blobs };
}

async function tarsInIndex(index: ChunkIndex, options: CallOptions): Promise<Set<Hash>> {
  const tars = new Set<Hash>();
  for await (const { kind, blob } of index.locations(options)) if (kind === 'tar') tars.add(blob);
  return tars;
}

async function countChunkBlobs(
  repository: Repository,
  index: ChunkIndex,
  referenced: ReadonlySet<Hash>,
  { signal, onProgress }: StatisticsOptions,
): Promise<Pick<Statistics, 'chunks' | 'unreferenced'>> {
  const none = (): ChunkBlobCount => ({ blobs: 0, storedBytes: 0, rawBytes: 0 });
  const counts = { large: none(), tar: none(), thin: none() };
  const unreferenced: BlobCount = { blobs: 0, storedBytes: 0 };
  let total = 0;
  const add = (to: BlobCount, { bytes }: { readonly bytes: number }): void => {
    to.blobs += 1;
    to.storedBytes += bytes;
    total += 1;
    onProgress?.(total);
  };
  let unchecked: { readonly hash: Hash; readonly bytes: number }[] = [];
  const checkLarge = async (): Promise<void> => {
    const found = await index.lookup(
      unchecked.map(({ hash }) => hash),
      { signal },
    );
    for (const large of unchecked) {
      if (found.get(large.hash)?.location.blob !== large.hash) {
        unreferenced.blobs += 1;
        unreferenced.storedBytes += large.bytes;
      }
    }
    unchecked = [];
  };
  const { store } = repository.data;
  for await (const item of store.list({ prefix: CHUNKS_PREFIX, signal })) {
    const parsed = parseChunkBlob(item);
    if (parsed.is === 'large') {
      const { hash, rawBytes } = parsed.location;
      add(counts.large, item);
      counts.large.rawBytes += rawBytes;
      if (!referenced.has(hash)) unchecked.push({ hash, bytes: item.bytes });
      if (unchecked.length === LOOKUP_CHUNKS) await checkLarge();
    } else if (parsed.is === 'tar') {
      const { hash, rawBytes } = parsed.tar;
      add(counts.tar, item);
      counts.tar.rawBytes += rawBytes;
      if (!referenced.has(hash)) {
        unreferenced.blobs += 1;
        unreferenced.storedBytes += item.bytes;
      }
    } else if (parsed.is === 'thin' || parsed.is === 'legacy-thin') add(counts.thin, item);
  }
  await checkLarge();
  for await (const item of store.list({ prefix: THIN_PREFIX, signal })) {
    if (isPackedThin(item)) add(counts.thin, item);
  }
  const { large, tar, thin } = counts;
  const sum = (of: (count: ChunkBlobCount) => number) => of(large) + of(tar) + of(thin);
  return {
    chunks: {
      blobs: sum(({ blobs }) => blobs),
      storedBytes: sum(({ storedBytes }) => storedBytes),
      rawBytes: sum(({ rawBytes }) => rawBytes),
      ...counts,
    },
    unreferenced,
  };
}

function isPackedThin({ name, metadata }: BlobItem): boolean {
  return tarHashOfThinBlob(name) !== undefined && metadata.firn_type === 'thin';
}
