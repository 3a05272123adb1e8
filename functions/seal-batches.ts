import { app } from '@azure/functions';
import { sealDueBatches } from '../src/archive/batches.ts';
import { appSettings, inboxOf } from './shared/application.ts';
import { tellQueued } from './shared/events.ts';
import { batchQueue } from './shared/outputs.ts';

app.timer('sealBatches', {
  schedule: appSettings.sealSchedule,
  extraOutputs: [batchQueue],
  handler: async (_timer, context) => {
    const batches = await sealDueBatches(inboxOf(context));
    context.extraOutputs.set(batchQueue, batches);
    tellQueued(context, batches);
  },
});
