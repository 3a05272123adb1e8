import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { archiveAndPublish } from '../../src/cli/archive-and-publish.ts';
import { planPublish } from '../../src/publish/plan.ts';
import { type Containers, openRepository, type Repository } from '../../src/repository.ts';
import { readSettings } from '../../src/settings.ts';
import { intercept } from '../chunks/intercept.ts';
import { makeTree, temporaryFolder } from '../kit/local-tree.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { archiveAll, contentOf, createTestRepository, upload } from '../kit/repository.ts';
import { PASSPHRASE } from './cli.ts';

const isReceipt = (name: string) => /^receipts\/test\/scan-[^/]*\/receipt$/.test(name);

/** Storage where `before` runs before the receipt of a scan is written. */
function racing(before: (race: number) => Promise<void>): { containers: Containers; undisturbed: Containers } {
  const account = createMemoryAccount();
  let races = 0;
  const containers: Containers = {
    container: (name) =>
      intercept(account.container(name), {
        create: async (next, blob, ...rest) => {
          if (isReceipt(blob)) {
            races += 1;
            await before(races);
          }
          return await next(blob, ...rest);
        },
      }),
  };
  return { containers, undisturbed: account };
}

describe('archiving a folder', () => {
  it('scans again when another publish was faster, and comes to a snapshot on top of it', async () => {
    const mine = await temporaryFolder();
    const theirs = await temporaryFolder();
    await makeTree(mine, { a: 'mine', b: 'both' });
    await makeTree(theirs, { a: 'theirs', b: 'both', c: 'only theirs' });
    const storage = racing(async (race) => {
      if (race === 1) await archiveAndPublish(await other.reopen(), theirs, 'test');
    });
    const { repository } = await createTestRepository({ containers: storage.containers });
    const other = createOver(storage.undisturbed);
    const stages: string[] = [];
    const { snapshot, unchanged, stored } = await archiveAndPublish(repository, mine, 'test', {
      onStage: (stage) => stages.push(stage),
    });
    expect(stages).toEqual(['publish', 'scan-again', 'publish']);
    expect(unchanged).toBe(false);
    const [first, second] = await Array.fromAsync(repository.snapshots.list());
    expect(second).toEqual(snapshot);
    expect(snapshot.parent).toBe(first?.id);
    expect(await contentOf(repository, first!)).toEqual({ a: 'theirs', b: 'both', c: 'only theirs' });
    expect(await contentOf(repository, snapshot)).toEqual({ a: 'mine', b: 'both' });
    // What the first scan stored counts, though its receipt came too late.
    expect(stored.newChunks).toBeGreaterThanOrEqual(2);
  });

  it('gives up when others are faster five times', async () => {
    const mine = await temporaryFolder();
    const theirs = await temporaryFolder();
    await makeTree(mine, { a: 'mine' });
    const storage = racing(async (race) => {
      await writeFile(path.join(theirs, 'a'), `theirs ${race}`);
      await archiveAndPublish(await other.reopen(), theirs, 'test', { rehash: true });
    });
    const { repository } = await createTestRepository({ containers: storage.containers });
    const other = createOver(storage.undisturbed);
    await expect(archiveAndPublish(repository, mine, 'test')).rejects.toMatchObject({ code: 'FIRN_PUBLISH_CONFLICT' });
    expect(await repository.snapshots.names()).toHaveLength(5);
  });

  it('carries out a plan that another publish died with, then scans again', async () => {
    const { repository, reopen } = await createTestRepository();
    await upload(repository, 'test/uploaded', 'an upload');
    await archiveAll(repository, 'test');
    await planPublish(repository, 'test');
    const folder = await temporaryFolder();
    await makeTree(folder, { a: 'mine' });
    const { snapshot } = await archiveAndPublish(await reopen(), folder, 'test');
    const [first, second] = await Array.fromAsync(repository.snapshots.list());
    expect(await contentOf(repository, first!)).toEqual({ uploaded: 'an upload' });
    expect(second).toEqual(snapshot);
    expect(await contentOf(repository, snapshot)).toEqual({ a: 'mine' });
  });

  it('makes a first snapshot of an empty folder, and no second one', async () => {
    const { repository } = await createTestRepository();
    const folder = await temporaryFolder();
    const first = await archiveAndPublish(repository, folder, 'test');
    expect(first).toMatchObject({ unchanged: false, snapshot: { totals: { files: 0, folders: 0 } } });
    const second = await archiveAndPublish(repository, folder, 'test');
    expect(second).toMatchObject({ unchanged: true, snapshot: { id: first.snapshot.id } });
  });

  it('makes no snapshot when everything is read again and nothing differs', async () => {
    const { repository } = await createTestRepository();
    const folder = await temporaryFolder();
    await makeTree(folder, { a: 'one', b: 'two' });
    const first = await archiveAndPublish(repository, folder, 'test');
    const second = await archiveAndPublish(repository, folder, 'test', { rehash: true });
    expect(second).toMatchObject({ unchanged: true, snapshot: { id: first.snapshot.id }, stored: { newChunks: 0 } });
    expect(second.outcome.totals.files).toBe(2);
    expect(await repository.snapshots.names()).toHaveLength(1);
  });
});

/** Another process over the same storage. */
function createOver(containers: Containers): { reopen(): Promise<Repository> } {
  const { settings } = readSettings({ FIRN_PASSPHRASE: PASSPHRASE });
  return { reopen: () => openRepository(containers, settings) };
}
