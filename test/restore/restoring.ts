/** Repositories, snapshots and restores for the tests of this folder. */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { expect } from 'vitest';
import { archiveAndPublish } from '../../src/cli/archive-and-publish.ts';
import type { FileEntry, FolderEntry } from '../../src/filetree/entry.ts';
import { findEntry } from '../../src/filetree/walk.ts';
import type { Repository } from '../../src/repository.ts';
import { type RestoreOptions, restoreTree } from '../../src/restore/restore-tree.ts';
import type { Snapshot } from '../../src/snapshots/snapshot.ts';
import { filesIn, type LocalTree, makeTree, temporaryFolder } from '../kit/local-tree.ts';
import { createTestRepository } from '../kit/repository.ts';

/** Chunks of a few KiB, so that small test files have several. */
export const smallChunks = { method: 'fastcdc', minBytes: 2048, averageBytes: 4096, maxBytes: 16_384 } as const;

export async function archived(
  tree: LocalTree,
  options: Parameters<typeof createTestRepository>[0] = {},
): Promise<{ repository: Repository; snapshot: Snapshot; folder: string }> {
  const { repository } = await createTestRepository(options);
  const folder = await temporaryFolder();
  await makeTree(folder, tree);
  const { snapshot } = await archiveAndPublish(repository, folder, 'test');
  return { repository, snapshot, folder };
}

/** Restores into a new folder and collects what failed. */
export async function restored(
  repository: Repository,
  snapshot: Snapshot,
  options: RestoreOptions = {},
  into?: string,
) {
  const folder = into ?? path.join(await temporaryFolder(), 'restored');
  const failed: Record<string, string> = Object.create(null);
  const result = await restoreTree(repository, snapshot, folder, {
    ...options,
    onFailed: (at, error) => {
      failed[at] = error.code;
    },
  });
  expect(result.failed).toBe(Object.keys(failed).length);
  return { folder, failed, result, files: await filesIn(folder) };
}

export async function fileAt({ filetrees }: Repository, snapshot: Snapshot, at: string): Promise<FileEntry> {
  const { file } = await findEntry(filetrees, snapshot.root, at);
  if (file?.type !== 'file') throw new Error(`${at} is no file`);
  return file;
}

export async function folderAt({ filetrees }: Repository, snapshot: Snapshot, at: string): Promise<FolderEntry> {
  const { folder } = await findEntry(filetrees, snapshot.root, at);
  if (folder === undefined) throw new Error(`${at} is no folder`);
  return folder;
}

/** The same repository with nothing in memory. */
export async function damagedRepository(
  tree: LocalTree,
  break_: (repository: Repository, snapshot: Snapshot) => Promise<void>,
) {
  const { repository, reopen } = await createTestRepository({ chunking: { method: 'file' } });
  const folder = await temporaryFolder();
  await makeTree(folder, tree);
  const { snapshot } = await archiveAndPublish(repository, folder, 'test');
  await break_(repository, snapshot);
  return { repository: await reopen(), snapshot };
}

/** A snapshot of this tree, for trees that no archive would write. */
export async function archivedRoot(repository: Repository, root: string): Promise<{ snapshot: Snapshot }> {
  const snapshot = await repository.snapshots.create({
    id: randomBytes(8).toString('hex'),
    source: 'test',
    time: new Date().toISOString(),
    parent: undefined,
    root,
    totals: { files: 1, folders: 2, bytes: 4 },
    changes: { added: 1, changed: 0, removed: 0 },
    stored: { newChunks: 0, newBytes: 0, storedBytes: 0 },
    batches: [],
    skipped: { count: 0, paths: [] },
  });
  return { snapshot };
}
