/**
 * Measures the chunk index of a generated repository. The storage is the memory store of the tests, in this process; each
 * measurement runs in a process of its own (`run-index-job.ts`), begins with nothing in memory, and reaches the store
 * through a channel. So the memory that is measured is not the store's, and no time is spent waiting for a network.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { LOCATION_BYTES } from '../../src/chunks/location.ts';
import { allRoots } from '../../src/index/root-view.ts';
import { SHARD_PREFIX } from '../../src/index/shard-store.ts';
import { numberSettings } from '../../src/settings.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import type { Traffic } from '../kit/counted-store.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { type Generated, generateChunkBlobs, withoutBodies } from './generated-repository.ts';
import {
  dollarsOf,
  pagesOf,
  repairCost,
  sessionListPages,
  shardLevels,
  shardsOf,
  shardsTouched,
  storedBytesMax,
} from './index-arithmetic.ts';
import { benchKeys, DATA, type Jobs, STATE } from './index-jobs.ts';
import { serveStores } from './remote-store.ts';
import { type Figure, formatCount, type Section } from './report.ts';

const MiB = 1024 * 1024;
const ROOTS = allRoots.length;
const BATCH = 1_000;
const LOOKUPS = 200_000;
const DISK_LOOKUPS = 20_000;
const SMALL_HEAP_MIB = 32;
/** The marker of a repair is read once before shards are. */
const MARKER = 1;

export interface Subject {
  readonly chunks: number;
  readonly generated: Generated;
  readonly data: BlobStore;
  readonly state: BlobStore;
}

export async function generate(chunks: number, roots?: number): Promise<Subject> {
  const account = createMemoryAccount();
  const data = account.container(DATA);
  const generated = await generateChunkBlobs(data, benchKeys, { chunks, roots });
  return { chunks, generated, data: withoutBodies(data), state: account.container(STATE) };
}

async function run<Name extends keyof Jobs>(
  { data, state }: Subject,
  job: { readonly job: Name } & Jobs[Name]['options'],
  nodeOptions: readonly string[] = [],
): Promise<Jobs[Name]['answer']> {
  const script = fileURLToPath(new URL('run-index-job.ts', import.meta.url));
  const execArgv = ['--expose-gc', ...nodeOptions];
  const child = fork(script, [JSON.stringify(job)], { serialization: 'advanced', execArgv });
  serveStores(child, { [DATA]: data, [STATE]: state });
  let answer: Jobs[Name]['answer'] | undefined;
  child.on('message', (message) => {
    if (typeof message === 'object' && 'answer' in message) answer = message.answer as Jobs[Name]['answer'];
  });
  await once(child, 'exit');
  if (answer === undefined) throw new Error(`the job «${job.job}» ended without an answer`);
  return answer;
}

async function shardsThere({ state }: Subject): Promise<{ count: number; storedBytes: number }> {
  const shards = await Array.fromAsync(state.list({ prefix: SHARD_PREFIX }));
  return { count: shards.length, storedBytes: shards.reduce((total, { bytes }) => total + bytes, 0) };
}

async function dropShards({ state }: Subject): Promise<void> {
  for (const { name } of await Array.fromAsync(state.list({ prefix: SHARD_PREFIX }))) await state.delete(name);
}

export interface RepairMeasured {
  readonly chunks: number;
  /** Under `chunks/`. */
  readonly blobs: number;
  readonly tars: number;
  readonly passes: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly traffic: Traffic;
  /** Locations and tar chunks that it has to hold. */
  readonly heldBytes: number;
  readonly aliveBytes: number;
  readonly residentBytes: number;
}

/** A repair from nothing, and once more to look what is alive meanwhile. Leaves the index behind. */
export async function measureRepair(subject: Subject): Promise<RepairMeasured> {
  const { chunks, generated } = subject;
  const { tars } = generated;
  const looked = await run(subject, { job: 'repair', looking: true });
  await dropShards(subject);
  const { report, took, peaks, traffic } = await run(subject, { job: 'repair', looking: false });
  if (report.entries !== chunks || report.quarantinedCount > 0) throw new Error('the repair did not find every chunk');
  const blobs = generated.large + tars;
  const { heldBytes } = repairCost(chunks, { blobs, tars });
  const { residentBytes } = peaks;
  const { aliveBytes } = looked.peaks;
  return { chunks, blobs, tars, passes: report.passes, ...took, traffic, heldBytes, aliveBytes, residentBytes };
}

/** Over what `measureRepair` left; leaves an index behind too. */
export async function measureSmallHeap(subject: Subject): Promise<number> {
  await dropShards(subject);
  const { peaks } = await run(subject, { job: 'repair', looking: false }, [
    `--max-old-space-size=${SMALL_HEAP_MIB}`,
    '--max-semi-space-size=4',
  ]);
  return peaks.residentBytes;
}

export function repairSection({ chunks, generated }: Subject, measured: RepairMeasured, inSmallHeap: number): Section {
  const { tars, large } = generated;
  const { traffic } = measured;
  const cost = repairCost(chunks, { blobs: large + tars, tars });
  return {
    title: 'Repair from nothing',
    figures: [
      { figure: 'passes', measured: measured.passes, unit: 'count', expected: cost.passes },
      { figure: 'pages listed', measured: traffic.lists, unit: 'count', expected: cost.lists },
      {
        figure: 'packed pointers read (and the marker)',
        measured: traffic.reads,
        unit: 'count',
        expected: cost.reads + MARKER,
      },
      {
        figure: 'bytes read',
        measured: traffic.bytesRead,
        unit: 'bytes',
        limit: cost.passes * chunks * LOCATION_BYTES,
      },
      {
        figure: 'shards written (and the marker)',
        measured: traffic.writes,
        unit: 'count',
        expected: cost.writes + MARKER,
      },
      {
        figure: 'bytes written',
        measured: traffic.bytesWritten,
        unit: 'bytes',
        limit: storedBytesMax(cost.writes, chunks),
      },
      { figure: 'time', measured: measured.seconds, unit: 'seconds' },
      { figure: 'CPU time', measured: measured.cpuSeconds, unit: 'seconds' },
      { figure: 'entries repaired', measured: chunks / measured.seconds, unit: 'per second' },
      {
        figure: 'peak of what is alive in memory',
        measured: measured.aliveBytes,
        unit: 'bytes',
        expected: measured.heldBytes,
      },
      { figure: 'peak of resident memory', measured: measured.residentBytes, unit: 'bytes' },
      {
        figure: `the same where Node.js may keep no more than ${SMALL_HEAP_MIB} MiB of objects`,
        measured: inSmallHeap,
        unit: 'bytes',
      },
    ],
  };
}

/** A repair with nothing to do, and the check of all roots. */
export async function measureIntact(subject: Subject): Promise<Section[]> {
  const { chunks } = subject;
  const shards = await shardsThere(subject);
  const again = await run(subject, { job: 'repair', looking: false });
  const check = await run(subject, { job: 'check', looking: false });
  const looked = await run(subject, { job: 'check', looking: true });
  if (check.drifted > 0) throw new Error('the check found drift');
  const { large, tars } = subject.generated;
  const checkedPages = ROOTS * [large + tars, tars, shards.count].reduce((sum, n) => sum + pagesOf(n / ROOTS), 0);
  return [
    {
      title: 'Repair of an index that is right',
      figures: [
        { figure: 'shards written', measured: again.report.shardsWritten, unit: 'count', expected: 0 },
        {
          figure: 'packed pointers and shards read (and the marker)',
          measured: again.traffic.reads,
          unit: 'count',
          expected: again.report.passes * subject.generated.tars + shards.count + MARKER,
        },
        { figure: 'time', measured: again.took.seconds, unit: 'seconds' },
        { figure: 'CPU time', measured: again.took.cpuSeconds, unit: 'seconds' },
      ],
    },
    {
      title: `Check of all ${ROOTS} roots`,
      figures: [
        { figure: 'pages listed', measured: check.traffic.lists, unit: 'count', expected: checkedPages },
        { figure: 'bodies read', measured: check.traffic.reads, unit: 'count', limit: shards.count + ROOTS * 128 },
        { figure: 'properties read', measured: check.traffic.others, unit: 'count', limit: ROOTS * (2 * 512 + 128) },
        { figure: 'time', measured: check.took.seconds, unit: 'seconds' },
        { figure: 'CPU time', measured: check.took.cpuSeconds, unit: 'seconds' },
        { figure: 'peak of what is alive in memory', measured: looked.peaks.aliveBytes, unit: 'bytes' },
        { figure: 'the same for each chunk', measured: looked.peaks.aliveBytes / chunks, unit: 'bytes' },
      ],
    },
  ];
}

export async function measureShards(subject: Subject): Promise<Section> {
  const { chunks } = subject;
  const { count, storedBytes } = await shardsThere(subject);
  const expected = shardsOf(shardLevels(chunks));
  return {
    title: 'Shards',
    figures: [
      { figure: 'shards', measured: count, unit: 'count', expected },
      { figure: 'entries in a shard', measured: chunks / count, unit: 'count', expected: chunks / expected },
      { figure: 'bytes stored', measured: storedBytes, unit: 'bytes', limit: storedBytesMax(count, chunks) },
      { figure: 'bytes stored for an entry', measured: storedBytes / chunks, unit: 'bytes', limit: LOCATION_BYTES },
    ],
  };
}

export async function measureLookups(subject: Subject): Promise<Section[]> {
  const { chunks } = subject;
  const shards = await shardsThere(subject);
  const levels = shardLevels(chunks);
  const touched = shardsTouched(levels, BATCH);
  const cacheBytesMax = numberSettings.indexCacheBytesMax.fallback;
  const enough = 2 * chunks * LOCATION_BYTES;
  const look = async (options: Partial<Jobs['lookup']['options']>) => {
    const answer = await run(subject, {
      job: 'lookup',
      chunks,
      cacheBytesMax,
      warm: false,
      batch: BATCH,
      count: LOOKUPS,
      ...options,
    });
    const asked = options.count ?? LOOKUPS;
    if (answer.found !== asked) throw new Error(`${asked - answer.found} chunks were not found`);
    return {
      ...answer,
      rates: (what: string): Figure[] => [
        { figure: what, measured: asked / answer.took.seconds, unit: 'per second' },
        { figure: '… for a second of CPU time', measured: asked / answer.took.cpuSeconds, unit: 'per second' },
      ],
    };
  };
  const cold = await look({ count: BATCH });
  const warm = await look({ warm: true, cacheBytesMax: enough });
  const single = await look({ warm: true, cacheBytesMax: enough, batch: 1 });
  const crowded = await look({ warm: true });
  const cacheFolder = await mkdtemp(path.join(tmpdir(), 'firn-bench-'));
  try {
    await look({ warm: true, cacheFolder, count: BATCH });
    const disk = await look({ cacheFolder, cacheBytesMax: numberSettings.indexCacheBytesMax.min, count: DISK_LOOKUPS });
    return [
      {
        title: `Cold lookup of ${formatCount(BATCH)} random chunks`,
        figures: [
          {
            figure: 'pages listed',
            measured: cold.traffic.lists,
            unit: 'count',
            expected: sessionListPages(shards.count),
          },
          {
            figure: 'shards read (and the marker)',
            measured: cold.traffic.reads,
            unit: 'count',
            expected: touched + MARKER,
          },
          {
            figure: 'bytes read',
            measured: cold.traffic.bytesRead,
            unit: 'bytes',
            expected: (touched * shards.storedBytes) / shards.count,
          },
          { figure: 'cost of the requests', measured: dollarsOf(cold.traffic), unit: 'dollars' },
          { figure: 'time', measured: cold.took.seconds, unit: 'seconds' },
          { figure: 'CPU time', measured: cold.took.cpuSeconds, unit: 'seconds' },
        ],
      },
      {
        title: 'Lookups of random chunks',
        figures: [
          ...warm.rates(`warm, ${formatCount(BATCH)} at once, all shards in memory`),
          ...single.rates('warm, one at a time, all shards in memory'),
          ...disk.rates(`${formatCount(BATCH)} at once from disk, 1 MiB of memory`),
          {
            figure: 'pages listed by these',
            measured: disk.traffic.lists,
            unit: 'count',
            expected: sessionListPages(shards.count),
          },
          { figure: 'bytes downloaded by these', measured: disk.traffic.bytesRead, unit: 'bytes', expected: 0 },
          ...crowded.rates(`${formatCount(BATCH)} at once with the default ${cacheBytesMax / MiB} MiB of memory`),
          {
            figure: `shards downloaded for ${formatCount(BATCH)} of these`,
            measured: (crowded.traffic.reads * BATCH) / LOOKUPS,
            unit: 'count',
            expected: touched * Math.max(0, 1 - cacheBytesMax / storedInMemory(chunks, shards.count)),
          },
        ],
      },
    ];
  } finally {
    await rm(cacheFolder, { recursive: true, force: true });
  }
}

/** What all shards take of the memory cache. */
function storedInMemory(chunks: number, shards: number): number {
  return chunks * LOCATION_BYTES + shards * (16 + 256);
}

/** Adds entries to the index, so it comes last. */
export async function measureFlush(subject: Subject): Promise<Section> {
  const { chunks } = subject;
  const before = await shardsThere(subject);
  const cacheBytesMax = 2 * chunks * LOCATION_BYTES;
  const [cold, warm] = await run(subject, { job: 'flush', chunks, cacheBytesMax, entries: BATCH, times: 2 });
  if (cold === undefined || warm === undefined) throw new Error('the flushes gave no answer');
  const levels = shardLevels(chunks);
  const touched = shardsTouched(levels, BATCH);
  const bytes = (touched * before.storedBytes) / before.count;
  const expectedWrites: Figure = {
    figure: 'shards written',
    measured: cold.traffic.writes,
    unit: 'count',
    expected: touched,
  };
  return {
    title: `Flush of ${formatCount(BATCH)} random new entries`,
    figures: [
      { figure: 'pages listed', measured: cold.traffic.lists, unit: 'count', expected: sessionListPages(before.count) },
      {
        figure: 'shards read (and the marker)',
        measured: cold.traffic.reads,
        unit: 'count',
        expected: touched + MARKER,
      },
      { figure: 'bytes read', measured: cold.traffic.bytesRead, unit: 'bytes', expected: bytes },
      expectedWrites,
      {
        figure: 'bytes written',
        measured: cold.traffic.bytesWritten,
        unit: 'bytes',
        expected: bytes + (BATCH * before.storedBytes) / chunks,
      },
      { figure: 'cost of the requests', measured: dollarsOf(cold.traffic), unit: 'dollars' },
      { figure: 'time', measured: cold.took.seconds, unit: 'seconds' },
      { figure: 'CPU time', measured: cold.took.cpuSeconds, unit: 'seconds' },
      {
        figure: 'shards read by the next flush of the session (and the marker)',
        measured: warm.traffic.reads,
        unit: 'count',
        expected: touched * (1 - touched / before.count) + MARKER,
      },
    ],
  };
}
