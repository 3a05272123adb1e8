/**
 * The manifest of a journal: which partitions there are and what state they are in. One JSON blob,
 * `journal/<source>/manifest`, changed by compare-and-swap only. This module is its form and what it says; the steps from
 * one form to the next are in `manifest-steps.ts`, both pure; `manifest-store.ts` reads and writes it.
 *
 *     {"format":1,"write":"<16 hex digits>","next":<number>,"partitions":[<partition>,…],"crc32":"<8 hex digits>"}
 *     partition  {"partition":<number>,"blob":"<name>","state":"active"|"sealed"|"retired","created":"<RFC 3339>",
 *                 "sealedAt":…,"lastAt":…,"records":…,"uploadBytes":…,"blobBytes":…,"filterBytes":…,
 *                 "mark":"leave"|"rejoin","compacted":true,"held":true}
 *
 * `partition` is the number of the partition, which gives the order of the batches; `next` is greater than all that this
 * manifest ever gave, so no number is used twice even when all is retired. Numbers do come back once the manifest is lost
 * with what it knew of retired partitions. `blob` is the name of the append blob under `journal/<source>/`: the number it
 * was created with, in ten digits, a dash, and eight random hex digits, so that a name never comes back, and who holds an
 * old one meets a sealed or a missing blob. The batch that a partition becomes is named by `partition` and the same random
 * digits: what a snapshot says of an old batch is never taken for a new one. At most one partition is active. `created` is
 * when the first record was about to be appended; the other fields are those of a sealed partition. A retired partition is
 * no batch any more; its blob is being deleted. `write` names the write, so that a writer whose answer was lost knows its
 * own work again.
 *
 * A partition with a `mark` holds just the record of that kind and is no batch. All partitions with smaller numbers than the
 * last leave are left: they are no batches either, until a rejoin takes the leave away. A compacted partition has the number
 * of the last one that it stands for. A batch that is held is about to be published: it is not compacted any more.
 */
import { FirnError, isFirnError } from '../errors.ts';
import { encodeCheckedJson, parseCheckedJson } from '../storage/json-blob.ts';

const MANIFEST_FORMAT = 1;
const PARTITION_DIGITS = 10;
/** A greater number would make a name that no reader takes for a partition. */
const PARTITION_MAX = 10 ** PARTITION_DIGITS - 1;
const blobPattern = /^(\d{10})-[0-9a-f]{8}$/;

export type PartitionState = 'active' | 'sealed' | 'retired';
export type PartitionMark = 'leave' | 'rejoin';

/** What a partition held when it was sealed. */
export interface SealedPartition {
  readonly sealedAt: string;
  /** When the last record was appended, as the service tells. */
  readonly lastAt: string;
  readonly records: number;
  /** Sum of the sizes of the uploads. */
  readonly uploadBytes: number;
  readonly blobBytes: number;
  /** Of its Bloom filter; undefined where it has none. */
  readonly filterBytes?: number | undefined;
}

export interface PartitionEntry extends Partial<SealedPartition> {
  readonly partition: number;
  readonly blob: string;
  readonly state: PartitionState;
  readonly created: string;
  readonly mark?: PartitionMark | undefined;
  readonly compacted?: true | undefined;
  readonly held?: true | undefined;
}

export interface Manifest {
  readonly next: number;
  readonly partitions: readonly PartitionEntry[];
}

export const emptyManifest: Manifest = { next: 1, partitions: [] };

export function journalPrefix(source: string): string {
  return `journal/${source}/`;
}

export function partitionBlobName(source: string, blob: string): string {
  return `${journalPrefix(source)}${blob}`;
}

export function manifestBlob(source: string): string {
  return `${journalPrefix(source)}manifest`;
}

/** The number as names begin with it: ten digits. @throws FIRN_JOURNAL_DAMAGED: no journal comes so far by itself. */
export function partitionDigits(partition: number): string {
  if (partition > PARTITION_MAX) {
    throw new FirnError('FIRN_JOURNAL_DAMAGED', { blob: String(partition), problem: 'no partition has such a number' });
  }
  return String(partition).padStart(PARTITION_DIGITS, '0');
}

/**
 * The name of the batch that a partition becomes: its number, and the random digits of its blob. So names sort in the
 * order of the batches, and none comes back when a whole journal was lost and begins anew (for one number, the chance is
 * 1 in 2^32).
 */
export function batchName({ partition, blob }: Pick<PartitionEntry, 'partition' | 'blob'>): string {
  return partitionDigits(partition) + blob.slice(PARTITION_DIGITS);
}

/** The number in the name of a partition blob (without its folder); undefined for any other name. */
export function partitionOfBlob(blob: string): number | undefined {
  const digits = blobPattern.exec(blob)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

export function activePartition(manifest: Manifest): PartitionEntry | undefined {
  return manifest.partitions.find(({ state }) => state === 'active');
}

/** The last partition that leaves what is before it; undefined when nothing is left. */
export function leavePartition(manifest: Manifest): PartitionEntry | undefined {
  return sealed(manifest)
    .filter(({ mark }) => mark === 'leave')
    .at(-1);
}

/** The partitions that are batches, in the order of their numbers. */
export function batchPartitions(manifest: Manifest): PartitionEntry[] {
  const left = leavePartition(manifest)?.partition ?? 0;
  return sealed(manifest).filter(({ mark, partition }) => mark === undefined && partition > left);
}

/** The partitions that would be batches had their source not been left, in the order of their numbers. */
export function leftPartitions(manifest: Manifest): PartitionEntry[] {
  const left = leavePartition(manifest)?.partition ?? 0;
  return sealed(manifest).filter(({ mark, partition }) => mark === undefined && partition < left);
}

function sealed(manifest: Manifest): PartitionEntry[] {
  return manifest.partitions.filter(({ state }) => state === 'sealed').sort((a, b) => a.partition - b.partition);
}

export function encodeManifest(manifest: Manifest, write: string): Buffer {
  return encodeCheckedJson({ format: MANIFEST_FORMAT, write, ...manifest });
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** They are counted from 1. */
function isPartition(value: unknown): value is number {
  return isCount(value) && value >= 1;
}

function isTime(value: unknown): value is string {
  return typeof value === 'string' && !Number.isNaN(Date.parse(value));
}

function parseEntry(value: unknown): PartitionEntry | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { partition, blob, state, created } = value as Readonly<Record<string, unknown>>;
  if (!isPartition(partition) || typeof blob !== 'string' || partitionOfBlob(blob) === undefined || !isTime(created)) {
    return undefined;
  }
  if (state === 'active') return { partition, blob, state, created };
  if (state !== 'sealed' && state !== 'retired') return undefined;
  const whole = parseSealed(value as Readonly<Record<string, unknown>>);
  return whole && { partition, blob, state, created, ...whole };
}

function parseSealed(value: Readonly<Record<string, unknown>>) {
  const { sealedAt, lastAt, records, uploadBytes, blobBytes, filterBytes, mark, compacted, held } = value;
  if (!isTime(sealedAt) || !isTime(lastAt) || !isCount(records) || !isCount(uploadBytes) || !isCount(blobBytes)) {
    return undefined;
  }
  if (filterBytes !== undefined && !isCount(filterBytes)) return undefined;
  if (!isMark(mark) || !isFlag(compacted) || !isFlag(held)) return undefined;
  return { sealedAt, lastAt, records, uploadBytes, blobBytes, filterBytes, mark, compacted, held };
}

function isMark(value: unknown): value is PartitionMark | undefined {
  return value === undefined || value === 'leave' || value === 'rejoin';
}

function isFlag(value: unknown): value is true | undefined {
  return value === undefined || value === true;
}

/**
 * Undefined when it is damaged: it is then rebuilt from the partitions.
 * @throws FIRN_REPOSITORY_NEWER.
 */
export function parseManifest(body: Buffer, blob: string): { manifest: Manifest; write: string } | undefined {
  const value = orUndefined(() => parseCheckedJson(blob, body, MANIFEST_FORMAT));
  if (value === undefined) return undefined;
  const { write, next, partitions } = value;
  if (typeof write !== 'string' || !isCount(next) || !Array.isArray(partitions)) return undefined;
  const entries = partitions.map(parseEntry).filter((entry) => entry !== undefined);
  const current = entries.filter(({ state }) => state !== 'retired');
  const numbers = new Set(current.map(({ partition }) => partition));
  const blobs = new Set(entries.map((entry) => entry.blob));
  const isUnique = numbers.size === current.length && blobs.size === entries.length;
  const active = entries.filter(({ state }) => state === 'active').length;
  const whole = entries.length === partitions.length && isUnique && active <= 1;
  if (!whole || next > PARTITION_MAX || entries.some(({ partition }) => partition >= next)) return undefined;
  return { manifest: { next, partitions: entries }, write };
}

function orUndefined<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (isFirnError(error, 'FIRN_BLOB_DAMAGED')) return undefined;
    throw error;
  }
}
