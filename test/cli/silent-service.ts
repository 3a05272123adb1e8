/** A storage service that takes connections and never answers. */
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { azuriteConnectionString } from '../kit/azurite.ts';

export interface SilentService extends AsyncDisposable {
  /** To the run's account, at the address of this service. */
  readonly connectionString: string;
  /** Resolves when somebody has connected. */
  readonly connected: Promise<unknown>;
}

export async function startSilentService(): Promise<SilentService> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const bound = server.address();
  if (bound === null || typeof bound === 'string') throw new Error('The server does not listen.');
  const address = `127.0.0.1:${bound.port}`;
  return {
    connectionString: azuriteConnectionString().replaceAll(/127\.0\.0\.1:\d+/g, address),
    connected: once(server, 'connection'),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
