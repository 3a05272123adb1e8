import { app } from '@azure/functions';
import * as df from 'durable-functions';
import { sourcesDue } from '../src/publish/due.ts';
import { appSettings, inboxOf } from './shared/application.ts';
import { startPublish } from './shared/publishing.ts';

/** Starts publishes that are due: of sources that became quiet unseen, of age, and those that died. */
app.timer('startPublishes', {
  schedule: appSettings.publishSchedule,
  extraInputs: [df.input.durableClient()],
  handler: async (_timer, context) => {
    for await (const source of sourcesDue(inboxOf(context))) {
      if (await startPublish(context, source)) context.info(`publish of ${source} started`);
    }
  },
});
