/**
 * Keeps bytes of the journal that could not be understood, when the partition they were in goes: a person may still find out
 * what they said. They lie under `journal-set-aside/<source>/`, where nothing looks for partitions or sources, and nothing
 * deletes them.
 *
 *     <batch>-<offset, ten digits>   the bytes of one range; none where the storage lost them
 *     <batch>-whole                  the whole partition, where more than 64 ranges of it are damaged
 *     <batch>-forgotten              what the manifest said of a partition that was lost (JSON)
 */
import { type BlobStore, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import type { JournalParts } from './journal-parts.ts';
import { batchName, type PartitionEntry, partitionBlobName } from './manifest.ts';
import { readRanges } from './partition-reading.ts';

const RANGES_MAX = 64;
const OFFSET_DIGITS = 10;
const FORGOTTEN_FORMAT = 1;

interface DamagedRange {
  readonly offset: number;
  readonly bytes: number;
}

const PREFIX = 'journal-set-aside/';

function setAsidePrefix(source: string): string {
  return `${PREFIX}${source}/`;
}

/** Copies damaged ranges of a batch, unless that was done before; durable when it resolves. */
export async function setRangesAside(
  { state, source }: JournalParts,
  entry: PartitionEntry,
  ranges: readonly DamagedRange[],
  options?: CallOptions,
): Promise<void> {
  const from = partitionBlobName(source, entry.blob);
  const name = `${setAsidePrefix(source)}${batchName(entry)}-`;
  if (ranges.length > RANGES_MAX) {
    await createOnce(state, `${name}whole`, readRanges(state, from, options), options);
    return;
  }
  for (const { offset, bytes } of ranges) {
    const body = readRanges(state, from, { ...options, from: offset, to: offset + bytes });
    await createOnce(state, `${name}${String(offset).padStart(OFFSET_DIGITS, '0')}`, body, options);
  }
}

/** Writes down what is known of a partition that is lost. */
export async function noteForgotten(
  { state, source, now }: JournalParts,
  entry: PartitionEntry,
  options?: CallOptions,
): Promise<void> {
  const name = `${setAsidePrefix(source)}${batchName(entry)}-forgotten`;
  const note = { format: FORGOTTEN_FORMAT, source, forgottenAt: now().toISOString(), partition: entry };
  await createOnce(state, name, [Buffer.from(JSON.stringify(note))], options);
}

/** How many blobs were set aside, of a source or of all. */
export async function countSetAside(
  state: BlobStore,
  source: string | undefined,
  options: CallOptions = {},
): Promise<number> {
  const prefix = source === undefined ? PREFIX : setAsidePrefix(source);
  let count = 0;
  for await (const _ of state.list({ ...options, prefix })) count += 1;
  return count;
}

async function createOnce(
  state: BlobStore,
  name: string,
  body: AsyncIterable<Buffer> | Iterable<Buffer>,
  options?: CallOptions,
): Promise<void> {
  try {
    await state.createFromStream(name, piecesOf(body), options);
  } catch (error) {
    if (!isBlobFailure(error, 'exists')) throw error;
  }
}

async function* piecesOf(body: AsyncIterable<Buffer> | Iterable<Buffer>): AsyncGenerator<Buffer> {
  yield* body;
}
