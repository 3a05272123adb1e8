/** Publishers of one repository in memory: each a process of its own, with a name, under one clock that a test moves. */
import { type PublishSourceOptions, publishSource } from '../../src/publish/publish-source.ts';
import { type Containers, openRepository, type Repository } from '../../src/repository.ts';
import type { Snapshot } from '../../src/snapshots/snapshot.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import type { LockClock } from '../../src/storage/lock-clock.ts';
import { type LockState, listLocks } from '../../src/storage/lock-states.ts';
import { createLocks } from '../../src/storage/locks.ts';
import { type Hooks, hooked } from '../index/index-kit.ts';
import { createFakeClock, type FakeClock } from '../kit/fake-clock.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { archiveAll, contentOf, createTestRepository, upload } from '../kit/repository.ts';

export interface ProcessOptions {
  readonly hooks?: Hooks;
  /** Of its locks, where it is not the common one. */
  readonly clock?: LockClock;
  readonly lockWaitSeconds?: number;
}

export interface World {
  readonly clock: FakeClock;
  readonly state: BlobStore;
  /** Another process. */
  process(name: string, options?: ProcessOptions): Promise<Repository>;
  /** Uploads and archives more, and leaves it to be published. */
  drop(files: Record<string, string>): Promise<void>;
  snapshots(): Promise<Snapshot[]>;
  contentOf(snapshot: Snapshot | undefined): Promise<Record<string, string>>;
  locks(): Promise<LockState[]>;
}

export const SOURCE = 'docs';
const FILES = { a: 'one' };

const prepared = prepare();

/** Every world begins with one archived batch, which waits to be published. */
async function prepare() {
  const account = createMemoryAccount();
  const { repository } = await createTestRepository({ containers: account, encrypted: false });
  await drop(repository, FILES);
  return { account, settings: repository.settings };
}

async function drop(repository: Repository, files: Record<string, string>): Promise<void> {
  for (const [path, content] of Object.entries(files)) await upload(repository, `${SOURCE}/${path}`, content);
  await archiveAll(repository, SOURCE);
}

export async function createWorld(): Promise<World> {
  const clock = createFakeClock();
  const { account: original, settings } = await prepared;
  const account = original.clone({ now: clock.wallMs });
  const open = (containers: Containers) => openRepository(containers, settings, { now: clock.date });
  const observer = await open(account);
  const state = observer.state.store;
  return {
    clock,
    state,
    async process(name, { hooks = {}, lockWaitSeconds = 600, ...options } = {}) {
      const repository = await open({ container: (container) => hooked(account.container(container), hooks) });
      const locks = createLocks(repository.state.store, { owner: name, clock: options.clock ?? clock });
      return { ...repository, locks, settings: { ...settings, lockWaitSeconds } };
    },
    drop: async (files) => await drop(await open(account), files),
    snapshots: async () => await Array.fromAsync(observer.snapshots.list({ source: SOURCE })),
    async contentOf(snapshot) {
      if (snapshot === undefined) throw new Error('there is no snapshot');
      return await contentOf(await open(account), snapshot);
    },
    locks: async () => await Array.fromAsync(listLocks(state, {})),
  };
}

export const publish = async (repository: Repository, options?: PublishSourceOptions) =>
  await publishSource(repository, SOURCE, options);

export interface Gate {
  readonly hooks: Hooks;
  /** Somebody stands before it. */
  readonly reached: Promise<void>;
  readonly open: () => void;
}

/** Stops a process before its first request of that kind, until it is opened. */
export function gateBefore(isMeant: (call: string, name: string) => boolean): Gate {
  const reached = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  return {
    hooks: {
      async before(call, name) {
        if (!isMeant(call, name)) return;
        reached.resolve();
        await opened.promise;
      },
    },
    reached: reached.promise,
    open: () => opened.resolve(),
  };
}

export const isHeadWrite = (call: string, name: string): boolean =>
  (call === 'create' || call === 'replace') && name.startsWith('heads/');

/** Runs `other` before request number `at` that sees the hooks; 0 only counts them. */
export function intrusion(at: number, other: () => Promise<unknown>) {
  const hooks = {
    requests: 0,
    async before() {
      hooks.requests += 1;
      if (hooks.requests === at) await other();
    },
  };
  return hooks;
}
