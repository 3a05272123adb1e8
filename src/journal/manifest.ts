/**
 * The manifest of a journal: which partitions there are and what state they are in. One JSON blob,
 * `journal/<source>/manifest`, changed by compare-and-swap only. This module is its form and the steps from one form to
 * the next, all pure; `manifest-store.ts` reads and writes it.
 *
 *     {"format":1,"write":"<16 hex digits>","next":<number>,"partitions":[<partition>,…]}
 *     partition  {"partition":<number>,"blob":"<name>","state":"active"|"sealed"|"retired","created":"<RFC 3339>",
 *                 "sealedAt":…,"lastAt":…,"records":…,"uploadBytes":…,"blobBytes":…,"filterBytes":…}
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
 */
import { FirnError } from '../errors.ts';

const MANIFEST_FORMAT = 1;
const PARTITION_DIGITS = 10;
const blobPattern = /^(\d{10})-[0-9a-f]{8}$/;

export type PartitionState = 'active' | 'sealed' | 'retired';

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

/** The number as names begin with it: ten digits. */
export function partitionDigits(partition: number): string {
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

/** Sealed and not retired, in the order of their numbers. */
export function sealedPartitions(manifest: Manifest): PartitionEntry[] {
  return manifest.partitions.filter(({ state }) => state === 'sealed').sort((a, b) => a.partition - b.partition);
}

// Steps. Each gives undefined when there is nothing (left) to do.

/** A new active partition, with the number `next`. */
export function withActive(manifest: Manifest, blob: string, created: string): Manifest | undefined {
  if (activePartition(manifest) !== undefined) return undefined;
  const entry: PartitionEntry = { partition: manifest.next, blob, state: 'active', created };
  return { next: manifest.next + 1, partitions: [...manifest.partitions, entry] };
}

/** The active partition becomes a batch; with `sealed` undefined (it holds nothing) it leaves the manifest. */
export function withSealed(
  manifest: Manifest,
  blob: string,
  sealed: SealedPartition | undefined,
): Manifest | undefined {
  const entry = manifest.partitions.find((each) => each.blob === blob);
  if (entry?.state !== 'active') return undefined;
  const others = manifest.partitions.filter((each) => each !== entry);
  const partitions = sealed === undefined ? others : [...others, { ...entry, ...sealed, state: 'sealed' as const }];
  return { ...manifest, partitions };
}

/** A sealed partition that the manifest does not know becomes a batch: under its own number, unless that may be used. */
export function withFound(
  manifest: Manifest,
  blob: string,
  created: string,
  sealed: SealedPartition,
): Manifest | undefined {
  if (manifest.partitions.some((each) => each.blob === blob)) return undefined;
  const partition = Math.max(manifest.next, partitionOfBlob(blob) ?? 0);
  const entry: PartitionEntry = { partition, blob, state: 'sealed', created, ...sealed };
  return { next: partition + 1, partitions: [...manifest.partitions, entry] };
}

export function withRetired(manifest: Manifest, batches: ReadonlySet<string>): Manifest | undefined {
  const isRetiring = (each: PartitionEntry) => each.state === 'sealed' && batches.has(batchName(each));
  if (!manifest.partitions.some(isRetiring)) return undefined;
  const partitions = manifest.partitions.map((each) =>
    isRetiring(each) ? { ...each, state: 'retired' as const } : each,
  );
  return { ...manifest, partitions };
}

/** Forgets retired partitions whose blobs are gone. */
export function withoutRetired(manifest: Manifest, blobs: ReadonlySet<string>): Manifest | undefined {
  const partitions = manifest.partitions.filter(({ state, blob }) => state !== 'retired' || !blobs.has(blob));
  return partitions.length === manifest.partitions.length ? undefined : { ...manifest, partitions };
}

export function encodeManifest(manifest: Manifest, write: string): Buffer {
  return Buffer.from(JSON.stringify({ format: MANIFEST_FORMAT, write, ...manifest }));
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isTime(value: unknown): value is string {
  return typeof value === 'string' && !Number.isNaN(Date.parse(value));
}

function parseEntry(value: unknown): PartitionEntry | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { partition, blob, state, created, sealedAt, lastAt, records, uploadBytes, blobBytes, filterBytes } =
    value as Readonly<Record<string, unknown>>;
  if (!isCount(partition) || typeof blob !== 'string' || partitionOfBlob(blob) === undefined || !isTime(created)) {
    return undefined;
  }
  if (state === 'active') return { partition, blob, state, created };
  if (state !== 'sealed' && state !== 'retired') return undefined;
  if (!isTime(sealedAt) || !isTime(lastAt) || !isCount(records) || !isCount(uploadBytes) || !isCount(blobBytes)) {
    return undefined;
  }
  if (filterBytes !== undefined && !isCount(filterBytes)) return undefined;
  return { partition, blob, state, created, sealedAt, lastAt, records, uploadBytes, blobBytes, filterBytes };
}

/**
 * Undefined when it is damaged: it is then rebuilt from the partitions.
 * @throws FIRN_REPOSITORY_NEWER.
 */
export function parseManifest(body: Buffer, blob: string): { manifest: Manifest; write: string } | undefined {
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch {
    // Damaged, as any other form.
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { format, write, next, partitions } = value as Readonly<Record<string, unknown>>;
  if (isCount(format) && format > MANIFEST_FORMAT) {
    throw new FirnError('FIRN_REPOSITORY_NEWER', { what: `blob ${blob}`, version: format, supported: MANIFEST_FORMAT });
  }
  if (format !== MANIFEST_FORMAT || typeof write !== 'string' || !isCount(next) || !Array.isArray(partitions)) {
    return undefined;
  }
  const entries = partitions.map(parseEntry).filter((entry) => entry !== undefined);
  const numbers = new Set(entries.map(({ partition }) => partition));
  const active = entries.filter(({ state }) => state === 'active').length;
  const whole = entries.length === partitions.length && numbers.size === entries.length && active <= 1;
  if (!whole || entries.some(({ partition }) => partition >= next)) return undefined;
  return { manifest: { next, partitions: entries }, write };
}
