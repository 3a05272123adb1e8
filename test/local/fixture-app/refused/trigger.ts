import { app } from '@azure/functions';

app.serviceBusQueue('bus', { queueName: 'q', connection: 'C', handler: async () => undefined });
