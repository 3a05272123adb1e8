/**
 * Compaction: several batches that nobody works on become one. It is built beside the live log, appends go on meanwhile, and
 * one write of the manifest puts it in the place of those that it stands for.
 *
 * In Firn the log has two checkpoints: the snapshot, for what is published, and the compacted partition, for what is still
 * live. Recovery is the last snapshot with the batches that are not retired on top of it. A partition is deleted only when the
 * one or the other is durable, and reading a batch once more changes nothing: its uploads are there already, by their content.
 *
 * The order of the steps: the compacted partition is written, ended by a record that names what it replaces, sealed, read back
 * and given its filter; then it is named and the others are retired, all in one write; then their blobs are deleted. Who dies
 * before the write leaves a partition that nobody names: it is never taken for a batch, and deleted when it is old.
 *
 * A batch that is being archived may be compacted all the same: whoever archives it finds it retired, and its receipt is of no
 * use. A batch that is held for a publish is not: its removals would be applied once more, after what was published since.
 */
import { randomBytes } from 'node:crypto';
import { FirnError } from '../errors.ts';
import { APPEND_BYTES_MAX } from '../storage/blob-rules.ts';
import { BlobStoreError, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import { type BatchInfo, infoOf } from './batch-info.ts';
import { LiveRecords, planCompaction } from './compaction-plan.ts';
import { examinePartition } from './found-partition.ts';
import type { JournalParts } from './journal-parts.ts';
import { deleteRetired, deleteUnnamed } from './left-behind.ts';
import {
  batchName,
  batchPartitions,
  type Manifest,
  type PartitionEntry,
  partitionBlobName,
  type SealedPartition,
} from './manifest.ts';
import { withSwapped } from './manifest-steps.ts';
import { encodeRecord } from './partition.ts';
import { createPartition, partitionExists } from './partition-blob.ts';
import { readPartition } from './partition-reading.ts';
import type { JournalRecord, PartitionRecord } from './record.ts';

/** Batches found to be unfit in one call. */
const UNFIT_MAX = 10;

export interface Compaction {
  /** The batch that came to be; it is to be queued. */
  readonly created: BatchInfo;
  /** The batches that it stands for, oldest first. */
  readonly replaced: readonly string[];
}

export interface CompactOptions extends CallOptions {
  /** Nobody is about to archive the batch or to publish it, as far as can be told. */
  isIdle(batch: BatchInfo): boolean;
}

/** One compaction, if one is worth it. @returns undefined when nothing was compacted. */
export async function compactJournal(
  parts: JournalParts,
  { isIdle, ...options }: CompactOptions,
): Promise<Compaction | undefined> {
  const { manifests, settings } = parts;
  await deleteRetired(parts, options);
  const { manifest } = await manifests.load(options);
  const batches = batchPartitions(manifest);
  const idle = new Set(
    batches
      .map(infoOf)
      .filter(isIdle)
      .map(({ batch }) => batch),
  );
  for (let unfitCount = 0; unfitCount < UNFIT_MAX; unfitCount += 1) {
    const run = planCompaction(batches, (batch) => idle.has(batch), settings);
    // What was compacted earlier must be deleted before it is compacted again: otherwise, should the manifest be lost, nothing
    // would tell any more what the first compaction stood for.
    if (run === undefined || hasRetiredUpTo(manifest, run)) return undefined;
    const live = new LiveRecords();
    const unfit = await readRun(parts, run, live, options);
    if (unfit === undefined) return await replaceRun(parts, run, live, options);
    idle.delete(unfit);
  }
  return undefined;
}

function hasRetiredUpTo({ partitions }: Manifest, run: readonly PartitionEntry[]): boolean {
  const last = run.at(-1)?.partition ?? 0;
  return partitions.some(({ state, partition }) => state === 'retired' && partition <= last);
}

/**
 * @returns a batch that cannot be compacted: it is lost or damaged, which its archiving is to tell, or a newer Firn wrote in
 * it. Undefined when all were read.
 */
async function readRun(
  { state, source }: JournalParts,
  run: readonly PartitionEntry[],
  live: LiveRecords,
  options: CallOptions,
): Promise<string | undefined> {
  for (const entry of run) {
    const seen = new Set<string>();
    const name = partitionBlobName(source, entry.blob);
    try {
      for await (const event of readPartition(state, name, { ...options, blobBytes: entry.blobBytes })) {
        if (event.kind === 'unknown' || event.kind === 'corrupt') return batchName(entry);
        if (event.kind !== 'record' || seen.has(event.id)) continue;
        seen.add(event.id);
        live.add(event);
      }
    } catch (error) {
      if (isBlobFailure(error, 'missing')) return batchName(entry);
      throw error;
    }
  }
  return undefined;
}

async function replaceRun(
  parts: JournalParts,
  run: readonly PartitionEntry[],
  live: LiveRecords,
  options: CallOptions,
): Promise<Compaction | undefined> {
  const [first] = run;
  const last = run.at(-1);
  if (first === undefined || last === undefined) return undefined;
  const replaces = run.map(({ blob }) => blob);
  const written = await writeCompacted(parts, { first, last }, replaces, live.records(), options).catch(
    undefinedIfTaken,
  );
  if (written === undefined) return undefined;
  const { blob } = written;
  const entry: PartitionEntry = {
    ...written.sealed,
    partition: last.partition,
    blob,
    state: 'sealed',
    created: first.created,
    lastAt: last.lastAt ?? written.sealed.lastAt,
    compacted: true,
  };
  const swapMs = await swap(parts, replaces, entry, options);
  if (swapMs === undefined) {
    await deleteUnnamed(parts, blob, options);
    return undefined;
  }
  parts.metrics.compacted(swapMs);
  try {
    await deleteRetired(parts, options);
  } catch (error) {
    // It is done; whoever comes next deletes what it stands for.
    if (!(error instanceof FirnError) && !(error instanceof BlobStoreError)) throw error;
  }
  return { created: infoOf(entry), replaced: run.map(batchName) };
}

/** Who clears up took it for a stray, because this process stood still for so long. */
function undefinedIfTaken(error: unknown): undefined {
  if (!isBlobFailure(error, 'missing', 'sealed')) throw error;
  return undefined;
}

/**
 * Writes a compacted partition that no manifest names, and reads it back.
 * @returns undefined when it is gone by then. @throws the failures `missing` and `sealed` when that happened before.
 */
async function writeCompacted(
  parts: JournalParts,
  { first, last }: { readonly first: PartitionEntry; readonly last: PartitionEntry },
  replaces: readonly string[],
  live: Iterable<JournalRecord>,
  options: CallOptions,
): Promise<{ blob: string; sealed: SealedPartition } | undefined> {
  const { state, source, now } = parts;
  // The time of the first record survives.
  const header = { partition: last.partition, created: new Date(first.created), kind: 'compacted' } as const;
  const blob = await createPartition(state, source, header, options);
  const name = partitionBlobName(source, blob);
  let { bytes: position } = await state.properties(name, options);
  let records = 0;
  const withEnd = function* (): Generator<PartitionRecord> {
    for (const record of live) {
      records += 1;
      yield record;
    }
    yield { kind: 'end', replaces, records, nonce: randomBytes(8).toString('hex') };
  };
  for (const block of blocksOf(withEnd())) {
    await appendAt(parts, name, block, position, options);
    position += block.length;
  }
  const found = await examinePartition(state, source, blob, { ...options, now });
  if (found.is === 'gone') return undefined;
  if (found.is !== 'compacted' || found.sealed.records !== records) {
    await deleteUnnamed(parts, blob, options);
    throw new FirnError('FIRN_JOURNAL_DAMAGED', { blob: name, problem: 'it does not hold what was written to it' });
  }
  return { blob, sealed: found.sealed };
}

function* blocksOf(records: Iterable<PartitionRecord>): Generator<Buffer> {
  let held: Buffer[] = [];
  let heldBytes = 0;
  for (const record of records) {
    const bytes = encodeRecord(record);
    if (heldBytes + bytes.length > APPEND_BYTES_MAX) {
      yield Buffer.concat(held, heldBytes);
      held = [];
      heldBytes = 0;
    }
    held.push(bytes);
    heldBytes += bytes.length;
  }
  yield Buffer.concat(held, heldBytes);
}

/** Nobody else writes to the blob, so when the position is not its end any more, it was this block whose answer was lost. */
async function appendAt(
  { state }: JournalParts,
  name: string,
  block: Buffer,
  position: number,
  options: CallOptions,
): Promise<void> {
  try {
    await state.append(name, block, { ...options, position });
  } catch (error) {
    if (!isBlobFailure(error, 'position')) throw error;
    const { bytes } = await state.properties(name, options);
    if (bytes !== position + block.length) throw error;
  }
}

/**
 * The one step that others meet: names the compacted partition and retires what it stands for.
 * @returns how long the write took; undefined when it cannot be done any more: another process was faster with some of them.
 */
async function swap(
  parts: JournalParts,
  replaces: readonly string[],
  entry: PartitionEntry,
  options: CallOptions,
): Promise<number | undefined> {
  const { state, source, manifests } = parts;
  const wanted = new Set(replaces);
  const { manifest, changed, writeMs } = await manifests.update(async (current) => {
    const swapped = withSwapped(current, wanted, entry);
    // Who clears up may have taken it for a stray, if this process was slow.
    return swapped && (await partitionExists(state, source, entry.blob, options)) ? swapped : undefined;
  }, options);
  return changed || isNamed(manifest, entry) ? writeMs : undefined;
}

/** By an earlier try whose answer was lost. */
function isNamed({ partitions }: Manifest, { blob }: PartitionEntry): boolean {
  return partitions.some((each) => each.blob === blob && each.state === 'sealed');
}
