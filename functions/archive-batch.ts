import { app } from '@azure/functions';
import * as df from 'durable-functions';
import { archiveBatch, type BatchReference } from '../src/archive/archive-batch.ts';
import { clearBatchFailure } from '../src/archive/batches.ts';
import { isSourceDue } from '../src/publish/due.ts';
import { appNames, CONNECTION, repositoryOf } from './shared/application.ts';
import { startPublish } from './shared/publishing.ts';

app.storageQueue('archiveBatch', {
  queueName: appNames.batchQueue,
  connection: CONNECTION,
  extraInputs: [df.input.durableClient()],
  handler: async (message, context) => {
    const reference = message as BatchReference;
    const repository = await repositoryOf(context);
    const { outcome } = await archiveBatch(repository, reference);
    await clearBatchFailure(repository, reference);
    context.info(`batch ${reference.source}/${reference.batch}: ${outcome}`);
    if (await isSourceDue(repository, reference.source)) await startPublish(context, reference.source);
  },
});
