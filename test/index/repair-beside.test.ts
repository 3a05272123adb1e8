/**
 * Repair beside flushes, publishes and other repairs: each is run whole, from the first request to the last, between any
 * two requests of the other.
 */
import { describe, expect, test } from 'vitest';
import { archiveBatch } from '../../src/archive/archive-batch.ts';
import { sealDueBatches } from '../../src/archive/batches.ts';
import { findRepairMarker, REPAIR_MARKER, takeRepairMarker } from '../../src/index/marker.ts';
import { repairIndex } from '../../src/index/repair.ts';
import { rootOf } from '../../src/index/root-view.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import type { Containers, Repository } from '../../src/repository.ts';
import { repositoryNames } from '../../src/settings.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { archiveAll, contentOf, createTestRepository, upload } from '../kit/repository.ts';
import { type Hooks, hooked, locationsIn, missingFrom } from './index-kit.ts';
import { expectRight, makeRuin, openPlain, type Ruin, repairRuin, ruinedRoots } from './repair-ruin.ts';
import { copyOf, placeIn, publishFiles } from './repairing.ts';

/** Runs `other` before request number `at` of those that see the hooks; 0 counts them. */
function intrusion(at: number, other: () => Promise<unknown>) {
  const hooks = {
    requests: 0,
    async before() {
      hooks.requests += 1;
      if (hooks.requests === at) await other();
    },
  };
  return hooks;
}

/** Does it for every request; `run` answers how many there were. */
async function atEveryRequest(run: (at: number) => Promise<number>): Promise<number> {
  let requests = 1;
  for (let at = 1; at <= requests; at += 1) requests = await run(at);
  return requests;
}

/** Chunks of a tar chunk that is there, in roots whose shards can be read. */
function lateIn({ tar }: Ruin) {
  return ['a', 'a3c', '1', 'e'].flatMap((prefix) =>
    locationsIn(prefix, 2, 'late').map(({ hash }) => placeIn(tar, hash)),
  );
}

async function expectNothingLost(state: BlobStore, ruin: Ruin, late: ReturnType<typeof lateIn>): Promise<void> {
  expect(await missingFrom(openPlain(state), [...ruin.right, ...late])).toEqual([]);
  expect(await findRepairMarker(state)).toBeUndefined();
}

describe('a flush that looked for the marker before it was set', () => {
  test('loses nothing to a repair, wherever that is', async () => {
    const ruin = await makeRuin();
    const late = lateIn(ruin);
    const requests = await atEveryRequest(async (at) => {
      const state = await copyOf(ruin.state);
      const flushing = intrusion(at, async () => {
        const index = openPlain(state);
        index.record(late);
        await index.flush();
      });
      const hooks = { data: hooked(ruin.data, flushing), state: hooked(state, flushing) };
      expect(await repairRuin(hooks, ruinedRoots)).toMatchObject({ finished: true });
      await expectNothingLost(state, ruin, late);
      const all = [...ruin.right, ...late].map(({ hash }) => hash).sort();
      expect(await Array.fromAsync(openPlain(state).locations(), ({ hash }) => hash)).toEqual(all);
      return flushing.requests;
    });
    expect(requests).toBeGreaterThan(40);
  });

  test('loses nothing when a whole repair runs in the middle of it, wherever it is', async () => {
    const ruin = await makeRuin();
    const late = lateIn(ruin);
    const requests = await atEveryRequest(async (at) => {
      const state = await copyOf(ruin.state);
      const repairing = intrusion(at, () => repairRuin({ data: ruin.data, state }, ruinedRoots));
      const index = openPlain(hooked(state, repairing));
      index.record(late);
      await index.flush();
      expect(index.recordedCount).toBe(0);
      await expectNothingLost(state, ruin, late);
      return repairing.requests;
    });
    expect(requests).toBeGreaterThan(20);
  });
});

describe('two repairs', () => {
  test('come to the right index when one runs whole in the middle of the other, wherever that is', async () => {
    const ruin = await makeRuin();
    const requests = await atEveryRequest(async (at) => {
      const state = await copyOf(ruin.state);
      const other = intrusion(at, async () => {
        expect(await repairRuin({ data: ruin.data, state }, ruinedRoots)).toMatchObject({ finished: true });
      });
      await repairRuin({ data: hooked(ruin.data, other), state: hooked(state, other) }, ruinedRoots);
      await expectRight(state, ruin, ['F', 'zz']);
      return other.requests;
    });
    expect(requests).toBeGreaterThan(40);
  });

  test('one that was taken over ends without releasing the index; the one that took over releases it', async () => {
    const ruin = await makeRuin();
    const state = await copyOf(ruin.state);
    const firstEnded = Promise.withResolvers<void>();
    const takenOver = Promise.withResolvers<void>();
    const isFirstRoot = (call: string, name: string) => call === 'list' && name === 'chunk-index/0';
    const taking = hooked(state, {
      before: async (call, name) => {
        if (isFirstRoot(call, name)) await firstEnded.promise;
      },
      after: (call, name) => {
        if (call === 'replace' && name === REPAIR_MARKER) takenOver.resolve();
      },
    });
    let second: ReturnType<typeof repairRuin> | undefined;
    const slow = hooked(state, {
      before: async (call, name) => {
        if (!isFirstRoot(call, name)) return;
        second ??= repairRuin({ data: ruin.data, state: taking }, ruinedRoots);
        await takenOver.promise;
      },
    });
    expect(await repairRuin({ data: ruin.data, state: slow }, ruinedRoots)).toMatchObject({ finished: false });
    expect(await findRepairMarker(state)).toBeDefined();
    firstEnded.resolve();
    expect(await second).toMatchObject({ finished: true });
    await expectRight(state, ruin, ['F', 'zz']);
  });
});

interface Waiting {
  /** A process of its own. */
  readonly reopen: () => Promise<Repository>;
  /** The same, whose requests the hooks see. */
  readonly reopenHooked: () => Promise<Repository>;
  readonly hooks: Hooks;
  /** The roots of all its chunks. */
  readonly roots: readonly string[];
}

const stored = { a: 'one', b: 'two' };
const changes = { a: 'one, changed', c: 'three' };

/** Makes repositories with a snapshot, and a receipt of changes that waits to be published. */
async function repositoriesWithReceipt(): Promise<() => Promise<Waiting>> {
  const account = createMemoryAccount();
  let containers: Containers = account;
  const { repository, reopen } = await createTestRepository({
    containers: { container: (name) => containers.container(name) },
    encrypted: false,
  });
  await publishFiles(repository, 'docs', stored);
  for (const [path, content] of Object.entries(changes)) await upload(repository, `docs/${path}`, content);
  await archiveAll(repository, 'docs');
  const chunks = [...Object.values(stored), ...Object.values(changes)].map((content) =>
    repository.keys.hash(Buffer.from(content)),
  );
  const roots = [...new Set(chunks.map(rootOf))].sort();
  const names = Object.values(repositoryNames(repository.name)).filter((name) => !name.includes('batches'));
  return async () => {
    const copies = new Map<string, BlobStore>();
    for (const name of names) copies.set(name, await copyOf(account.container(name)));
    const copy = (name: string) => copies.get(name) ?? account.container(name);
    const hooks: Hooks = {};
    return {
      hooks,
      roots,
      reopen: async () => {
        containers = { container: copy };
        return await reopen();
      },
      reopenHooked: async () => {
        containers = { container: (name) => hooked(copy(name), hooks) };
        return await reopen();
      },
    };
  };
}

/** The snapshots are the two that are to be, and a fresh process reads all of both. */
async function expectPublished({ reopen, roots }: Waiting): Promise<void> {
  const fresh = await reopen();
  const snapshots = await Array.fromAsync(fresh.snapshots.list());
  expect(snapshots.map(({ parent }) => parent)).toEqual([undefined, snapshots[0]?.id]);
  expect(await contentOf(fresh, snapshots[0]!)).toEqual(stored);
  expect(await contentOf(fresh, snapshots[1]!)).toEqual({ ...stored, ...changes });
  const { entries, shardsWritten, shardsRemoved } = await repairIndex(fresh, { owner: 'proof', roots });
  expect({ entries, shardsWritten, shardsRemoved }).toEqual({ entries: 4, shardsWritten: 0, shardsRemoved: 0 });
}

describe('a publish', () => {
  test('is not harmed by a repair that runs whole in the middle of it, wherever it is', async () => {
    const repositoryWithReceipt = await repositoriesWithReceipt();
    let published = 0;
    const requests = await atEveryRequest(async (at) => {
      const waiting = await repositoryWithReceipt();
      const { hooks, reopen, reopenHooked, roots } = waiting;
      const publishing = await reopenHooked();
      const repairing = intrusion(at, async () => await repairIndex(await reopen(), { owner: 'other', roots }));
      hooks.before = repairing.before;
      const outcome = await publishSource(publishing, 'docs').catch((error: unknown) => error);
      // Of what it does at the same time, one part may meet the marker while the other waits for the repair.
      if (outcome instanceof Error) {
        expect(outcome).toMatchObject({ code: 'FIRN_REPAIR_UNFINISHED' });
        await publishSource(await reopen(), 'docs');
      } else published += 1;
      await expectPublished(waiting);
      return repairing.requests;
    });
    expect(requests).toBeGreaterThan(20);
    expect(published).toBeGreaterThan(10);
  });

  test('refuses or ends when a repair sets its marker in the middle of it, and loses nothing', async () => {
    const repositoryWithReceipt = await repositoriesWithReceipt();
    let refused = 0;
    await atEveryRequest(async (at) => {
      const waiting = await repositoryWithReceipt();
      const { hooks, reopen, reopenHooked, roots } = waiting;
      const publishing = await reopenHooked();
      const marking = intrusion(at, async () => {
        const { state } = await reopen();
        await takeRepairMarker(state.store, { started: 'then', owner: 'the other', roots });
      });
      hooks.before = marking.before;
      const outcome = await publishSource(publishing, 'docs').catch((error: unknown) => error);
      if (outcome instanceof Error) {
        refused += 1;
        expect(outcome).toMatchObject({
          code: 'FIRN_REPAIR_UNFINISHED',
          retryable: true,
          message: expect.stringContaining('since then (by the other)'),
          advice: expect.stringContaining('firn repair-index'),
        });
        expect(await Array.fromAsync((await reopen()).snapshots.list())).toHaveLength(1);
      }
      await repairIndex(await reopen(), { owner: 'next', roots });
      if (outcome instanceof Error) await publishSource(await reopen(), 'docs');
      await expectPublished(waiting);
      return marking.requests;
    });
    expect(refused).toBeGreaterThan(5);
  });

  test('in the middle of a repair, wherever that is, refuses while the marker stands and loses nothing', async () => {
    const repositoryWithReceipt = await repositoriesWithReceipt();
    let refused = 0;
    await atEveryRequest(async (at) => {
      const waiting = await repositoryWithReceipt();
      const { hooks, reopen, reopenHooked, roots } = waiting;
      const repairing = await reopenHooked();
      const publishing = intrusion(at, async () => {
        const other = await reopen();
        const marker = await findRepairMarker(other.state.store);
        const outcome = await publishSource(other, 'docs').catch((error: unknown) => error);
        if (marker === undefined) expect(outcome).toMatchObject({ outcome: 'published' });
        else {
          refused += 1;
          expect(outcome).toMatchObject({ code: 'FIRN_REPAIR_UNFINISHED', details: { owner: 'the repair' } });
        }
      });
      hooks.before = publishing.before;
      expect(await repairIndex(repairing, { owner: 'the repair', roots })).toMatchObject({ finished: true });
      await publishSource(await reopen(), 'docs');
      await expectPublished(waiting);
      return publishing.requests;
    });
    expect(refused).toBeGreaterThan(5);
  });
});

test('a batch is refused while the marker stands, waits, and is archived afterwards', async () => {
  const { repository, reopen } = await createTestRepository();
  await publishFiles(repository, 'docs', stored);
  await upload(repository, 'docs/c', 'three');
  const [batch] = await sealDueBatches(repository, { source: 'docs', force: true });
  await takeRepairMarker(repository.state.store, { started: 'then', owner: 'the other', roots: undefined });
  const refusal = archiveBatch(await reopen(), batch!);
  await expect(refusal).rejects.toMatchObject({ code: 'FIRN_REPAIR_UNFINISHED', retryable: true });
  await repairIndex(await reopen(), { owner: 'next' });
  await archiveBatch(await reopen(), batch!);
  const outcome = await publishSource(await reopen(), 'docs');
  expect(await contentOf(await reopen(), outcome!.snapshot!)).toEqual({ ...stored, c: 'three' });
});
