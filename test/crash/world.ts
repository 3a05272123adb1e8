/**
 * A small world for crash tests: an account in memory, a clock, what the users know, and processes that work on it and may
 * die. A world can be copied, so a step is run from the same beginning for every way to die in it.
 */
import { setImmediate as afterIo } from 'node:timers/promises';
import { archiveBatch } from '../../src/archive/archive-batch.ts';
import { batchesWithoutReceipt, recordUpload, sealDueBatches } from '../../src/archive/batches.ts';
import { isFirnError } from '../../src/errors.ts';
import { findRepairNeed, runRepair } from '../../src/index/repair-run.ts';
import { journalSources } from '../../src/journal/journal.ts';
import { sourcesDue } from '../../src/publish/due.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import { type Containers, openRepository, type Repository } from '../../src/repository.ts';
import { type Environment, readSettings, repositoryNames } from '../../src/settings.ts';
import { type BlobStore, isBlobFailure } from '../../src/storage/blob-store.ts';
import { createMemoryAccount, type MemoryAccount } from '../kit/memory-blob-store.ts';
import { type Life, mortalContainers } from '../kit/mortal.ts';

/** So that a few chunks split a shard. */
export const SHARD_ENTRIES_MAX = 2;
export const START_MS = Date.parse('2026-01-01T00:00:00Z');
/** Longer than a lease, and than a partition waits that no manifest names. */
const LATER_MS = 20 * 60 * 1000;
/** Longer than parts of an attempt are kept that never got its receipt. */
const MUCH_LATER_MS = 30 * 24 * 60 * 60 * 1000;

/** Of a repository in any account; the clock is the one that repositories are opened with. */
export interface World {
  readonly account: Containers;
  readonly clock: { ms: number };
  readonly environment: Environment;
  /** Names of uploads whose event was acknowledged: it never comes again. */
  readonly acknowledged: Set<string>;
  /** The passphrases that the user may have to try. */
  readonly passphrases: string[];
  /** A folder of this machine, for what is archived and restored here. */
  readonly folder: string;
}

export interface MemoryWorld extends World {
  readonly account: MemoryAccount;
}

export function createWorld(folder: string, environment: Environment, passphrases: string[]): MemoryWorld {
  const clock = { ms: START_MS };
  const account = createMemoryAccount({ now: () => clock.ms });
  return { account, clock, environment, acknowledged: new Set(), passphrases, folder };
}

export function copyOf(world: MemoryWorld): MemoryWorld {
  const clock = { ...world.clock };
  return {
    ...world,
    clock,
    account: world.account.clone({ now: () => clock.ms }),
    acknowledged: new Set(world.acknowledged),
    passphrases: [...world.passphrases],
  };
}

/** What one process holds. */
export interface Process {
  readonly world: World;
  readonly containers: Containers;
  /** Opened with the first passphrase of the user that opens it; once a process. */
  readonly repository: () => Promise<Repository>;
}

export function startProcess(world: World, life?: Life): Process {
  const containers = life === undefined ? world.account : mortalContainers(world.account, life);
  let opened: Promise<Repository> | undefined;
  const open = async (): Promise<Repository> => {
    for (const [at, passphrase] of world.passphrases.entries()) {
      const { settings } = readSettings({ ...world.environment, FIRN_PASSPHRASE: passphrase });
      const now = () => new Date(world.clock.ms);
      try {
        return await openRepository(containers, settings, { now, shardEntriesMax: SHARD_ENTRIES_MAX });
      } catch (error) {
        const isLast = at === world.passphrases.length - 1;
        if (isLast || !isFirnError(error, 'FIRN_PASSPHRASE_WRONG')) throw error;
      }
    }
    throw new Error('the user knows no passphrase');
  };
  return {
    world,
    containers,
    repository: () => {
      opened ??= open();
      return opened;
    },
  };
}

/** Lets what a dead process had under way run out: it has no effect any more. */
export async function quiet(): Promise<void> {
  for (let turns = 0; turns < 3; turns += 1) await afterIo();
}

/** As its users see it. */
export function inboxOf({ account, environment }: World): BlobStore {
  return account.container(repositoryNames(environment.FIRN_REPOSITORY ?? 'firn').inbox);
}

/** An upload by a user, and its event, which comes until it is acknowledged. */
export async function uploadUntilAcknowledged(process: Process, name: string, content: string | Buffer): Promise<void> {
  const { world } = process;
  const event = `${name} ${String(content).slice(0, 40)}`;
  if (world.acknowledged.has(event)) return;
  const inbox = inboxOf(world);
  const bytes = Buffer.from(content);
  const there = await inbox.read(name).catch(() => undefined);
  if (there?.body.equals(bytes) !== true) {
    await inbox.delete(name);
    await inbox.create(name, bytes).catch((error: unknown) => {
      // Its own, whose answer was lost.
      if (!isBlobFailure(error, 'exists')) throw error;
    });
  }
  await recordUpload(await process.repository(), name);
  world.acknowledged.add(event);
}

/** What the functions' timers, queue and orchestrations do by and by, until nothing is left to do and all is swept. */
export async function runTimers(world: World): Promise<void> {
  for (const waitMs of [LATER_MS, LATER_MS, MUCH_LATER_MS, LATER_MS]) {
    world.clock.ms += waitMs;
    await runTimersOnce(world);
  }
}

/** @param force seals whatever is recorded, where no clock can be moved. */
export async function runTimersOnce(world: World, { force = false } = {}): Promise<void> {
  const repository = await startProcess(world).repository();
  const need = await findRepairNeed(repository);
  if (need.unfinished !== undefined) await runRepair(repository, { roots: need.unfinished.roots ?? undefined });
  for (let rounds = 0; ; rounds += 1) {
    if (rounds === 10) throw new Error('the timers do not come to an end');
    await sealDueBatches(repository, { force });
    let archived = 0;
    for await (const source of journalSources(repository.state.store)) {
      for (const { batch } of await batchesWithoutReceipt(repository, source)) {
        await archiveBatch(repository, { source, batch });
        archived += 1;
      }
    }
    let published = 0;
    for await (const source of sourcesDue(repository)) {
      if ((await publishSource(repository, source)) !== undefined) published += 1;
    }
    if (archived + published === 0) break;
  }
}

/** As a process does whose publishes others may win: that another was faster is no failure. */
export async function publishAll(repository: Repository, source: string): Promise<void> {
  for (let conflicts = 0; ; ) {
    try {
      if ((await publishSource(repository, source)) === undefined) return;
    } catch (error) {
      conflicts += 1;
      if (!isFirnError(error, 'FIRN_PUBLISH_CONFLICT') || conflicts > 10) throw error;
    }
  }
}
