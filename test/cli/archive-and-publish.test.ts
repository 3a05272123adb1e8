import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { archiveAndPublish } from '../../src/cli/archive-and-publish.ts';
import { walkTree } from '../../src/filetree/walk.ts';
import { rootOf } from '../../src/index/root-view.ts';
import { planPublish } from '../../src/publish/plan.ts';
import { type Containers, openRepository, type Repository } from '../../src/repository.ts';
import { readSettings } from '../../src/settings.ts';
import type { Snapshot } from '../../src/snapshots/snapshot.ts';
import { intercept } from '../chunks/intercept.ts';
import { makeTree, temporaryFolder, temporaryFolderOf } from '../kit/local-tree.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { archiveAll, contentOf, createTestRepository, upload } from '../kit/repository.ts';
import { PASSPHRASE, runCli } from './cli.ts';

const isReceipt = (name: string) => /^receipts\/test\/scan-[^/]*\/receipt$/.test(name);

interface Racing {
  readonly containers: Containers;
  readonly undisturbed: Containers;
  /** Requests for shards of the chunk index, as `read chunk-index/a`. */
  readonly shardCalls: string[];
}

/** Storage where `before` runs before the receipt of a scan is written. */
function racing(before: (race: number) => Promise<void>): Racing {
  const account = createMemoryAccount();
  const shardCalls: string[] = [];
  const note = (call: string, blob: string) => {
    if (blob.startsWith('chunk-index/')) shardCalls.push(`${call} ${blob}`);
  };
  let races = 0;
  const containers: Containers = {
    container: (name) =>
      intercept(account.container(name), {
        create: async (next, blob, ...rest) => {
          if (isReceipt(blob)) {
            races += 1;
            await before(races);
          }
          note('create', blob);
          return await next(blob, ...rest);
        },
        replace: async (next, blob, ...rest) => {
          note('replace', blob);
          return await next(blob, ...rest);
        },
        read: async (next, blob, ...rest) => {
          note('read', blob);
          return await next(blob, ...rest);
        },
        list: (next, options) => {
          note('list', options?.prefix ?? '');
          return next(options);
        },
      }),
  };
  return { containers, undisturbed: account, shardCalls };
}

/** Prefix → ETag of every shard. */
async function shardsOf({ state }: Repository): Promise<Map<string, string>> {
  const shards = await Array.fromAsync(state.store.list({ prefix: 'chunk-index/' }));
  return new Map(shards.map(({ name, etag }) => [name, etag]));
}

/** The chunks of all files of a snapshot. */
async function chunksOf({ filetrees }: Repository, { root }: Snapshot): Promise<string[]> {
  const chunks: string[] = [];
  for await (const { entry } of walkTree(filetrees, root)) {
    if (entry.type === 'file') chunks.push(...(await Array.fromAsync(filetrees.chunksOf(entry))));
  }
  return chunks;
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
      onPublish: () => stages.push('publish'),
      onScanAgain: () => stages.push('scan again'),
    });
    expect(stages).toEqual(['publish', 'scan again', 'publish']);
    expect(unchanged).toBe(false);
    const [first, second] = await Array.fromAsync(repository.snapshots.list());
    expect(second).toEqual(snapshot);
    expect(snapshot.parent).toBe(first?.id);
    expect(await contentOf(repository, first!)).toEqual({ a: 'theirs', b: 'both', c: 'only theirs' });
    expect(await contentOf(repository, snapshot)).toEqual({ a: 'mine', b: 'both' });
    // What the first scan stored counts, though its receipt came too late.
    expect(stored.newChunks).toBeGreaterThanOrEqual(2);
  });

  it('is told both heads when another publish was faster, finds what that stored, and reads only the shards it changed', async () => {
    const files = Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`file ${n}`, `content ${n}`]));
    const mine = await temporaryFolderOf(files);
    const theirs = await temporaryFolderOf({ ...files, twin: 'of both', other: 'only theirs' });
    const told: unknown[] = [];
    const published: Snapshot[] = [];
    let changed: string[] = [];
    const storage = racing(async (race) => {
      if (race !== 2) return;
      const their = await other.reopen();
      const before = await shardsOf(their);
      published.push((await archiveAndPublish(their, theirs, 'test')).snapshot);
      const after = await shardsOf(their);
      changed = [...after.keys()].filter((shard) => after.get(shard) !== before.get(shard));
      storage.shardCalls.length = 0;
    });
    const { repository } = await createTestRepository({ containers: storage.containers });
    const other = createOver(storage.undisturbed);
    const first = await archiveAndPublish(repository, mine, 'test');
    await writeFile(path.join(mine, 'mine'), 'of both');
    const { snapshot } = await archiveAndPublish(repository, mine, 'test', {
      onScanAgain: (difference) => told.push(difference),
    });
    const calls = storage.shardCalls.splice(0).sort();
    const [theirSnapshot] = published;
    expect(told).toEqual([{ known: first.snapshot.id, actual: theirSnapshot?.id }]);
    expect(snapshot).toMatchObject({ parent: theirSnapshot?.id, stored: { newChunks: 0 } });
    expect(await contentOf(repository, snapshot)).toEqual({ ...files, mine: 'of both' });
    // Every file was looked up, since theirs have other times; of what they changed, A needs one shard or both.
    const needed = new Set((await chunksOf(repository, snapshot)).map((hash) => `chunk-index/${rootOf(hash)}`));
    const reads = changed.filter((shard) => needed.has(shard)).map((shard) => `read ${shard}`);
    expect(reads.length).toBeGreaterThan(0);
    expect(needed.size).toBeGreaterThan(10);
    expect(calls).toEqual(['list chunk-index/', ...reads].sort());
  });

  it('says on the command line which snapshot came first', async () => {
    const theirs = await temporaryFolderOf({ a: 'theirs' });
    const storage = racing(async (race) => {
      if (race === 1) await archiveAndPublish(await other.reopen(), theirs, 'test');
    });
    const { repository } = await createTestRepository({ containers: storage.containers });
    const other = createOver(storage.undisturbed);
    const mine = await temporaryFolderOf({ a: 'mine' });
    const { code, stderr } = await runCli(['archive', mine, '--source', 'test'], { containers: storage.containers });
    expect(code).toBe(0);
    const [first] = await Array.fromAsync(repository.snapshots.list());
    expect(stderr).toBe(`Another publish of test was faster (snapshot ${first?.id}); scanning again.\n`);
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
    const failure = await archiveAndPublish(repository, mine, 'test').catch((error: unknown) => error);
    const ids = await Array.fromAsync(repository.snapshots.list(), ({ id }) => id);
    expect(ids).toHaveLength(5);
    expect(failure).toMatchObject({ code: 'FIRN_PUBLISH_CONFLICT', details: { known: ids[3], actual: ids[4] } });
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
