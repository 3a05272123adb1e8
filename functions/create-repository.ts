import { app } from '@azure/functions';
import { isFirnError } from '../src/errors.ts';
import { prepareRepository } from './shared/application.ts';
import { logFailure } from './shared/events.ts';

/** `POST /api/repository`: creates the repository where there is none. Every deployment ends with it. */
app.http('createRepository', {
  methods: ['POST'],
  route: 'repository',
  authLevel: 'function',
  handler: async (_request, context) => {
    try {
      const { repository, created } = await prepareRepository(context);
      return { status: created ? 201 : 200, jsonBody: { repository: repository.name, created } };
    } catch (error) {
      if (!isFirnError(error)) throw error;
      logFailure(context, error);
      return { status: error.retryable ? 503 : 409, jsonBody: error.toJSON() };
    }
  },
});
