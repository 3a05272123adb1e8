/** Repositories for tests: in memory, with a passphrase that costs nothing, and uploads that announce themselves. */

import { archiveBatch } from '../../src/archive/archive-batch.ts';
import { recordUpload, sealDueBatches } from '../../src/archive/batches.ts';
import { walkTree } from '../../src/filetree/walk.ts';
import {
  type Containers,
  type CreateOptions,
  createRepository,
  openRepository,
  type Repository,
} from '../../src/repository.ts';
import { type Environment, readSettings, type Settings } from '../../src/settings.ts';
import type { Snapshot } from '../../src/snapshots/snapshot.ts';
import type { BlobMetadata } from '../../src/storage/blob-store.ts';
import { createMemoryAccount } from './memory-blob-store.ts';

export const cheapScrypt = { n: 16, r: 1, p: 1 } as const;

export interface TestRepository {
  readonly containers: Containers;
  readonly repository: Repository;
  /** Another process: the same storage, nothing in memory. */
  reopen(): Promise<Repository>;
}

export async function createTestRepository(
  options: Partial<CreateOptions> & { environment?: Environment; containers?: Containers } = {},
): Promise<TestRepository> {
  const { environment = {}, containers = createMemoryAccount(), ...create } = options;
  const encrypted = create.encrypted ?? true;
  const passphrase = encrypted ? { FIRN_PASSPHRASE: 'correct horse battery staple' } : {};
  const settings: Settings = readSettings({ ...passphrase, ...environment }).settings;
  const repository = await createRepository(containers, settings, { scryptCost: cheapScrypt, ...create, encrypted });
  return { containers, repository, reopen: () => openRepository(containers, settings, create) };
}

/** Puts a blob into the inbox (over the one that is there) and records its event. */
export async function upload(
  repository: Repository,
  name: string,
  content: Uint8Array | string,
  metadata: BlobMetadata = {},
): Promise<void> {
  const { inbox } = repository;
  await inbox.delete(name);
  await inbox.create(name, Buffer.from(content), { metadata });
  await recordUpload(repository, name);
}

/** Seals what is recorded and archives all batches, as the timer and the queue would. */
export async function archiveAll(repository: Repository, source: string): Promise<string[]> {
  const batches = await sealDueBatches(repository, { source, force: true });
  for (const reference of batches) await archiveBatch(repository, reference);
  return batches.map(({ batch }) => batch);
}

/** Path → content of the files of a snapshot, read through the index and the chunks. */
export async function contentOf(repository: Repository, snapshot: Snapshot): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  const index = repository.createIndex();
  for await (const { path, entry } of walkTree(repository.filetrees, snapshot.root)) {
    if (entry.type !== 'file') continue;
    const pieces: Buffer[] = [];
    for await (const hash of repository.filetrees.chunksOf(entry)) {
      const found = (await index.lookup([hash])).get(hash);
      if (found === undefined || found.pending) throw new Error(`${path}: chunk ${hash} is not in the shards`);
      pieces.push(await repository.chunks.read(found.location));
    }
    files[path] = Buffer.concat(pieces).toString();
  }
  return files;
}
