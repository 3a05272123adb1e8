/**
 * A small encrypted repository with a blob of every kind that Firn stores, the account as it was at earlier moments, and work
 * under way; and a visitor, who does in it what users, timers and operators do, and notes what they are told.
 */
import { createHash } from 'node:crypto';
import { archiveBatch } from '../../src/archive/archive-batch.ts';
import { batchesWithoutReceipt, markBatchFailed, recordInJournal, sealDueBatches } from '../../src/archive/batches.ts';
import { isFirnError } from '../../src/errors.ts';
import { walkTree } from '../../src/filetree/walk.ts';
import { findDrift } from '../../src/index/repair-check.ts';
import { runRepair } from '../../src/index/repair-run.ts';
import { allRoots } from '../../src/index/root-view.ts';
import { planPublish } from '../../src/publish/plan.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import { changeRepositoryPassphrase, createRepository, openRepository, type Repository } from '../../src/repository.ts';
import { createReadAheadBudget } from '../../src/restore/read-ahead.ts';
import { readFileContent } from '../../src/restore/read-file.ts';
import { readSettings, type Settings } from '../../src/settings.ts';
import { type Snapshot, snapshotName } from '../../src/snapshots/snapshot.ts';
import { SHARD_ENTRIES_MAX, START_MS } from '../crash/world.ts';
import { createMemoryAccount, type MemoryAccount } from '../kit/memory-blob-store.ts';
import { archiveAll, cheapScrypt, upload } from '../kit/repository.ts';
import { outcomeOf } from './hostile.ts';

export interface Variant {
  readonly name: string;
  readonly thinChunks: 'packed' | 'blob';
  readonly inbox: 'keep' | 'consume';
}

export const variants: readonly Variant[] = [
  { name: 'packed pointers, inbox kept', thinChunks: 'packed', inbox: 'keep' },
  { name: 'a blob a pointer, inbox consumed', thinChunks: 'blob', inbox: 'consume' },
];

export const sources = ['photos', 'docs'] as const;
const PASSPHRASE = 'the passphrase';
export const OLD_PASSPHRASE = 'the old passphrase';
const LATER_MS = 20 * 60 * 1000;
const LARGE_BYTES = 4 * 1024 * 1024;

export interface World {
  readonly settings: Settings;
  readonly account: MemoryAccount;
  readonly clock: { ms: number };
  /** The account as it was, oldest first. */
  readonly earlier: readonly MemoryAccount[];
  /** `<source>/<path>` → the digest of every content that it ever had. */
  readonly versions: ReadonlyMap<string, ReadonlySet<string>>;
}

export function copyOf(world: World): World {
  const clock = { ...world.clock };
  return { ...world, clock, account: world.account.clone({ now: () => clock.ms }) };
}

export function openWorld({ account, settings, clock }: World, told: string[] = []): Promise<Repository> {
  return openRepository(account, settings, {
    now: () => new Date(clock.ms),
    onWarning: (error) => told.push(error.code),
    shardEntriesMax: SHARD_ENTRIES_MAX,
  });
}

export function digestOf(content: Buffer | string): string {
  return createHash('sha256').update(content).digest('hex').slice(0, 12);
}

export async function createWorld({ thinChunks, inbox }: Variant): Promise<World> {
  const clock = { ms: START_MS };
  const account = createMemoryAccount({ now: () => clock.ms });
  const environment = { FIRN_LOCK_WAIT_SECONDS: '0', FIRN_INBOX: inbox };
  const { settings: old } = readSettings({ ...environment, FIRN_PASSPHRASE: OLD_PASSPHRASE });
  const { settings } = readSettings({ ...environment, FIRN_PASSPHRASE: PASSPHRASE });
  const chunking = { method: 'file' } as const;
  await createRepository(account, old, { encrypted: true, thinChunks, chunking, scryptCost: cheapScrypt });
  const earlier = [account.clone()];
  await changeRepositoryPassphrase(account, old, { to: PASSPHRASE, keepOld: false }, { scryptCost: cheapScrypt });
  const versions = new Map<string, Set<string>>();
  const world: World = { settings, account, clock, earlier, versions };
  const repository = await openWorld(world);
  const put = async (name: string, content: Buffer | string) => {
    clock.ms += 1_000;
    await upload(repository, name, content);
    versions.set(name, (versions.get(name) ?? new Set()).add(digestOf(content)));
  };
  /** What is published has its chunk under a chosen root, whatever the key: two of them fill a shard, and three split it. */
  const textUnder = (root: string, name: string): string => {
    let n = 0;
    while (!repository.keys.hash(Buffer.from(`${name} ${n}`)).startsWith(root)) n += 1;
    return `${name} ${n}`;
  };
  const publish = async (source: string) => {
    await archiveAll(repository, source);
    await planPublish(repository, source);
    earlier.push(account.clone());
    await publishSource(repository, source);
    earlier.push(account.clone());
  };

  await put('photos/a/one', textUnder('a', 'the first'));
  await put('photos/a/two', textUnder('a', 'the second, to be removed'));
  await put('photos/same', textUnder('b', 'the same in both'));
  await put('photos/empty', '');
  await put('photos/large', textUnder('c', 'z'.repeat(LARGE_BYTES)));
  await publish('photos');
  await put('docs/same', textUnder('b', 'the same in both'));
  await put('docs/other', textUnder('b', 'beside it'));
  await publish('docs');
  await put('photos/a/one', textUnder('a', 'the first, changed'));
  await put('photos/c/four', textUnder('a', 'the fourth'));
  await recordInJournal(repository, 'photos', { kind: 'removal', path: 'a/two', nonce: 'one' });
  await publish('photos');
  // Under way: a receipt without a plan, one with, a batch without a receipt that failed, and what is in no batch yet.
  await put('docs/more', 'more in docs');
  await archiveAll(repository, 'docs');
  await put('photos/d/five', 'the fifth');
  await put('photos/a/one', 'the first, changed again');
  earlier.push(account.clone());
  await archiveAll(repository, 'photos');
  await planPublish(repository, 'photos');
  await put('photos/d/six', 'the sixth');
  await put('photos/d/seven', 'the seventh');
  await sealDueBatches(repository, { source: 'photos', force: true });
  clock.ms += 60 * 60 * 1000;
  await sealDueBatches(repository, { source: 'photos' });
  for (const { batch } of await batchesWithoutReceipt(repository, 'photos')) {
    await markBatchFailed(repository, { source: 'photos', batch });
  }
  await put('photos/d/eight', 'the eighth');
  earlier.push(account.clone());
  await put('photos/d/nine', 'the ninth');
  const shards = await Array.fromAsync(repository.state.store.list({ prefix: 'chunk-index/a' }));
  if (shards.every(({ name }) => name === 'chunk-index/a')) throw new Error('no shard was split');
  return world;
}

/** Path → digest of its content. */
export type Files = Readonly<Record<string, string>>;

export interface Reading {
  /** All that can be read of all snapshots, by name. */
  readonly snapshots: ReadonlyMap<string, { readonly snapshot: Snapshot; readonly files: Files }>;
  /** Source → what its users are given as its latest; undefined where they are given an error, or nothing. */
  readonly latest: Readonly<Record<string, Files | undefined>>;
}

/** @param told is given the code of every error and warning. */
export function visit(world: World, told: string[]) {
  async function attempt<T>(work: () => Promise<T>): Promise<T | undefined> {
    const outcome = await outcomeOf(work);
    if ('value' in outcome) return outcome.value;
    told.push(isFirnError(outcome.error) ? outcome.error.code : outcome.error.message);
    return undefined;
  }

  async function filesOf(repository: Repository, { root }: Snapshot, known: Map<string, string>): Promise<Files> {
    const files: Record<string, string> = {};
    const { keys, filetrees, chunks } = repository;
    const parts = { keys, filetrees, chunks, index: repository.createIndex(), readAhead: createReadAheadBudget() };
    await attempt(async () => {
      const onDamaged = (_: string, { code }: { code: string }) => void told.push(code);
      for await (const { path, entry } of walkTree(filetrees, root, { onDamaged })) {
        if (entry.type !== 'file') continue;
        const read = async () => digestOf(Buffer.concat(await Array.fromAsync(readFileContent(parts, path, entry))));
        const key = JSON.stringify([entry.bytes, entry.content, entry.refs]);
        const digest = known.get(key) ?? (await attempt(read));
        if (digest === undefined) continue;
        known.set(key, digest);
        files[path] = digest;
      }
    });
    return files;
  }

  /** What a new process lists and restores. */
  async function readAll(): Promise<Reading> {
    const snapshots = new Map<string, { snapshot: Snapshot; files: Files }>();
    const latest: Record<string, Files | undefined> = {};
    const repository = await attempt(() => openWorld(world, told));
    if (repository === undefined) return { snapshots, latest };
    /** Each content is read once. */
    const known = new Map<string, string>();
    for (const name of (await attempt(() => repository.snapshots.names())) ?? []) {
      const snapshot = await attempt(() => repository.snapshots.get(name));
      if (snapshot) snapshots.set(name, { snapshot, files: await filesOf(repository, snapshot, known) });
    }
    for (const source of sources) {
      const snapshot = await attempt(() => repository.snapshots.resolve(`latest:${source}`));
      if (snapshot) latest[source] = snapshots.get(snapshotName(snapshot))?.files;
    }
    return { snapshots, latest };
  }

  /** Seals, archives and publishes what waits. */
  async function runTimers(): Promise<void> {
    const repository = await attempt(() => openWorld(world, told));
    if (repository === undefined) return;
    for (let round = 0; round < 2; round += 1) {
      world.clock.ms += LATER_MS;
      for (const source of sources) {
        await attempt(() => sealDueBatches(repository, { source, force: true }));
        for (const { batch } of (await attempt(() => batchesWithoutReceipt(repository, source))) ?? []) {
          await attempt(() => archiveBatch(repository, { source, batch }));
        }
        await attempt(() => publishSource(repository, source));
      }
    }
  }

  /** Looks for drift of the index, then makes it anew. */
  async function repair(): Promise<void> {
    world.clock.ms += LATER_MS;
    const repository = await attempt(() => openWorld(world, told));
    if (repository === undefined) return;
    const drifted = await attempt(() => findDrift(repository, allRoots, { now: () => new Date(world.clock.ms) }));
    for (const { root } of drifted ?? []) told.push(`drift in ${root}`);
    const report = await attempt(() => runRepair(repository, { roots: undefined, shardEntriesMax: SHARD_ENTRIES_MAX }));
    for (const { blob } of report?.quarantined ?? []) told.push(`set aside: ${blob}`);
  }

  return { attempt, readAll, runTimers, repair };
}
