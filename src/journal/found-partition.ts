/** What a partition is that no manifest tells of: found by its blob alone, left by a process that died or by a lost manifest. */
import { type BlobStore, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import { type PartitionMark, partitionBlobName, type SealedPartition } from './manifest.ts';
import { readPartitionKind, sealPartition } from './partition-blob.ts';
import { PartitionCount } from './partition-count.ts';
import type { CompactionEnd } from './record.ts';

export type FoundPartition =
  /** Its maker, or who cleared up, deleted it just now. */
  | { readonly is: 'gone' }
  /** It holds its header at most. */
  | { readonly is: 'empty' }
  /** Records as they were appended. */
  | { readonly is: 'log'; readonly sealed: SealedPartition }
  /** A leave or a rejoin. */
  | { readonly is: 'mark'; readonly mark: PartitionMark; readonly sealed: SealedPartition }
  /** A compacted partition, whole: it has all the records that its end tells of. */
  | { readonly is: 'compacted'; readonly end: CompactionEnd; readonly sealed: SealedPartition }
  /**
   * A compacted partition that is sealed, so it was whole once, and lost its end or a record since: what it replaces is not
   * known, or it does not hold all of it.
   */
  | { readonly is: 'broken'; readonly sealed: SealedPartition }
  /** A compacted partition without its end. It is not sealed: whoever writes it may be at work. */
  | { readonly is: 'unfinished' };

/** Seals the partition, unless it is unfinished, and says what it is. */
export async function examinePartition(
  state: BlobStore,
  source: string,
  blob: string,
  options: CallOptions & { readonly now: () => Date },
): Promise<FoundPartition> {
  try {
    return await examine(state, source, blob, options);
  } catch (error) {
    if (isBlobFailure(error, 'missing')) return { is: 'gone' };
    throw error;
  }
}

async function examine(
  state: BlobStore,
  source: string,
  blob: string,
  { now, ...options }: CallOptions & { readonly now: () => Date },
): Promise<FoundPartition> {
  const count = new PartitionCount(state, source, blob);
  const isCompacted = (await readPartitionKind(state, source, blob, options)) === 'compacted';
  if (isCompacted) {
    const properties = await state.properties(partitionBlobName(source, blob), options);
    await count.readTo(properties, options);
    if (count.control?.kind !== 'end' && !properties.sealed) return { is: 'unfinished' };
  }
  const sealed = await sealPartition(state, source, blob, { ...options, now, count });
  if (sealed === undefined) return { is: 'empty' };
  const { control } = count;
  if (control?.kind === 'end') {
    return control.records === sealed.records ? { is: 'compacted', end: control, sealed } : { is: 'broken', sealed };
  }
  if (isCompacted) return { is: 'broken', sealed };
  if (control !== undefined && count.records === 0) return { is: 'mark', mark: control.kind, sealed };
  return { is: 'log', sealed };
}
