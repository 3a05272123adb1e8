import { app } from '@azure/functions';
import * as df from 'durable-functions';
import { archiveBatch } from '../src/archive/archive-batch.ts';
import type { BatchReference } from '../src/archive/batches.ts';
import { clearBatchFailure } from '../src/archive/batches.ts';
import { isSourceDue } from '../src/publish/due.ts';
import { appNames, CONNECTION, repositoryOf } from './shared/application.ts';
import { tellBatch, tellQueued, tellTry } from './shared/events.ts';
import { batchQueue } from './shared/outputs.ts';
import { startPublish } from './shared/publishing.ts';

app.storageQueue('archiveBatch', {
  queueName: appNames.batchQueue,
  connection: CONNECTION,
  extraInputs: [df.input.durableClient()],
  extraOutputs: [batchQueue],
  handler: async (message, context) => {
    const startedMs = performance.now();
    const reference = message as BatchReference;
    const tries = Number(context.triggerMetadata?.dequeueCount ?? 1);
    tellTry('archiveBatch', reference.source, tries);
    const repository = await repositoryOf(context);
    const archived = await archiveBatch(repository, reference);
    if (archived.outcome === 'archived') {
      context.extraOutputs.set(batchQueue, archived.sealed);
      tellQueued(context, archived.sealed);
    }
    await clearBatchFailure(repository, reference);
    tellBatch(context, reference, archived, { tries, seconds: (performance.now() - startedMs) / 1000 });
    if (await isSourceDue(repository, reference.source)) await startPublish(context, reference.source);
  },
});
