import { app, input } from '@azure/functions';

app.http('reads', {
  extraInputs: [input.storageBlob({ path: 'a/b', connection: 'C' })],
  handler: async () => ({}),
});
