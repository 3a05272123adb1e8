import { app } from '@azure/functions';
import { recordUpload } from '../src/archive/batches.ts';
import { appNames, CONNECTION, inboxOf } from './shared/application.ts';
import { batchQueue } from './shared/outputs.ts';
import type { UploadReference } from './shared/upload-reference.ts';
import './shared/upload-reference.ts';

app.storageBlob('recordUpload', {
  path: `${appNames.inbox}/{name}`,
  connection: CONNECTION,
  source: 'EventGrid',
  sdkBinding: true,
  extraOutputs: [batchQueue],
  handler: async (upload, context) => {
    const { blobName } = upload as UploadReference;
    context.extraOutputs.set(batchQueue, await recordUpload(inboxOf(context), blobName));
  },
});
