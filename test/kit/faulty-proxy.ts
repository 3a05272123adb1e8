/**
 * A proxy on 127.0.0.1 in front of Azurite that breaks connections when a test says so: before the answer begins (the
 * request took effect, nobody knows) or in the middle of its body. It can also refuse a request in the service's words,
 * where Azurite never says what the service may, hold one for as long as a test wants, and do a `Fault` of any kind.
 */
import { once } from 'node:events';
import { createServer, request, type ServerResponse } from 'node:http';
import { setTimeout } from 'node:timers/promises';

/** What may go wrong with one request. */
export type Fault =
  /** Azurite never sees it. */
  | {
      readonly kind: 'refuse';
      readonly status: number;
      readonly code: string;
      readonly headers?: Record<string, string>;
    }
  /** The connection breaks after so many bytes of the request's body. */
  | { readonly kind: 'close'; readonly after: number }
  /** The connection breaks after so many bytes of the answer's body; at 0 before its headers. */
  | { readonly kind: 'cut'; readonly after: number }
  /** What took effect is answered with an error. */
  | { readonly kind: 'instead'; readonly status: number; readonly code: string }
  | { readonly kind: 'delay'; readonly ms: number }
  /** One bit of the answer's body is the other one; counted round where the body is shorter. */
  | { readonly kind: 'flip'; readonly byte: number; readonly bit: number };

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
  /** Asked for every request that is not refused: Azurite sees it when the answer resolves, if there is one. */
  hold: (method: string, url: string) => Promise<unknown> | undefined;
  /** Asked for every request, before all others. */
  fault: (method: string, url: string) => Fault | undefined;
  /** Requests that reached Azurite. */
  readonly seen: string[];
  stop(): Promise<void>;
}

export async function startFaultyProxy(connectionString: string): Promise<FaultyProxy> {
  const target = new URL(/BlobEndpoint=([^;]+)/.exec(connectionString)?.[1] ?? '');
  const seen: string[] = [];
  const server = createServer(async (incoming, outgoing) => {
    const { method = '', url = '' } = incoming;
    const fault = proxy.fault(method, url);
    const refusal = fault?.kind === 'refuse' ? fault : proxy.refuse(method, url);
    if (refusal !== undefined) {
      incoming.resume();
      answerWithError(outgoing, refusal);
      return;
    }
    if (fault?.kind === 'close' && fault.after === 0) {
      incoming.socket.destroy();
      return;
    }
    if (fault?.kind === 'delay') await setTimeout(fault.ms);
    await proxy.hold(method, url);
    const onward = request(
      { host: target.hostname, port: target.port, method, path: url, headers: incoming.headers },
      (answer) => {
        seen.push(`${method} ${url}`);
        if (fault?.kind === 'instead' && (answer.statusCode ?? 500) < 400) {
          answer.resume();
          answerWithError(outgoing, fault);
          return;
        }
        const cutAfter = fault?.kind === 'cut' ? fault.after : proxy.cut(method, url);
        if (cutAfter === 0) {
          answer.resume();
          incoming.socket.destroy();
          return;
        }
        outgoing.writeHead(answer.statusCode ?? 500, answer.rawHeaders);
        outgoing.flushHeaders();
        let sent = 0;
        answer.on('data', (piece: Buffer) => {
          if (fault?.kind === 'flip' && sent === 0) {
            const at = fault.byte % piece.length;
            piece.writeUInt8(piece.readUInt8(at) ^ (1 << fault.bit), at);
          }
          const rest = cutAfter === undefined ? piece.length : cutAfter - sent;
          // Below zero it is cut, and the connection breaks when that is written.
          if (outgoing.destroyed || rest < 0) return;
          sent += piece.length;
          if (rest >= piece.length) outgoing.write(piece);
          else outgoing.write(piece.subarray(0, rest), () => incoming.socket.destroy());
        });
        answer.on('end', () => {
          // An end after the cut would make a shorter body of it, and a whole one where its length is not told.
          if (cutAfter === undefined || sent <= cutAfter) outgoing.end();
        });
      },
    );
    onward.on('error', () => incoming.socket.destroy());
    if (fault?.kind !== 'close') {
      incoming.pipe(onward);
      return;
    }
    let left = fault.after;
    incoming.on('data', (piece: Buffer) => {
      onward.write(piece.subarray(0, left));
      left -= piece.length;
      if (left <= 0) breakOff();
    });
    incoming.on('end', breakOff);
    function breakOff(): void {
      onward.destroy();
      incoming.socket.destroy();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const proxy: FaultyProxy = {
    connectionString: connectionString.replace(target.host, `127.0.0.1:${port}`),
    cut: () => undefined,
    refuse: () => undefined,
    hold: () => undefined,
    fault: () => undefined,
    seen,
    async stop() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
  return proxy;
}

function answerWithError(
  outgoing: ServerResponse,
  {
    status,
    code,
    headers,
  }: { readonly status: number; readonly code: string; readonly headers?: Record<string, string> },
): void {
  outgoing.writeHead(status, { 'content-type': 'application/xml', 'x-ms-error-code': code, ...headers });
  outgoing.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>refused</Message></Error>`);
}
