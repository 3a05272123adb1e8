import { app } from '@azure/functions';
import { findOldSnapshots } from '../src/publish/snapshot-age.ts';
import { appSettings, logFailure, repositoryOf } from './shared/application.ts';

app.timer('checkSnapshots', {
  schedule: appSettings.snapshotCheckSchedule,
  handler: async (_timer, context) => {
    for await (const failure of findOldSnapshots(await repositoryOf(context))) logFailure(context, failure);
  },
});
