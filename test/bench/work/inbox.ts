/**
 * The inbox on an Azurite on disk: what one invocation of `archiveBatch` gets through, and how long after the last upload
 * its snapshot is there. The steps are those of the functions, without the queue and the orchestration between them.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import pMap from 'p-map';
import { archiveBatch } from '../../../src/archive/archive-batch.ts';
import { type BatchReference, clearBatchFailure, recordUpload, sealDueBatches } from '../../../src/archive/batches.ts';
import { startAzurite } from '../../../src/local/azurite.ts';
import { isSourceDue } from '../../../src/publish/due.ts';
import { groupRoots, planPublish } from '../../../src/publish/plan.ts';
import { type HeldPublish, underPublishLock } from '../../../src/publish/publish-lock.ts';
import { buildFiletrees, commitSnapshot, flushShards } from '../../../src/publish/steps.ts';
import type { Repository } from '../../../src/repository.ts';
import { isBlobFailure } from '../../../src/storage/blob-store.ts';
import { connectStorage } from '../../../src/storage/connect.ts';
import { leaseIdFor } from '../../../src/storage/locks.ts';
import { createTestRepository } from '../../kit/repository.ts';
import { timed } from '../measuring.ts';
import { formatBytes, formatCount, formatSeconds, markdownTable } from '../report.ts';

const KiB = 1024;
const MB = 1_000_000;
/** Invocations of `recordUpload` at the same time. */
const CALLERS = 64;
const UPLOADS_AT_ONCE = 8;

interface Shape {
  readonly source: string;
  readonly uploads: number;
  readonly bytes: number;
}

async function put({ inbox }: Repository, { source, bytes }: Shape, n: number): Promise<string> {
  const name = `${source}/folder-${n % 20}/${n}`;
  // About that many, so that not all are alike: between 7/8 and 9/8 of it.
  const outputLength = Math.round(bytes * (0.875 + (n % 101) / 400));
  const content = createHash('shake256', { outputLength }).update(name).digest();
  await inbox.create(name, content).catch((error) => {
    // Tried again when its answer was late.
    if (!isBlobFailure(error, 'exists')) throw error;
  });
  return name;
}

async function seal(repository: Repository, source: string): Promise<BatchReference> {
  const [batch, ...more] = await sealDueBatches(repository, { source, force: true });
  if (batch === undefined || more.length > 0) throw new Error('the uploads are to be one batch');
  return batch;
}

async function measureThroughput(repository: Repository, shape: Shape) {
  const { source, uploads } = shape;
  const names = await pMap(Array(uploads).keys(), (n) => put(repository, shape, n), { concurrency: UPLOADS_AT_ONCE });
  const recorded = await timed(() => pMap(names, (name) => recordUpload(repository, name), { concurrency: CALLERS }));
  const sealed = await timed(() => seal(repository, source));
  const archived = await timed(() => archiveBatch(repository, sealed.result));
  if (archived.result.outcome !== 'archived') throw new Error(`the batch is ${archived.result.outcome}`);
  const { files, bytes } = archived.result.receipt.totals;
  if (files !== uploads) throw new Error('not all uploads were archived');
  return { ...shape, totalBytes: bytes, record: recorded.took, seal: sealed.took, archive: archived.took };
}

/** One more upload, from its event to its snapshot. */
async function measureLatency(repository: Repository, shape: Shape, n: number) {
  const { source } = shape;
  const name = await put(repository, shape, n);
  const steps: Record<string, number> = {};
  const step = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    const { result, took } = await timed(work);
    steps[what] = took.seconds;
    return result;
  };
  const lock = { leaseId: leaseIdFor(name), by: 'the benchmark', waitMsMax: 0 };
  const activity = <T>(work: (held: HeldPublish) => Promise<T>) => underPublishLock(repository, source, lock, work);
  const began = performance.now();
  await step('record', () => recordUpload(repository, name));
  const batch = await step('seal', () => seal(repository, source));
  await step('archive', async () => {
    await archiveBatch(repository, batch);
    await clearBatchFailure(repository, batch);
    if (!(await isSourceDue(repository, source))) throw new Error('the source is to be published now');
  });
  const plan = await step('plan', () => activity((held) => planPublish(repository, source, held)));
  if (plan === undefined) throw new Error('there is nothing to publish');
  const groups = groupRoots(repository.settings.flushRootsPerActivity);
  const [tree] = await step('flush and build', () =>
    Promise.all([
      activity((held) => buildFiletrees(repository, plan, held)),
      ...groups.map((roots) => activity((held) => flushShards(repository, plan, roots, held))),
    ] as const),
  );
  const { snapshots } = repository;
  const { moveHead } = snapshots;
  let untilHeadSeconds = Number.NaN;
  snapshots.moveHead = async (...to) => {
    const moved = await moveHead.apply(snapshots, to);
    untilHeadSeconds = (performance.now() - began) / 1000;
    return moved;
  };
  await step('commit', () =>
    activity(async (held) => {
      const { outcome } = await commitSnapshot(repository, plan, tree, held);
      if (outcome !== 'published') throw new Error('nothing was published');
      await held.release();
    }),
  );
  snapshots.moveHead = moveHead;
  return { steps, untilHeadSeconds };
}

export async function measureInbox({ scale, folder }: { readonly scale: number; readonly folder: string }) {
  const shapes: readonly Shape[] = [
    { source: 'small', uploads: Math.ceil(2_000 * scale), bytes: 8 * KiB },
    { source: 'large', uploads: Math.ceil(64 * scale), bytes: 4 * KiB * KiB },
  ];
  await using azurite = await startAzurite({ dataFolder: path.join(folder, 'azurite'), blobPort: 0, queuePort: 0 });
  const storage = connectStorage({ connectionString: azurite.connectionString });
  const throughput: Awaited<ReturnType<typeof measureThroughput>>[] = [];
  const latency: (Awaited<ReturnType<typeof measureLatency>> & { readonly what: string })[] = [];
  for (const shape of shapes) {
    const environment = { FIRN_REPOSITORY: shape.source };
    await using repository = (await createTestRepository({ containers: storage, environment })).repository;
    const measured = await measureThroughput(repository, shape);
    throughput.push(measured);
    const { uploads, bytes } = shape;
    const all = `${formatCount(uploads)} of about ${formatBytes(bytes)}, and one more`;
    latency.push({ what: all, ...(await measureLatency(repository, shape, uploads)) });
    latency.push({ what: 'one more alone', ...(await measureLatency(repository, shape, uploads + 1)) });
  }
  const rate = (uploads: number, bytes: number, seconds: number) =>
    `${formatCount(Math.round(uploads / seconds))}/s, ${formatCount(bytes / MB / seconds)} MB/s`;
  const throughputTable = markdownTable(
    ['uploads', `recording, ${CALLERS} at once`, 'sealing', 'archiving, one invocation', '… CPU'],
    throughput.map(({ uploads, bytes, totalBytes, record, seal, archive }) => [
      `${formatCount(uploads)} of about ${formatBytes(bytes)}`,
      rate(uploads, totalBytes, record.seconds),
      `${formatSeconds(seal.seconds)} (${rate(uploads, totalBytes, seal.seconds)})`,
      `${formatSeconds(archive.seconds)} (${rate(uploads, totalBytes, archive.seconds)})`,
      formatSeconds(archive.cpuSeconds),
    ]),
  );
  const latencyTable = markdownTable(
    ['published', ...Object.keys(latency[0]?.steps ?? {}), 'event to head'],
    latency.map(({ what, steps, untilHeadSeconds }) => [
      what,
      ...[...Object.values(steps), untilHeadSeconds].map((seconds) => `${formatCount(Math.round(seconds * 1000))} ms`),
    ]),
  );
  return { figures: { throughput, latency }, text: `${throughputTable}\n\n${latencyTable}` };
}
