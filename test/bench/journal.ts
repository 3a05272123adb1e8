/**
 * The journal against its goals and against what Azurite itself allows: `npm run bench:journal`.
 *
 *     --seconds <n>   of the steady load (60)
 *     --json          one JSON object
 *
 * Everything runs against an Azurite of its own that keeps its data on disk. Raw appends come first: one Append Block at
 * a time of one record's size is all that a journal without group commit could do, and those of a block's size are what
 * one with group commit can reach at most.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir, totalmem } from 'node:os';
import path from 'node:path';
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { type Journal, type JournalSettings, openJournal } from '../../src/journal/journal.ts';
import { encodeHeader, encodeRecord } from '../../src/journal/partition.ts';
import { decodePartition } from '../../src/journal/partition-decoding.ts';
import type { JournalRecord } from '../../src/journal/record.ts';
import { startAzurite } from '../../src/local/azurite.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { connectStorage } from '../../src/storage/connect.ts';

const settings: JournalSettings = { recordsMax: 40_000, uploadBytesMax: Number.MAX_SAFE_INTEGER, ageSecondsMax: 3600 };
const CALLERS = 256;
const STEADY_PER_SECOND = 1_000;
const TICK_MS = 10;
const KILLS = 5;
const MEBIBYTE = 1024 * 1024;

function recordOf(n: number | string): JournalRecord {
  return { kind: 'upload', path: `photos/2026/11/${n}.jpg`, etag: `"0x8DE${n}"`, bytes: 1_000_000 };
}

interface Latency {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

function latencyOf(histogram: RecordableHistogram): Latency {
  const ms = (microseconds: number) => Math.round(microseconds / 10) / 100;
  return { p50Ms: ms(histogram.percentile(50)), p99Ms: ms(histogram.percentile(99)), maxMs: ms(histogram.max) };
}

async function timed(histogram: RecordableHistogram, work: () => Promise<unknown>): Promise<void> {
  const began = performance.now();
  await work();
  histogram.record(Math.max(1, Math.round((performance.now() - began) * 1000)));
}

/** One append after another, for so long. */
async function rawAppends(state: BlobStore, block: Buffer, seconds: number) {
  const name = `raw-${block.length}`;
  await state.createAppend(name, Buffer.from('x'));
  const histogram = createHistogram();
  const end = performance.now() + seconds * 1000;
  const began = performance.now();
  while (performance.now() < end) await timed(histogram, () => state.append(name, block));
  const perSecond = histogram.count / ((performance.now() - began) / 1000);
  return { blockBytes: block.length, perSecond: Math.round(perSecond), ...latencyOf(histogram) };
}

/** Callers that each bring a record as soon as their last one is durable. */
async function fullLoad(journal: Journal, seconds: number) {
  const histogram = createHistogram();
  const end = performance.now() + seconds * 1000;
  const began = performance.now();
  let n = 0;
  const caller = async () => {
    while (performance.now() < end) {
      n += 1;
      const record = recordOf(n);
      await timed(histogram, () => journal.append([record]));
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  const perSecond = histogram.count / ((performance.now() - began) / 1000);
  return { callers: CALLERS, perSecond: Math.round(perSecond), ...latencyOf(histogram) };
}

/** A fixed number of records a second, whatever comes back: a slow append does not slow the next ones. */
async function steadyLoad(journal: Journal, seconds: number) {
  const histogram = createHistogram();
  const perTick = (STEADY_PER_SECOND * TICK_MS) / 1000;
  const open = new Set<Promise<void>>();
  const memory: { second: number; rssMiB: number; aliveMiB: number }[] = [];
  const look = (second: number) => {
    globalThis.gc?.();
    const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
    memory.push({
      second,
      rssMiB: Math.round(rss / MEBIBYTE),
      aliveMiB: Math.round((heapUsed + arrayBuffers) / MEBIBYTE),
    });
  };
  const began = performance.now();
  const ticks = (seconds * 1000) / TICK_MS;
  let n = 0;
  for (let tick = 0; tick < ticks; tick += 1) {
    const due = began + tick * TICK_MS;
    const waitMs = due - performance.now();
    if (waitMs > 1) await delay(waitMs);
    for (let i = 0; i < perTick; i += 1) {
      n += 1;
      const record = recordOf(`steady-${n}`);
      const append = timed(histogram, () => journal.append([record])).finally(() => open.delete(append));
      open.add(append);
    }
    if (tick % Math.ceil(ticks / 6) === 0) look(Math.round((tick * TICK_MS) / 1000));
  }
  await Promise.all(open);
  look(seconds);
  const perSecond = histogram.count / ((performance.now() - began) / 1000);
  return { seconds, perSecond: Math.round(perSecond), ...latencyOf(histogram), memory };
}

/** Many small batches, half of whose records are repeats, become few; and the one write that others wait for is timed. */
async function compaction(state: BlobStore) {
  const source = 'compacted';
  const swaps: number[] = [];
  let before = 0;
  let after = 0;
  for (let round = 0; round < 10; round += 1) {
    const journal = openJournal(state, `${source}-${round}`, settings);
    for (let batch = 0; batch < 20; batch += 1) {
      const records = Array.from({ length: 100 }, (_, n) => recordOf(`${batch}-${n}`));
      await journal.append(records);
      await journal.sealDue({ force: true });
    }
    before += (await journal.batches()).length;
    await journal.compact({ isIdle: () => true });
    after += (await journal.batches()).length;
    swaps.push(journal.metrics().compactionSwapMs.max);
    await journal.close();
  }
  swaps.sort((a, b) => a - b);
  const at = (share: number) =>
    Math.round((swaps[Math.min(swaps.length - 1, Math.floor(swaps.length * share))] ?? 0) * 100) / 100;
  return { batchesBefore: before, batchesAfter: after, swapMs: { p50: at(0.5), max: at(1) } };
}

/** Every bit of a partition, flipped one at a time: is it told, and is no record given that was not written? */
async function bitFlips() {
  const header = encodeHeader({ source: 'photos', partition: 1, created: new Date(0), kind: 'log' });
  const records = Array.from({ length: 20 }, (_, n) => recordOf(n));
  const whole = Buffer.concat([header, ...records.map(encodeRecord)]);
  const written = new Set(records.map((record) => JSON.stringify(record)));
  let told = 0;
  let wrong = 0;
  for (let bit = 0; bit < whole.length * 8; bit += 1) {
    const bytes = Buffer.from(whole);
    bytes.writeUInt8(bytes.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    let isTold = false;
    try {
      for await (const event of decodePartition([bytes], { blob: 'partition' })) {
        if (event.kind === 'corrupt' || event.kind === 'unknown') isTold = true;
        if (event.kind === 'record' && !written.has(JSON.stringify(event.record))) wrong += 1;
      }
    } catch {
      isTold = true;
    }
    if (isTold) told += 1;
  }
  return { bits: whole.length * 8, told, wrongRecords: wrong };
}

/** A process that appends under full load is killed; what it was told to be durable must be there. */
async function kills(connectionString: string, state: BlobStore) {
  let acknowledged = 0;
  let lost = 0;
  for (let round = 0; round < KILLS; round += 1) {
    const source = `killed-${round}`;
    const child = fork(import.meta.filename, ['--appender', source], {
      env: { ...process.env, BENCH_STORAGE: connectionString },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const known: string[] = [];
    child.on('message', (paths) => known.push(...(paths as string[])));
    await once(child, 'message');
    await delay(500 + 300 * round);
    child.kill('SIGKILL');
    await once(child, 'close');
    const journal = openJournal(state, source, settings);
    await journal.sealDue({ force: true });
    const found = new Set<string>();
    for (const { batch } of await journal.batches()) {
      for await (const record of journal.read(batch)) found.add(record.path);
    }
    acknowledged += known.length;
    lost += known.filter((name) => !found.has(name)).length;
    await journal.close();
  }
  return { kills: KILLS, acknowledged, lost };
}

/** The child of `kills`: tells its parent what is durable, until it dies. */
async function appendUntilKilled(source: string): Promise<never> {
  const state = connectStorage({ connectionString: process.env.BENCH_STORAGE ?? '' }).container('bench');
  const journal = openJournal(state, source, settings);
  let n = 0;
  const caller = async (): Promise<never> => {
    for (;;) {
      n += 1;
      const record = recordOf(n);
      await journal.append([record]);
      process.send?.([record.path]);
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  throw new Error('unreachable');
}

type Row = readonly [what: string, measured: string, goal: string];

function table(rows: readonly Row[]): string {
  const widths = [0, 1, 2].map((at) => Math.max(...rows.map((row) => row[at]?.length ?? 0)));
  const line = (row: readonly string[]) => `| ${row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join(' | ')} |`;
  const [head = [], ...body] = rows;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...body.map(line)].join('\n');
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { seconds: { type: 'string', default: '60' }, json: { type: 'boolean' }, appender: { type: 'string' } },
  });
  if (values.appender !== undefined) await appendUntilKilled(values.appender);
  const seconds = Math.max(1, Number(values.seconds) || 60);
  const folder = await mkdtemp(path.join(tmpdir(), 'firn-bench-journal-'));
  const azurite = await startAzurite({ dataFolder: folder, blobPort: 0, queuePort: 0 });
  try {
    const state = connectStorage({ connectionString: azurite.connectionString }).container('bench');
    await state.createContainer();
    const record = encodeRecord(recordOf(1_000_000));
    const rawRecords = await rawAppends(state, record, 3);
    const loaded = openJournal(state, 'full', settings);
    const full = await fullLoad(loaded, 10);
    const { flushes, records, bytes } = loaded.metrics();
    await loaded.close();
    const rawBlocks = await rawAppends(state, Buffer.alloc(Math.round(bytes / flushes)), 3);
    const steadyJournal = openJournal(state, 'steady', settings);
    const steady = await steadyLoad(steadyJournal, seconds);
    await steadyJournal.close();
    const result = {
      machine: { cores: cpus().length, memoryGiB: Math.round(totalmem() / 1024 ** 3), node: process.version },
      recordBytes: record.length,
      rawRecords,
      rawBlocks,
      full: { ...full, recordsPerBlock: Math.round(records / flushes) },
      steady,
      compaction: await compaction(state),
      bitFlips: await bitFlips(),
      kills: await kills(azurite.connectionString, state),
    };
    process.stdout.write(values.json ? `${JSON.stringify(result)}\n` : `${textOf(result)}\n`);
  } finally {
    await azurite.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

function textOf(result: {
  machine: { cores: number; memoryGiB: number; node: string };
  recordBytes: number;
  rawRecords: { perSecond: number; p99Ms: number };
  rawBlocks: { perSecond: number; p99Ms: number; blockBytes: number };
  full: { perSecond: number; p50Ms: number; p99Ms: number; recordsPerBlock: number };
  steady: Awaited<ReturnType<typeof steadyLoad>>;
  compaction: Awaited<ReturnType<typeof compaction>>;
  bitFlips: Awaited<ReturnType<typeof bitFlips>>;
  kills: Awaited<ReturnType<typeof kills>>;
}): string {
  const { machine, rawRecords, rawBlocks, full, steady } = result;
  const count = (n: number) => n.toLocaleString('en');
  const memory = steady.memory.map(
    ({ second, aliveMiB, rssMiB }) => `${second} s: ${aliveMiB} alive, ${rssMiB} resident`,
  );
  return [
    `${machine.cores} cores, ${machine.memoryGiB} GiB, Node.js ${machine.node}, Azurite on the same machine; a record is ${result.recordBytes} bytes`,
    '',
    table([
      ['measured', 'figure', 'goal or limit'],
      [
        'raw appends of one record, one after another',
        `${count(rawRecords.perSecond)}/s, p99 ${rawRecords.p99Ms} ms`,
        'the limit without group commit',
      ],
      [
        `raw appends of ${count(rawBlocks.blockBytes)} bytes`,
        `${count(rawBlocks.perSecond)}/s, p99 ${rawBlocks.p99Ms} ms`,
        'the limit of blocks',
      ],
      [
        `records, ${CALLERS} callers`,
        `${count(full.perSecond)}/s, p99 ${full.p99Ms} ms`,
        `5,000/s; ${count(rawBlocks.perSecond * full.recordsPerBlock)}/s by the limit of blocks`,
      ],
      [
        `append at ${count(STEADY_PER_SECOND)}/s, ${steady.seconds} s`,
        `${count(steady.perSecond)}/s, p50 ${steady.p50Ms}, p99 ${steady.p99Ms}, max ${steady.maxMs} ms`,
        'p99 10 ms',
      ],
      [
        'compaction: the write that others wait for',
        `p50 ${result.compaction.swapMs.p50}, max ${result.compaction.swapMs.max} ms`,
        '5 ms',
      ],
      ['compaction: batches', `${result.compaction.batchesBefore} became ${result.compaction.batchesAfter}`, ''],
      [
        'flipped bits told',
        `${count(result.bitFlips.told)} of ${count(result.bitFlips.bits)}, ${result.bitFlips.wrongRecords} wrong records`,
        'all, none',
      ],
      [
        'killed under load',
        `${result.kills.kills} times, ${count(result.kills.acknowledged)} acknowledged, ${result.kills.lost} lost`,
        '0 lost',
      ],
    ]),
    '',
    `Memory at ${count(STEADY_PER_SECOND)}/s, MiB: ${memory.join('; ')}`,
  ].join('\n');
}

await main();
