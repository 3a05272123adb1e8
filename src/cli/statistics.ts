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
import { countSetAside } from '../journal/set-aside.ts';
import type { Repository } from '../repository.ts';
import type { Hash } from '../sealing/keys.ts';
import type { CallOptions } from '../storage/blob-store.ts';

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
  /** Pieces of journals that could not be understood, kept for a person. */
  readonly setAside: number;
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
    setAside: await countSetAside(repository.state.store, undefined, { signal }),
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

/** The chunk blobs under `chunks/` and `thin/`, as the listing tells of them. */
async function* listChunkBlobs(
  { data }: Repository,
  { signal }: CallOptions,
): AsyncGenerator<{ is: 'large' | 'tar' | 'thin'; hash: Hash; rawBytes: number; storedBytes: number }> {
  for await (const item of data.store.list({ prefix: CHUNKS_PREFIX, signal })) {
    const parsed = parseChunkBlob(item);
    const storedBytes = item.bytes;
    if (parsed.is === 'large') yield { ...parsed.location, is: 'large', storedBytes };
    else if (parsed.is === 'tar') yield { ...parsed.tar, is: 'tar', storedBytes };
    else if (parsed.is === 'thin') yield { is: 'thin', hash: parsed.location.hash, rawBytes: 0, storedBytes };
    else if (parsed.is === 'legacy-thin') yield { is: 'thin', hash: parsed.hash, rawBytes: 0, storedBytes };
  }
  for await (const { name, bytes: storedBytes, metadata } of data.store.list({ prefix: THIN_PREFIX, signal })) {
    const hash = tarHashOfThinBlob(name);
    if (hash !== undefined && metadata.firn_type === 'thin') yield { is: 'thin', hash, rawBytes: 0, storedBytes };
  }
}

/** @param referenced what is known to be pointed at: all tar chunks of the index, and what is pending. */
async function countChunkBlobs(
  repository: Repository,
  index: ChunkIndex,
  referenced: ReadonlySet<Hash>,
  { signal, onProgress }: StatisticsOptions,
): Promise<Pick<Statistics, 'chunks' | 'unreferenced'>> {
  const none = (): ChunkBlobCount => ({ blobs: 0, storedBytes: 0, rawBytes: 0 });
  const all = none();
  const counts = { large: none(), tar: none(), thin: none() };
  const unreferenced: BlobCount = { blobs: 0, storedBytes: 0 };
  const addUnreferenced = ({ storedBytes }: { readonly storedBytes: number }): void => {
    unreferenced.blobs += 1;
    unreferenced.storedBytes += storedBytes;
  };
  let unchecked: { readonly hash: Hash; readonly storedBytes: number }[] = [];
  const checkLarge = async (): Promise<void> => {
    const hashes = unchecked.map(({ hash }) => hash);
    const found = await index.lookup(hashes, { signal });
    unchecked.filter(({ hash }) => found.get(hash)?.location.blob !== hash).forEach(addUnreferenced);
    unchecked = [];
  };
  for await (const blob of listChunkBlobs(repository, { signal })) {
    for (const count of [all, counts[blob.is]]) {
      count.blobs += 1;
      count.storedBytes += blob.storedBytes;
      count.rawBytes += blob.rawBytes;
    }
    onProgress?.(all.blobs);
    if (blob.is === 'thin' || referenced.has(blob.hash)) continue;
    if (blob.is === 'tar') addUnreferenced(blob);
    else unchecked.push(blob);
    if (unchecked.length === LOOKUP_CHUNKS) await checkLarge();
  }
  await checkLarge();
  return { chunks: { ...all, ...counts }, unreferenced };
}
