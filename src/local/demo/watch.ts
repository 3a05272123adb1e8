/** Watching the functions at work, by what they leave in storage. */
import { setTimeout as delay } from 'node:timers/promises';
import { FirnError } from '../../errors.ts';
import { listPartitions } from '../../journal/partition-blob.ts';
import { readPartition } from '../../journal/partition-reading.ts';
import { readSourceState } from '../../publish/due.ts';
import type { Repository } from '../../repository.ts';
import type { Snapshot } from '../../snapshots/snapshot.ts';
import { isBlobFailure } from '../../storage/blob-store.ts';

const POLL_MS = 200;
/** Without any progress for so long, something is broken. */
const STILL_MS_MAX = 120_000;

interface Watching<T> {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (progress: T) => void;
}

/** Polls until `look` answers with `done`; fails when what it tells stands still for too long. */
async function watch<T, R>(
  what: string,
  look: () => Promise<{ progress: T; done?: R }>,
  { signal, onProgress }: Watching<T>,
): Promise<R> {
  let last = '';
  let lastAt = performance.now();
  for (;;) {
    const { progress, done } = await look();
    if (done !== undefined) return done;
    onProgress?.(progress);
    const text = JSON.stringify(progress);
    if (text !== last) {
      last = text;
      lastAt = performance.now();
    }
    if (performance.now() - lastAt > STILL_MS_MAX) {
      throw new FirnError('FIRN_LOCAL_STACK_FAILED', { problem: `${what} has stood still at ${text}` });
    }
    await delay(POLL_MS, undefined, { signal });
  }
}

/** Waits until the blob trigger has recorded so many events of a source in its journal. */
export async function waitUntilRecorded(
  repository: Repository,
  source: string,
  records: number,
  options: Watching<number>,
): Promise<void> {
  const seen = new Set<string>();
  await watch(
    'recording uploads',
    async () => {
      await addRecordIds(repository, source, seen);
      return seen.size >= records ? { progress: seen.size, done: true } : { progress: seen.size };
    },
    options,
  );
}

async function addRecordIds({ state }: Repository, source: string, seen: Set<string>): Promise<void> {
  for await (const { item } of listPartitions(state.store, source)) {
    const { name: blob } = item;
    try {
      for await (const event of readPartition(state.store, blob)) if (event.kind === 'record') seen.add(event.id);
    } catch (error) {
      // Retired while it was read: there is a next look.
      if (!isBlobFailure(error, 'missing')) throw error;
    }
  }
}

/** Asks the functions to seal what is recorded and to publish. */
export async function publishNow(hostUrl: string, source: string, signal?: AbortSignal): Promise<void> {
  const response = await fetch(`${hostUrl}/api/publish/${source}`, { method: 'POST', signal: signal ?? null });
  if (!response.ok) {
    const problem = `asking for a publish was answered with ${response.status} ${await response.text()}`;
    throw new FirnError('FIRN_LOCAL_STACK_FAILED', { problem });
  }
}

/**
 * Waits until nothing of the source waits any more and its head has moved on from `parent`. It looks twice, since a batch
 * may turn into a receipt between the looks at the one and at the other.
 */
export async function waitForSnapshot(
  repository: Repository,
  source: string,
  parent: Snapshot | undefined,
  options: Watching<string>,
): Promise<Snapshot> {
  let quietBefore = false;
  return await watch(
    'publishing',
    async () => {
      const { batchesWaiting, receiptsWritten, openRecords } = await readSourceState(repository, source);
      const quiet = batchesWaiting === 0 && receiptsWritten.length === 0 && !openRecords;
      if (quiet && quietBefore) {
        const head = await repository.snapshots.readHead(source);
        if (head && head.snapshot.id !== parent?.id) return { progress: 'published', done: head.snapshot };
      }
      quietBefore = quiet;
      return { progress: `${batchesWaiting} to archive, ${receiptsWritten.length} to publish` };
    },
    options,
  );
}
