import { app } from '@azure/functions';

app.http('single', { handler: async () => ({ body: 'here' }) });
