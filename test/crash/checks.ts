/** What must hold in a world after whatever died in it was followed by the next invocations. */
import { expect } from 'vitest';
import { isFirnError } from '../../src/errors.ts';
import { findRepairMarker } from '../../src/index/marker.ts';
import type { Repository } from '../../src/repository.ts';
import type { Snapshot } from '../../src/snapshots/snapshot.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { contentOf } from '../kit/repository.ts';
import { inboxOf, startProcess, type World } from './world.ts';

/** Source → path → content of its latest snapshot. */
export type Expected = Readonly<Record<string, Readonly<Record<string, string>>>>;

export interface CheckOptions {
  readonly expected: Expected;
  /** Every content that a path ever had; a snapshot may hold no other. */
  readonly versions: ReadonlyMap<string, ReadonlySet<string>>;
  /** Chunk blobs that a whole run leaves; what died may leave one bundle more for each attempt. */
  readonly chunkBlobs: number;
  /** An upload that storage refused to delete: it stays in the inbox, as its user is told. */
  readonly stays?: string | undefined;
}

async function names(store: BlobStore, prefix = ''): Promise<string[]> {
  return await Array.fromAsync(store.list({ prefix }), ({ name }) => name);
}

export async function checkWorld(world: World, options: CheckOptions): Promise<void> {
  await checkSnapshots(world, options);
  const repository = await startProcess(world).repository();
  await checkNothingLeft(world, repository, options.stays);
  const blobs = await names(repository.data.store, 'chunks/');
  // One attempt died: at most what it had stored, one bundle and its chunks that are too large for one, is there twice.
  expect(blobs.length, 'chunk blobs').toBeLessThanOrEqual(options.chunkBlobs + 2);
}

/** Whoever reads now gets what was published, or is told that a repair is not finished. */
export async function checkReaders(world: World): Promise<void> {
  const repository = await startProcess(world).repository();
  for await (const snapshot of repository.snapshots.list()) {
    try {
      await contentOf(repository, snapshot);
    } catch (error) {
      if (!isFirnError(error, 'FIRN_REPAIR_UNFINISHED')) throw error;
    }
  }
}

/** Every snapshot is whole, and the latest of each source is what its users expect. */
export async function checkSnapshots(
  world: World,
  { expected, versions }: Omit<CheckOptions, 'chunkBlobs'>,
): Promise<void> {
  const repository = await startProcess(world).repository();
  const latest = new Map<string, Snapshot>();
  const parents = new Set<string>();
  for await (const snapshot of repository.snapshots.list()) {
    const { source, parent, id } = snapshot;
    // A chain: nothing is published beside or in front of what was published.
    expect(parent, `parent of ${id}`).toBe(latest.get(source)?.id);
    expect(parents.has(id)).toBe(false);
    parents.add(id);
    latest.set(source, snapshot);
    for (const [path, content] of Object.entries(await contentOf(repository, snapshot))) {
      const known = versions.get(`${source}/${path}`) ?? new Set();
      expect(known.has(content), `${source}/${path} in ${id} has a content that it had once`).toBe(true);
    }
  }
  for (const [source, files] of Object.entries(expected)) {
    const snapshot = latest.get(source);
    expect((await repository.snapshots.readHead(source))?.snapshot.id, `head of ${source}`).toBe(snapshot?.id);
    const found = snapshot === undefined ? {} : await contentOf(repository, snapshot);
    expect(found, `latest of ${source}`).toEqual(files);
  }
  expect([...latest.keys()].sort()).toEqual(Object.keys(expected).sort());
}

/** No lock is held, and nothing temporary stays in the state container. */
async function checkNothingLeft(world: World, repository: Repository, stays: string | undefined): Promise<void> {
  const { store } = repository.state;
  expect(await findRepairMarker(store)).toBeUndefined();
  for (const prefix of ['plans/', 'receipts/', 'failed/']) expect(await names(store, prefix), prefix).toEqual([]);
  for (const name of await names(store, 'locks/')) {
    await store.acquireLease(name, '00000000-0000-4000-8000-000000000000', 15);
    await store.releaseLease(name, '00000000-0000-4000-8000-000000000000');
  }
  const sources = new Set((await names(store, 'journal/')).map((name) => name.split('/')[1] ?? ''));
  for (const source of sources) {
    const journal = await names(store, `journal/${source}/`);
    const partitions = journal.filter((name) => /\/\d{10}-[0-9a-f]{8}$/.test(name));
    // The active one.
    expect(partitions.length, journal.join(' ')).toBeLessThanOrEqual(1);
    expect(await repository.journalOf(source).batches()).toEqual([]);
  }
  const inbox = (await names(inboxOf(world))).filter((name) => name !== stays);
  if (world.environment.FIRN_INBOX === 'consume') expect(inbox).toEqual([]);
}
