/**
 * A proxy on 127.0.0.1 in front of Azurite that breaks connections when a test says so: before the answer begins (the
 * request took effect, nobody knows) or in the middle of its body. It can also refuse a request in the service's words,
 * where Azurite never says what the service may.
 */
import { once } from 'node:events';
import { createServer, request } from 'node:http';

export interface FaultyProxy {
  /** The connection string, leading through the proxy for blobs. */
  readonly connectionString: string;
  /**
   * Asked for every answer: undefined lets it pass, a number cuts its body after so many bytes, and 0 cuts it before
   * its headers.
   */
  cut: (method: string, url: string) => number | undefined;
  /** Asked for every request: where it gives a refusal, Azurite never sees the request. */
  refuse: (method: string, url: string) => { readonly status: number; readonly code: string } | undefined;
  /** Requests that reached Azurite. */
  readonly seen: string[];
  stop(): Promise<void>;
}

export async function startFaultyProxy(connectionString: string): Promise<FaultyProxy> {
  const target = new URL(/BlobEndpoint=([^;]+)/.exec(connectionString)?.[1] ?? '');
  const seen: string[] = [];
  const server = createServer((incoming, outgoing) => {
    const { method = '', url = '' } = incoming;
    const refusal = proxy.refuse(method, url);
    if (refusal !== undefined) {
      incoming.resume();
      outgoing.writeHead(refusal.status, { 'content-type': 'application/xml', 'x-ms-error-code': refusal.code });
      outgoing.end(`<?xml version="1.0"?><Error><Code>${refusal.code}</Code><Message>refused</Message></Error>`);
      return;
    }
    const onward = request(
      { host: target.hostname, port: target.port, method, path: url, headers: incoming.headers },
      (answer) => {
        seen.push(`${method} ${url}`);
        const cutAfter = proxy.cut(method, url);
        if (cutAfter === 0) {
          answer.resume();
          incoming.socket.destroy();
          return;
        }
        outgoing.writeHead(answer.statusCode ?? 500, answer.rawHeaders);
        outgoing.flushHeaders();
        let sent = 0;
        answer.on('data', (piece: Buffer) => {
          if (outgoing.destroyed) return;
          const rest = cutAfter === undefined ? piece.length : cutAfter - sent;
          sent += piece.length;
          if (rest >= piece.length) outgoing.write(piece);
          else outgoing.write(piece.subarray(0, rest), () => incoming.socket.destroy());
        });
        answer.on('end', () => outgoing.end());
      },
    );
    onward.on('error', () => incoming.socket.destroy());
    incoming.pipe(onward);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const proxy: FaultyProxy = {
    connectionString: connectionString.replace(target.host, `127.0.0.1:${port}`),
    cut: () => undefined,
    refuse: () => undefined,
    seen,
    async stop() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
  return proxy;
}
