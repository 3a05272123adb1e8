/** The arithmetic of `index-arithmetic.ts` carried on to sizes that nobody measures here, from a measured shape. Pure. */
import { allRoots } from '../../src/index/root-view.ts';
import { numberSettings } from '../../src/settings.ts';
import { noTraffic, type Traffic } from '../kit/counted-store.ts';
import {
  dollarsOf,
  pagesOf,
  prices,
  repairCost,
  sessionListPages,
  shardLevels,
  shardsOf,
  shardsTouched,
} from './index-arithmetic.ts';
import { formatBytes, formatCount, formatDollars, markdownTable } from './report.ts';

const GiB = 1024 ** 3;
const NEW_CHUNKS = 1_000;

/** What a measured repository has of each chunk. */
export interface Shape {
  /** Blobs under `chunks/`. */
  readonly blobs: number;
  readonly tars: number;
  /** Bytes stored in shards, and in packed pointers. */
  readonly shardBytes: number;
  readonly pointerBytes: number;
  /** CPU time of a repair of one pass, and of each further one. */
  readonly firstPassCpuSeconds: number;
  readonly nextPassCpuSeconds: number;
}

/** Assumed of the service: a request takes so long, and a listing gives so many items a second besides. */
export const assumed = { requestSeconds: 0.02, listedPerSecond: 10_000, inFlight: 16 } as const;

export interface Paper {
  readonly chunks: number;
  readonly shards: number;
  readonly shardPages: number;
  readonly chunkPages: number;
  readonly pointerPages: number;
  /** Of 1,000 random chunks. */
  readonly coldLookup: Traffic;
  /** The index part of a publish of 1,000 random new chunks, by functions. */
  readonly publish: Traffic;
  readonly repair: {
    readonly passes: number;
    readonly traffic: Traffic;
    readonly dollars: number;
    readonly heldBytes: number;
    readonly seconds: number;
  };
}

export function paperOf(chunks: number, shape: Shape): Paper {
  const levels = shardLevels(chunks);
  const shards = shardsOf(levels);
  const touched = shardsTouched(levels, NEW_CHUNKS);
  const touchedBytes = (touched * chunks * shape.shardBytes) / shards;
  const coldLookup = {
    ...noTraffic(),
    lists: sessionListPages(shards),
    reads: touched + 1,
    bytesRead: touchedBytes,
  };
  const roots = numberSettings.flushRootsPerActivity.fallback;
  const activities = allRoots.length / roots;
  const publish = {
    ...coldLookup,
    lists: activities * sessionListPages(shards, roots),
    reads: touched + activities,
    writes: touched,
    bytesWritten: touchedBytes + NEW_CHUNKS * shape.shardBytes,
  };
  const blobs = { blobs: chunks * shape.blobs, tars: chunks * shape.tars };
  const cost = repairCost(chunks, blobs);
  const bytesRead = cost.passes * chunks * shape.pointerBytes;
  const traffic = { ...noTraffic(), ...cost, bytesRead, bytesWritten: chunks * shape.shardBytes };
  const listed = blobs.blobs + cost.passes * blobs.tars + 3 * shards;
  const dollars =
    dollarsOf({ ...noTraffic(), lists: cost.lists, writes: cost.writes }) +
    (cost.reads * prices.coolRead) / 10_000 +
    (bytesRead / GiB) * prices.coolGiB;
  const waiting =
    cost.lists * assumed.requestSeconds +
    listed / assumed.listedPerSecond +
    ((cost.reads + cost.writes) * assumed.requestSeconds) / assumed.inFlight;
  return {
    chunks,
    shards,
    shardPages: pagesOf(shards),
    chunkPages: pagesOf(blobs.blobs),
    pointerPages: pagesOf(blobs.tars),
    coldLookup,
    publish,
    repair: {
      passes: cost.passes,
      traffic,
      dollars,
      heldBytes: cost.heldBytes,
      seconds: waiting + chunks * (shape.firstPassCpuSeconds + (cost.passes - 1) * shape.nextPassCpuSeconds),
    },
  };
}

function formatHours(seconds: number): string {
  if (seconds < 100) return `${formatCount(Math.round(seconds))} s`;
  if (seconds < 6_000) return `${formatCount(Math.round(seconds / 60))} min`;
  return seconds < 360_000 ? `${formatCount(seconds / 3_600)} h` : `${formatCount(Math.round(seconds / 86_400))} days`;
}

export function formatPapers(papers: readonly Paper[]): string {
  const row = (title: string, of: (paper: Paper) => string) => [title, ...papers.map(of)];
  const count = (value: number) => formatCount(Math.round(value));
  return markdownTable(
    ['chunks', ...papers.map(({ chunks }) => count(chunks))],
    [
      row('shards', ({ shards }) => count(shards)),
      row('entries in a shard', ({ chunks, shards }) => count(chunks / shards)),
      row('pages of `chunk-index/`', ({ shardPages }) => count(shardPages)),
      row('pages of `chunks/`', ({ chunkPages }) => count(chunkPages)),
      row('pages of `thin/`', ({ pointerPages }) => count(pointerPages)),
      row('**cold lookup of 1,000**: pages', ({ coldLookup }) => count(coldLookup.lists)),
      row('shards read', ({ coldLookup }) => count(coldLookup.reads)),
      row('bytes read', ({ coldLookup }) => formatBytes(coldLookup.bytesRead)),
      row('cost', ({ coldLookup }) => formatDollars(dollarsOf(coldLookup))),
      row('**publish of 1,000**: pages', ({ publish }) => count(publish.lists)),
      row('shards read, and written', ({ publish }) => count(publish.writes)),
      row('bytes each way', ({ publish }) => formatBytes(publish.bytesWritten)),
      row('cost', ({ publish }) => formatDollars(dollarsOf(publish))),
      row('**repair**: passes', ({ repair }) => count(repair.passes)),
      row('pages', ({ repair }) => count(repair.traffic.lists)),
      row('packed pointers read', ({ repair }) => count(repair.traffic.reads)),
      row('bytes read', ({ repair }) => formatBytes(repair.traffic.bytesRead)),
      row('shards written', ({ repair }) => count(repair.traffic.writes)),
      row('memory for locations and tar chunks', ({ repair }) => formatBytes(repair.heldBytes)),
      row('time', ({ repair }) => formatHours(repair.seconds)),
      row('cost', ({ repair }) => formatDollars(repair.dollars)),
    ],
  );
}
