import { app } from '@azure/functions';

app.http('twin', { handler: async () => ({}) });
app.http('Twin', { handler: async () => ({}) });
