/** Batches that are compacted while others archive or publish them: everything is published once, and in its order. */
import { describe, expect, test } from 'vitest';
import { archiveBatch } from '../../src/archive/archive-batch.ts';
import {
  type BatchReference,
  batchesWithoutReceipt,
  failedBatches,
  markBatchFailed,
  recordInJournal,
  recordUpload,
  sealDueBatches,
} from '../../src/archive/batches.ts';
import { isIdleBatch } from '../../src/archive/idle-batches.ts';
import { listReceipts } from '../../src/archive/receipt.ts';
import { FirnError } from '../../src/errors.ts';
import type { Compaction } from '../../src/journal/compaction.ts';
import type { Journal } from '../../src/journal/journal.ts';
import { planPublish, wholeIndex } from '../../src/publish/plan.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import { buildFiletrees, commitSnapshot, flushShards } from '../../src/publish/steps.ts';
import type { Repository } from '../../src/repository.ts';
import { archiveAll, contentOf, createTestRepository, upload } from '../kit/repository.ts';

async function seal(repository: Repository): Promise<BatchReference> {
  const [reference] = await sealDueBatches(repository, { source: 'src', force: true });
  return reference!;
}

/** The published file `a`, then a batch with its removal, seven others, and one with its next version. */
async function prepare(repository: Repository): Promise<BatchReference[]> {
  await upload(repository, 'src/a', 'old');
  await archiveAll(repository, 'src');
  await publishSource(repository, 'src');
  await recordInJournal(repository, 'src', { kind: 'removal', path: 'a', nonce: 'r' });
  const batches = [await seal(repository)];
  for (let at = 0; at < 7; at += 1) {
    await upload(repository, `src/${at}`, String(at));
    batches.push(await seal(repository));
  }
  await upload(repository, 'src/a', 'new');
  batches.push(await seal(repository));
  return batches;
}
const expected = { a: 'new', ...Object.fromEntries(Array.from({ length: 7 }, (_, at) => [at, String(at)])) };

/** Archives and publishes until nothing waits, as the timers would. */
async function publishAll(repository: Repository): Promise<Record<string, string>> {
  for (let round = 0; round < 4; round += 1) {
    for (const { batch } of await batchesWithoutReceipt(repository, 'src')) {
      await archiveBatch(repository, { source: 'src', batch });
    }
    await publishSource(repository, 'src');
  }
  expect(await repository.journalOf('src').batches()).toEqual([]);
  expect(await Array.fromAsync(listReceipts(repository.state.store, 'src'))).toEqual([]);
  const head = await repository.snapshots.readHead('src');
  return await contentOf(repository, head!.snapshot);
}

/** A repository whose journal does something before one of its calls. */
function withJournal(repository: Repository, change: (journal: Journal) => Partial<Journal>): Repository {
  const journal = repository.journalOf('src');
  const changed: Journal = { ...journal, ...change(journal) };
  return { ...repository, journalOf: () => changed };
}

async function compactFirst(
  repository: Repository,
  batches: readonly BatchReference[],
): Promise<Compaction | undefined> {
  const first = new Set(batches.slice(0, 8).map(({ batch }) => batch));
  return await repository.journalOf('src').compact({ isIdle: ({ batch }) => first.has(batch) });
}

describe('a batch that is compacted', () => {
  test('before it is archived is published from the compacted one, and its late messages come to nothing', async () => {
    const { repository } = await createTestRepository();
    const batches = await prepare(repository);
    const { created, replaced } = (await compactFirst(repository, batches))!;
    expect(replaced).toEqual(batches.slice(0, 8).map(({ batch }) => batch));
    for (const late of batches.slice(0, 8)) expect((await archiveBatch(repository, late)).outcome).toBe('retired');
    await markBatchFailed(repository, batches[0]!);
    expect(await Array.fromAsync(failedBatches(repository))).toEqual([]);
    expect((await archiveBatch(repository, { source: 'src', batch: created.batch })).outcome).toBe('archived');
    expect(await publishAll(repository)).toEqual(expected);
  });

  test('while it is archived leaves a receipt that is not used', async () => {
    const { repository } = await createTestRepository();
    const batches = await prepare(repository);
    // Whoever archives it asks at the end whether it is there still.
    const slow = withJournal(repository, (journal) => ({
      batches: async (options) => {
        await compactFirst(repository, batches);
        return await journal.batches(options);
      },
    }));
    expect((await archiveBatch(slow, batches[0]!)).outcome).toBe('retired');
    expect(await Array.fromAsync(listReceipts(repository.state.store, 'src'))).toEqual([]);
    expect(await publishAll(repository)).toEqual(expected);
  });

  test('after it was archived by somebody who then died leaves a receipt that the next plan sets aside', async () => {
    const { repository } = await createTestRepository();
    const batches = await prepare(repository);
    await archiveBatch(repository, batches[0]!);
    await compactFirst(repository, batches);
    expect(await planPublish(repository, 'src')).toBeUndefined();
    expect(await publishAll(repository)).toEqual(expected);
  });

  test('while it is planned is not in the plan, nor is what follows it', async () => {
    const { repository } = await createTestRepository();
    const batches = await prepare(repository);
    for (const each of batches) await archiveBatch(repository, each);
    const late = withJournal(repository, (journal) => ({
      hold: async (names, options) => {
        await compactFirst(repository, batches);
        return await journal.hold(names, options);
      },
    }));
    expect(await planPublish(late, 'src')).toBeUndefined();
    expect(await publishAll(repository)).toEqual(expected);
  });

  test('is none that a publish was planned with', async () => {
    const { repository, reopen } = await createTestRepository();
    const batches = await prepare(repository);
    for (const each of batches) await archiveBatch(repository, each);
    const plan = (await planPublish(repository, 'src'))!;
    expect(await compactFirst(await reopen(), batches)).toBeUndefined();
    await flushShards(repository, plan, wholeIndex);
    expect(await compactFirst(await reopen(), batches)).toBeUndefined();
    const tree = await buildFiletrees(repository, plan);
    expect((await commitSnapshot(repository, plan, tree)).outcome).toBe('published');
    expect(await publishAll(repository)).toEqual(expected);
  });
});

describe('a source whose archiving is blocked', () => {
  test('keeps few batches, each of them named to the queue, and is published when it is unblocked', async () => {
    let now = new Date('2026-01-01T00:00:00Z');
    const { repository } = await createTestRepository({ now: () => now });
    const named = new Set<string>();
    const minutes = 140;
    for (let minute = 0; minute < minutes; minute += 1) {
      await repository.inbox.create(`src/${minute}`, Buffer.from(String(minute)));
      await recordUpload(repository, `src/${minute}`);
      now = new Date(now.getTime() + 60_000);
      for (const { batch } of await sealDueBatches(repository)) named.add(batch);
      if (minute === 0) await markBatchFailed(repository, { source: 'src', batch: [...named][0]! });
    }
    const batches = await repository.journalOf('src').batches();
    // One a minute for the first hour, and what is older by eights and more.
    expect(batches.length).toBeLessThan(60 + 20);
    expect(batches.reduce((sum, { records }) => sum + records, 0)).toBe(minutes);
    for (const { batch } of batches) expect(named).toContain(batch);
    expect(await Array.fromAsync(failedBatches(repository))).toEqual([]);
    const content = await publishAll(repository);
    expect(Object.keys(content)).toHaveLength(minutes);
    expect(repository.journalOf('src').metrics().compactions).toBeGreaterThan(5);
  });

  test('has its batches named again also when they cannot be compacted', async () => {
    let now = new Date('2026-01-01T00:00:00Z');
    const { repository } = await createTestRepository({ now: () => now });
    const batches: BatchReference[] = [];
    for (let at = 0; at < 8; at += 1) {
      await upload(repository, `src/${at}`, String(at));
      batches.push(await seal(repository));
    }
    now = new Date(now.getTime() + 3_600_000);
    const warnings: string[] = [];
    const broken = withJournal(repository, () => ({
      compact: async () => {
        throw new FirnError('FIRN_STORAGE_FAILED', { url: 'u', problem: 'no room' });
      },
    }));
    expect(await sealDueBatches({ ...broken, onWarning: ({ code }) => warnings.push(code) })).toEqual(batches);
    expect(warnings).toEqual(['FIRN_STORAGE_FAILED']);
  });

  test('has idle batches only when they were tried for long enough, by a clock that makes sense', () => {
    const now = new Date('2026-01-01T00:00:00Z');
    const idle = (sealedSecondsAgo: number) => isIdleBatch(new Date(now.getTime() - sealedSecondsAgo * 1000), now, 600);
    expect(idle(3600)).toBe(true);
    expect(idle(3599)).toBe(false);
    expect(idle(-86_400)).toBe(false);
    expect(isIdleBatch(new Date('nonsense'), now, 600)).toBe(false);
  });
});
