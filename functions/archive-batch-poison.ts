import { app } from '@azure/functions';
import type { BatchReference } from '../src/archive/batches.ts';
import { markBatchFailed } from '../src/archive/batches.ts';
import { appNames, CONNECTION, inboxOf } from './shared/application.ts';

app.storageQueue('archiveBatchPoison', {
  queueName: appNames.poisonQueue,
  connection: CONNECTION,
  handler: async (message, context) => {
    const failure = await markBatchFailed(inboxOf(context), message as BatchReference);
    context.error(`${failure.code}: ${failure.message} ${failure.advice}`);
  },
});
