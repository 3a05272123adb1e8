import { app } from '@azure/functions';
import { findOldSnapshots } from '../src/publish/snapshot-age.ts';
import type { Snapshot } from '../src/snapshots/snapshot.ts';
import { appSettings, repositoryOf } from './shared/application.ts';
import { logFailure, tellLatest } from './shared/events.ts';

app.timer('checkSnapshots', {
  schedule: appSettings.snapshotCheckSchedule,
  handler: async (_timer, context) => {
    const onLatest = (snapshot: Snapshot) => tellLatest(context, snapshot);
    const old = findOldSnapshots(await repositoryOf(context), { onLatest });
    for await (const failure of old) logFailure(context, failure);
  },
});
