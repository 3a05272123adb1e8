/**
 * Looks whether the index says what the chunk blobs say, at the cost of a sample, and names the roots that drifted:
 *
 * - a shard that cannot be read, or lies under a name that no reader looks at;
 * - an entry whose chunk blob is missing or says otherwise (a sample of the blobs of each root);
 * - a chunk that was stored a day ago or earlier and is not in the index: by its own blob, or by a sample of packed
 *   pointers. One that waits to be published is younger; one that was left by a run that died is worth an entry too.
 *
 * Nothing is written, so it needs neither marker nor lock. Memory holds the shards of one root, and some pointers.
 */
import { CHUNKS_PREFIX, hashOfChunkBlob, parseChunkBlob, THIN_PREFIX } from '../chunks/chunk-blobs.ts';
import type { ChunkLocation, LocationTable } from '../chunks/location.ts';
import { isFirnError } from '../errors.ts';
import type { Hash } from '../sealing/keys.ts';
import type { CallOptions } from '../storage/blob-store.ts';
import { type PresentShard, type RepairParts, readShards, stillTrue } from './repair-root.ts';
import { readLegacyPointer, readPacked, reasonOf } from './repair-survey.ts';
import { isShardPrefix, rootOf } from './root-view.ts';
import { isOfPrefix } from './shard-store.ts';

/** Of each root. */
const BLOBS_SAMPLED_MAX = 512;
/** Of each root: packed blobs, and pointers of each of them. */
const PACKED_SAMPLED_MAX = 128;
const POINTERS_SAMPLED_MAX = 64;
const SETTLED_AFTER_MS = 24 * 60 * 60 * 1000;

export interface Drift {
  readonly root: string;
  readonly reason: string;
}

export interface CheckOptions extends CallOptions {
  readonly now?: () => Date;
}

/** The roots, of these, that drifted. */
export async function findDrift(
  parts: RepairParts,
  roots: readonly string[],
  options: CheckOptions = {},
): Promise<Drift[]> {
  const settledBefore = (options.now?.() ?? new Date()).getTime() - SETTLED_AFTER_MS;
  // By the root of the chunk, which is not the one of the tar chunk.
  const bundled = new Map<string, Hash[]>(roots.map((root) => [root, []]));
  for (const root of roots) {
    const isAsked = ({ hash }: ChunkLocation) => bundled.has(rootOf(hash));
    for (const { hash } of await settledPacked(parts, root, settledBefore, isAsked, options)) {
      bundled.get(rootOf(hash))?.push(hash);
    }
  }
  const drifts: Drift[] = [];
  for (const [root, hashes] of bundled) {
    const shards = await readShards(parts.state, root, options);
    const holds = holdsIn(shards);
    let reason = await driftOf(parts, root, shards, holds, settledBefore, options);
    if (!hashes.every(holds)) reason ??= 'a bundled chunk is missing';
    if (reason !== undefined) drifts.push({ root, reason });
  }
  return drifts;
}

/** Tells of a chunk whether one of the shards on its path has it, at a cost that does not grow with the shards. */
export function holdsIn(shards: readonly Pick<PresentShard, 'prefix' | 'table'>[]): (hash: Hash) => boolean {
  const tables = new Map(shards.map(({ prefix, table }) => [prefix, table]));
  const lengths = [...new Set([...tables.keys()].map((prefix) => prefix.length))];
  return (hash) => lengths.some((digits) => tables.get(hash.slice(0, digits))?.find(hash) !== undefined);
}

async function driftOf(
  parts: RepairParts,
  root: string,
  shards: readonly PresentShard[],
  holds: (hash: Hash) => boolean,
  settledBefore: number,
  options: CallOptions,
): Promise<string | undefined> {
  const isGood = ({ prefix, table }: PresentShard) =>
    table !== undefined && isShardPrefix(prefix) && isOfPrefix(prefix, table);
  const bad = shards.find((shard) => !isGood(shard));
  if (bad !== undefined) return `the shard ${bad.prefix} cannot be read`;
  const sampled = sampleOfBlobs(shards.flatMap(({ table }) => (table ? [table] : [])));
  const sound = await stillTrue(parts, sampled, undefined, options);
  if (sound.length < sampled.length) return 'an entry names a chunk blob that does not hold it';
  if (await lacksChunk(parts, root, holds, settledBefore, options)) return 'a chunk is missing';
  return undefined;
}

/** Whether a blob of this root tells of a chunk that the shards do not have. */
async function lacksChunk(
  { data }: RepairParts,
  root: string,
  holds: (hash: Hash) => boolean,
  settledBefore: number,
  options: CallOptions,
): Promise<boolean> {
  for await (const item of data.store.list({ ...options, prefix: CHUNKS_PREFIX + root })) {
    const hash = hashOfChunkBlob(item.name);
    if (hash === undefined || item.lastModified.getTime() >= settledBefore || holds(hash)) continue;
    const listed = parseChunkBlob(item);
    if (listed.is === 'large') return true;
    const parsed = listed.is === 'legacy-thin' ? await readLegacyPointer(data, item, options) : listed;
    // A pointer that repair would set aside is no drift of the index.
    if (parsed?.is === 'thin' && (await stillTrue({ data }, [parsed.location], undefined, options)).length > 0)
      return true;
  }
  return false;
}

/** One entry for each of some chunk blobs, from all over the tables. */
function sampleOfBlobs(tables: readonly LocationTable[]): ChunkLocation[] {
  const byBlob = new Map<Hash, ChunkLocation>();
  for (const table of tables) {
    const step = Math.max(1, Math.ceil((table.count * tables.length) / BLOBS_SAMPLED_MAX));
    const offset = Math.floor(Math.random() * Math.min(step, table.count));
    for (let at = offset; at < table.count; at += step) {
      const location = table.location(at);
      byBlob.set(location.blob, location);
    }
  }
  return [...byBlob.values()];
}

async function settledPacked(
  { data }: RepairParts,
  root: string,
  settledBefore: number,
  isAsked: (location: ChunkLocation) => boolean,
  options: CallOptions,
): Promise<ChunkLocation[]> {
  const locations: ChunkLocation[] = [];
  let read = 0;
  for await (const { name, lastModified } of data.store.list({ ...options, prefix: THIN_PREFIX + root })) {
    if (lastModified.getTime() >= settledBefore) continue;
    read += 1;
    if (read > PACKED_SAMPLED_MAX) break;
    try {
      const asked = [...(await readPacked(data, name, options)).locations()].filter(isAsked);
      const step = Math.ceil(asked.length / POINTERS_SAMPLED_MAX);
      // Pointers that repair would set aside are no drift of the index.
      const sampled = asked.filter((_, at) => at % step === 0);
      locations.push(...(await stillTrue({ data }, sampled, undefined, options)));
    } catch (error) {
      if (!isFirnError(error) || reasonOf(error) === undefined) throw error;
    }
  }
  return locations;
}
