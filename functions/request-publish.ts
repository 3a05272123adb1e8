import { app } from '@azure/functions';
import * as df from 'durable-functions';
import { sealDueBatches } from '../src/archive/batches.ts';
import { isFirnError } from '../src/errors.ts';
import { checkSourceName } from '../src/journal/source-name.ts';
import { isSourceDue } from '../src/publish/due.ts';
import { inboxOf } from './shared/application.ts';
import { tellQueued } from './shared/events.ts';
import { batchQueue } from './shared/outputs.ts';
import { startPublish } from './shared/publishing.ts';

/** `POST /api/publish/{source}`: seals what is recorded now; the snapshot follows when it is archived. */
app.http('requestPublish', {
  methods: ['POST'],
  route: 'publish/{source}',
  authLevel: 'function',
  extraInputs: [df.input.durableClient()],
  extraOutputs: [batchQueue],
  handler: async (request, context) => {
    const source = request.params.source ?? '';
    try {
      checkSourceName(source);
    } catch (error) {
      if (isFirnError(error)) return { status: 400, jsonBody: error.toJSON() };
      throw error;
    }
    const inbox = inboxOf(context);
    const batches = await sealDueBatches(inbox, { source, force: true });
    context.extraOutputs.set(batchQueue, batches);
    tellQueued(context, batches);
    const started = (await isSourceDue(inbox, source)) && (await startPublish(context, source));
    return { status: 202, jsonBody: { source, batches: batches.map(({ batch }) => batch), started } };
  },
});
