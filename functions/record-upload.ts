import { app } from '@azure/functions';
import { recordUpload, sourceOfUpload } from '../src/archive/batches.ts';
import { sourceNameProblem } from '../src/journal/source-name.ts';
import { appNames, CONNECTION, inboxOf } from './shared/application.ts';
import { tellRecorded } from './shared/events.ts';
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
    const sealed = await recordUpload(inboxOf(context), blobName);
    context.extraOutputs.set(batchQueue, sealed);
    const source = sourceOfUpload(blobName)?.source;
    // What is no source may be the name of a file; it was warned about.
    if (source !== undefined && sourceNameProblem(source) === undefined) tellRecorded(context, source, sealed);
  },
});
