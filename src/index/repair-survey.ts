/**
 * What the chunk blobs say: one pass over the listings of `chunks/` and `thin/` that collects where the chunks of as many
 * roots are as fit into memory. Only pointers have bodies that are read: packed ones, and those of the legacy form; never
 * a large or tar chunk, which may be offline.
 *
 * Whatever cannot be understood is set aside with its reason and stops nothing. Nothing in the data container is changed.
 */
import pMap from 'p-map';
import {
  CHUNKS_PREFIX,
  checkPackedThin,
  hashOfChunkBlob,
  type ParsedChunkBlob,
  parseChunkBlob,
  THIN_PREFIX,
  tarHashOfThinBlob,
} from '../chunks/chunk-blobs.ts';
import { type ChunkLocation, LocationTable } from '../chunks/location.ts';
import { FirnError, isFirnError } from '../errors.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import { type BlobItem, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import type { KnownTars } from './known-tars.ts';
import { placeProblem, pointerProblem, type RootCollector } from './repair-plan.ts';
import { allRoots } from './root-view.ts';

/** Bodies of pointers read at the same time, and named at most while they wait. */
const READS_IN_FLIGHT = 16;
const READS_WAITING_MAX = 256;
/** A legacy body is a hash in hex, perhaps with a newline. */
const LEGACY_BODY_BYTES_MAX = 128;
/** Blobs that are named; further ones are counted. */
const NAMED_MAX = 100;

export interface QuarantinedBlob {
  readonly blob: string;
  readonly reason: string;
}

/** Blobs that were set aside: counted, and the first of them named. */
export class Quarantine {
  count = 0;
  readonly named: QuarantinedBlob[] = [];

  add(blob: string, reason: string): void {
    this.count += 1;
    if (this.named.length < NAMED_MAX) this.named.push({ blob, reason });
  }
}

export interface Survey {
  readonly data: SealedBlobs;
  /** Filled by the first pass, over all roots; complete when it ends. */
  readonly tars: KnownTars;
  /** Undefined in later passes, which meet the same blobs again. */
  readonly quarantine: Quarantine | undefined;
  /** Of a blob under `chunks/`: its root is under repair. */
  readonly inScope: (name: string) => boolean;
  readonly onListed: () => void;
}

/** The first pass lists everything, since the tar chunks of all roots have to be known. */
export async function surveyAll(survey: Survey, collector: RootCollector, options?: CallOptions): Promise<void> {
  await surveyChunks(survey, collector, CHUNKS_PREFIX, options);
  await surveyPacked(survey, collector, options);
}

/** A later pass: only the roots that are left, and the packed pointers, which are by tar chunk and not by root. */
export async function surveyRest(survey: Survey, collector: RootCollector, options?: CallOptions): Promise<void> {
  for (let root = collector.from; root < collector.to; root += 1) {
    await surveyChunks(survey, collector, CHUNKS_PREFIX + allRoots[root], options);
  }
  await surveyPacked(survey, collector, options);
}

async function surveyChunks(
  { data, tars, quarantine, inScope, onListed }: Survey,
  collector: RootCollector,
  prefix: string,
  options?: CallOptions,
): Promise<void> {
  const setAside = (name: string, reason: string) => {
    if (inScope(name)) quarantine?.add(name, reason);
  };
  const collect = (name: string, location: ChunkLocation) => {
    const problem = location.kind === 'tar' ? placeProblem(location) : undefined;
    if (problem !== undefined) setAside(name, problem);
    else if (inScope(name)) collector.add(location, location.kind === 'large' ? 'proved' : 'pointers');
  };
  const readLegacy = async (item: BlobItem) => {
    const parsed = await readLegacyPointer(data, item, options);
    if (parsed?.is === 'thin') collect(item.name, parsed.location);
    else setAside(item.name, parsed?.is === 'damaged' ? parsed.problem : 'its body names no tar chunk');
  };
  let legacy: BlobItem[] = [];
  for await (const item of data.store.list({ ...options, prefix })) {
    onListed();
    const parsed = parseChunkBlob(item);
    const hash = hashOfChunkBlob(item.name);
    // The pointers into a tar chunk whose own metadata is damaged are as good as its bytes.
    if (hash !== undefined && item.metadata.firn_type === 'tar') {
      tars.add(hash, { bytes: item.bytes, tier: item.tier ?? 'Hot' });
    }
    if (parsed.is === 'large' || parsed.is === 'thin') collect(item.name, parsed.location);
    else if (parsed.is === 'damaged') setAside(item.name, parsed.problem);
    else if (parsed.is === 'foreign') setAside(item.name, 'it is no chunk of Firn');
    else if (parsed.is === 'legacy-thin' && inScope(item.name)) {
      legacy.push(item);
      if (legacy.length >= READS_WAITING_MAX) {
        await pMap(legacy, readLegacy, { concurrency: READS_IN_FLIGHT });
        legacy = [];
      }
    }
  }
  await pMap(legacy, readLegacy, { concurrency: READS_IN_FLIGHT });
}

/** A pointer of the legacy form, with its body; undefined when that cannot be one. */
export async function readLegacyPointer(
  data: SealedBlobs,
  item: BlobItem,
  options?: CallOptions,
): Promise<ParsedChunkBlob | undefined> {
  if (item.bytes > LEGACY_BODY_BYTES_MAX) return undefined;
  try {
    return parseChunkBlob(item, (await data.store.read(item.name, options)).body);
  } catch (error) {
    if (isBlobFailure(error, 'missing', 'offline')) return undefined;
    throw error;
  }
}

async function surveyPacked(
  { data, tars, quarantine, onListed }: Survey,
  collector: RootCollector,
  options?: CallOptions,
): Promise<void> {
  const readTable = async (name: string) => {
    try {
      const table = await readPacked(data, name, options);
      const tarHash = tarHashOfThinBlob(name);
      const tar = tarHash === undefined ? undefined : tars.get(tarHash);
      if (tar === undefined) return quarantine?.add(name, 'the tar chunk that it points into is missing');
      let problem: string | undefined;
      // The first pass checks all of them; a later one only needs those of its roots.
      for (const location of quarantine === undefined ? collected(table, collector) : table.locations()) {
        const wrong = pointerProblem(location, tar);
        // The tier may have changed since the pointer was written.
        if (wrong === undefined) collector.add({ ...location, tier: tar.tier }, 'proved');
        problem ??= wrong;
      }
      if (problem !== undefined) quarantine?.add(name, problem);
    } catch (error) {
      const reason = reasonOf(error);
      if (reason === undefined) throw error;
      quarantine?.add(name, reason);
    }
  };
  let waiting: string[] = [];
  for await (const { name } of data.store.list({ ...options, prefix: THIN_PREFIX })) {
    onListed();
    waiting.push(name);
    if (waiting.length >= READS_WAITING_MAX) {
      await pMap(waiting, readTable, { concurrency: READS_IN_FLIGHT });
      waiting = [];
    }
  }
  await pMap(waiting, readTable, { concurrency: READS_IN_FLIGHT });
}

function* collected(table: LocationTable, { from, to }: RootCollector): Generator<ChunkLocation> {
  for (const root of allRoots.slice(from, to)) yield* table.locationsUnder(root);
}

/**
 * The pointers of one packed blob.
 * @throws FIRN_BLOB_DAMAGED, FIRN_SEAL_BROKEN, FIRN_BLOB_MISSING, FIRN_BLOB_OFFLINE, FIRN_REPOSITORY_NEWER.
 */
export async function readPacked(data: SealedBlobs, name: string, options?: CallOptions): Promise<LocationTable> {
  if (tarHashOfThinBlob(name) === undefined) {
    throw new FirnError('FIRN_BLOB_DAMAGED', { blob: name, problem: 'it is no pointer of Firn' });
  }
  const { body } = await data.get('thin', name, options);
  const table = LocationTable.from(name, body);
  checkPackedThin(name, table);
  return table;
}

/** Why a blob cannot be understood; undefined when the error is not about that blob. */
export function reasonOf(error: unknown): string | undefined {
  const ofBlob = ['FIRN_BLOB_DAMAGED', 'FIRN_SEAL_BROKEN', 'FIRN_BLOB_MISSING', 'FIRN_BLOB_OFFLINE'] as const;
  if (isFirnError(error, ...ofBlob, 'FIRN_REPOSITORY_NEWER')) return error.message;
  return undefined;
}
