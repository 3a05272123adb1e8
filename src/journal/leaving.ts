/**
 * Leaving and rejoining. A source that is finished is left: what was recorded and is not published yet is not to be archived,
 * and what is recorded afterwards is. Rejoining undoes it, for
 * seven days; then what was left is deleted.
 *
 * Leave and rejoin are records in partitions of their own, so that a partition is left as a whole or not at all. The order of
 * the steps: the active partition is sealed on storage, which shuts out appends that would come before the leave; the
 * partition of the record is written and sealed; then one write of the manifest names both. It counts from that write on, and
 * not at all when the process died before it: a leave that came into force later would take along what was recorded since.
 */
import { randomBytes } from 'node:crypto';
import { FirnError } from '../errors.ts';
import { type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import type { ActivePartition } from './active-partition.ts';
import { type BatchInfo, infoOf } from './batch-info.ts';
import type { JournalParts } from './journal-parts.ts';
import { deleteUnnamed } from './left-behind.ts';
import {
  activePartition,
  batchPartitions,
  leavePartition,
  leftPartitions,
  type Manifest,
  type PartitionMark,
  partitionBlobName,
  type SealedPartition,
} from './manifest.ts';
import { withMark, withSealed } from './manifest-steps.ts';
import { createPartition, deletePartition } from './partition-blob.ts';

const TRIES_MAX = 20;

/** Durable when it resolves; leaving again with nothing recorded since changes nothing. */
export async function leaveSource(parts: JournalParts, active: ActivePartition, options?: CallOptions): Promise<void> {
  const isLeft = (manifest: Manifest) =>
    leavePartition(manifest) !== undefined &&
    activePartition(manifest) === undefined &&
    batchPartitions(manifest).length === 0;
  await recordMark(parts, active, 'leave', isLeft, options);
}

/** @returns the batches that come back. */
export async function rejoinSource(
  parts: JournalParts,
  active: ActivePartition,
  options?: CallOptions,
): Promise<BatchInfo[]> {
  const before = await recordMark(
    parts,
    active,
    'rejoin',
    (manifest) => leavePartition(manifest) === undefined,
    options,
  );
  return before === undefined ? [] : leftPartitions(before).map(infoOf);
}

/** @returns the manifest that the record was added to; undefined when that was not needed. */
async function recordMark(
  parts: JournalParts,
  active: ActivePartition,
  mark: PartitionMark,
  isDone: (manifest: Manifest) => boolean,
  options?: CallOptions,
): Promise<Manifest | undefined> {
  const { state, source, manifests } = parts;
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    const loaded = await manifests.load(options);
    const { manifest } = loaded;
    if (isDone(manifest)) return undefined;
    const open = mark === 'leave' ? activePartition(manifest) : undefined;
    const sealed = open && (await active.seal(open, options));
    const closed = open ? withSealed(manifest, open.blob, sealed) : manifest;
    const created = await createMark(parts, mark, manifest.next, options);
    if (created === undefined) continue;
    const marked = closed && withMark(closed, mark, created.blob, created.sealed);
    if (marked !== undefined && (await manifests.tryWrite(loaded, marked, options)) !== undefined) {
      if (open !== undefined) active.forget(open.blob);
      if (open !== undefined && sealed === undefined) await deletePartition(state, source, open.blob, options);
      return manifest;
    }
    await deleteUnnamed(parts, created.blob, options);
  }
  const problem = `others changed the journal of ${source} each of ${TRIES_MAX} times`;
  throw new FirnError('FIRN_STORAGE_FAILED', { url: state.url, problem });
}

/** @returns undefined when it was taken for a stray and deleted, because this process stood still for so long. */
async function createMark(
  { state, source, now }: JournalParts,
  mark: PartitionMark,
  partition: number,
  options?: CallOptions,
): Promise<{ blob: string; sealed: SealedPartition } | undefined> {
  const created = now();
  const records = [{ kind: mark, nonce: randomBytes(8).toString('hex') }];
  const blob = await createPartition(state, source, { partition, created, kind: 'log' }, { ...options, records });
  const name = partitionBlobName(source, blob);
  try {
    await state.seal(name, options);
    const { bytes, lastModified } = await state.properties(name, options);
    const lastAt = lastModified.toISOString();
    return {
      blob,
      sealed: { sealedAt: created.toISOString(), lastAt, records: 0, uploadBytes: 0, blobBytes: bytes },
    };
  } catch (error) {
    if (isBlobFailure(error, 'missing')) return undefined;
    throw error;
  }
}
