import { app } from '@azure/functions';

app.storageQueue('needs', { queueName: 'queue', connection: 'NO_STORAGE', handler: async () => undefined });
