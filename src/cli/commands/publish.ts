/** `firn publish` */
import { archiveBatch } from '../../archive/archive-batch.ts';
import { batchesWithoutReceipt, clearBatchFailure, sealDueBatches } from '../../archive/batches.ts';
import { FirnError, isFirnError } from '../../errors.ts';
import { checkSourceName } from '../../journal/source-name.ts';
import { type PublishSourceOptions, publishSource } from '../../publish/publish-source.ts';
import type { Repository } from '../../repository.ts';
import type { Snapshot } from '../../snapshots/snapshot.ts';
import { type Command, type CommandContext, exitCodes } from '../command.ts';
import { counted, formatBytes, printable } from '../format.ts';
import { nameSkipped } from './archive.ts';

/** Publishes that others may win before this one gives up. */
const CONFLICTS_MAX = 10;

export const publish: Command = {
  name: 'publish',
  summary: 'archive and publish what waits in the inbox of a source',
  about: [
    'Does at once, in this process, what the functions do by and by: seals what is recorded in the journal of the source, archives every batch that waits, and publishes until nothing waits. For a source whose uploads were recorded but whose functions do not run.',
  ],
  args: [{ name: 'source' }],
  options: {},
  examples: [['firn publish documents', 'publish what was uploaded to inbox/documents/']],
  exitCodes: { 3: 'done, but some uploads could not be read; each is named' },
  async run(context) {
    const [source = ''] = context.args;
    const { output, open, signal } = context;
    checkSourceName(source);
    const repository = await open();
    const before = (await repository.snapshots.readHead(source, { signal }))?.snapshot;
    await sealDueBatches(repository, { source, force: true, signal });
    const batches = await archiveWaiting(repository, source, context);
    const published = await publishAll(repository, source, { signal, onWait: (busy) => output.waiting(busy) });
    for (const snapshot of published) nameSkipped(output, snapshot.skipped);
    const latest = published.at(-1) ?? (await repository.snapshots.readHead(source, { signal }))?.snapshot;
    const unchanged = latest?.id === before?.id;
    const value = {
      source,
      batches,
      published: published.map(({ id }) => id),
      unchanged,
      snapshot: latest?.id ?? null,
      files: latest?.totals.files ?? 0,
      bytes: latest?.totals.bytes ?? 0,
    };
    await output.result(value, () => {
      if (latest === undefined)
        return `Nothing to publish: ${source} has no snapshot, and no upload of it is recorded.`;
      if (unchanged) return `Nothing to publish: ${source} is as it was.`;
      if (published.length > 0) return published.map(textOf).join('\n');
      return ['Another run has published it.', ...(latest ? [textOf(latest)] : [])].join('\n');
    });
    return published.some(({ skipped }) => skipped.count > 0) ? exitCodes.incomplete : exitCodes.done;
  },
};

function textOf({ id, source, totals }: Snapshot): string {
  return `Snapshot ${id} of ${source}: ${counted(totals.files, 'file')}, ${formatBytes(totals.bytes)}`;
}

/** @returns the number of batches archived. */
async function archiveWaiting(
  repository: Repository,
  source: string,
  { output, signal }: CommandContext,
): Promise<number> {
  const waiting = await batchesWithoutReceipt(repository, source, { signal });
  for (const [at, { batch }] of waiting.entries()) {
    await archiveBatch(
      repository,
      { source, batch },
      {
        signal,
        onProgress: ({ files, bytes, path }) =>
          output.progress(
            () =>
              `batch ${at + 1} of ${waiting.length}  ${counted(files, 'file')}  ${formatBytes(bytes)}  ${printable(path)}`,
          ),
      },
    );
    await clearBatchFailure(repository, { source, batch }, { signal });
  }
  return waiting.length;
}

/** Publishes until nothing waits; a publish that another process won counts as done by it. */
async function publishAll(repository: Repository, source: string, options: PublishSourceOptions): Promise<Snapshot[]> {
  const published: Snapshot[] = [];
  let conflicts = 0;
  for (;;) {
    try {
      const outcome = await publishSource(repository, source, options);
      if (outcome === undefined) return published;
      if (outcome.outcome === 'published') published.push(outcome.snapshot);
    } catch (error) {
      conflicts += 1;
      if (!isFirnError(error, 'FIRN_PUBLISH_CONFLICT')) throw error;
      if (conflicts === CONFLICTS_MAX) throw new FirnError('FIRN_PUBLISH_CONFLICT', { source }, { cause: error });
    }
  }
}
