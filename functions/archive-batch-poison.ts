import { app } from '@azure/functions';
import type { BatchReference } from '../src/archive/batches.ts';
import { markBatchFailed } from '../src/archive/batches.ts';
import { appNames, CONNECTION, inboxOf } from './shared/application.ts';
import { logFailure } from './shared/events.ts';

app.storageQueue('archiveBatchPoison', {
  queueName: appNames.poisonQueue,
  connection: CONNECTION,
  handler: async (message, context) => {
    logFailure(context, await markBatchFailed(inboxOf(context), message as BatchReference));
  },
});
