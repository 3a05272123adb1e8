import { app } from '@azure/functions';

app.storageQueue('needs', { queueName: '%NOT_SET%', connection: 'FIXTURE_STORAGE', handler: async () => undefined });
