/**
 * The host's HTTP endpoint on 127.0.0.1: a list of handlers that are asked in turn. It reads bodies (bounded), writes
 * answers and turns failures into status 500; it knows nothing of functions.
 *
 * Anyone on this machine may call it, with any key or none, as with Core Tools. It is not for other machines.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { FirnError, problemOf } from '../errors.ts';

/** The real host's FUNCTIONS_REQUEST_BODY_SIZE_LIMIT. */
const BODY_BYTES_MAX = 104_857_600;

export interface HttpRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: Uint8Array | string;
}

/** Undefined where the request is not this handler's. */
export type HttpHandler = (request: HttpRequest) => Promise<HttpAnswer> | undefined;

export interface HttpServer {
  readonly url: string;
  readonly pending: number;
  use(handler: HttpHandler): void;
  /** Takes no new connections, and resolves when those under way are answered. */
  stop(): Promise<void>;
  /** Cuts off what is not answered. */
  abandon(): void;
}

/** Fails with FIRN_PORT_IN_USE. `port` 0 takes any free one. */
export async function startHttpServer(port: number, failed: (error: unknown) => void): Promise<HttpServer> {
  const handlers: HttpHandler[] = [];
  let pending = 0;
  const server = createServer((request, response) => {
    pending += 1;
    answer(request, response)
      .catch((error: unknown) => {
        failed(error);
        if (response.headersSent) response.destroy();
        else send(response, { status: 500 });
      })
      .finally(() => {
        pending -= 1;
      });
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readBody(request);
    if (body === undefined) return send(response, { status: 413, headers: { connection: 'close' } });
    const parsed: HttpRequest = {
      method: request.method ?? 'GET',
      url: new URL(request.url ?? '/', `http://${request.headers.host ?? '127.0.0.1'}`),
      headers: Object.fromEntries(
        Object.entries(request.headers).map(([name, value]) => [name, [value].flat().join(', ')]),
      ),
      body,
    };
    for (const handler of handlers) {
      const answered = handler(parsed);
      if (answered !== undefined) return send(response, await answered);
    }
    send(response, { status: 404 });
  }

  await listen(server, port);
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get pending() {
      return pending;
    },
    use: (handler) => handlers.push(handler),
    stop() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      return closed;
    },
    abandon: () => server.closeAllConnections(),
  };
}

export function jsonAnswer(status: number, value: unknown, headers: Record<string, string> = {}): HttpAnswer {
  return {
    status,
    headers: { 'content-type': 'application/json; charset=utf-8', ...headers },
    body: JSON.stringify(value),
  };
}

async function listen(server: Server, port: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(port, '127.0.0.1', resolve);
  try {
    await promise;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EADDRINUSE') {
      throw new FirnError('FIRN_PORT_IN_USE', { port, what: 'the functions host', setting: 'FIRN_HTTP_PORT' });
    }
    throw new FirnError('FIRN_LOCAL_STACK_FAILED', {
      problem: `the functions host cannot listen on port ${port}: ${problemOf(error)}`,
    });
  } finally {
    server.off('error', reject);
  }
}

/** Undefined where the body is too long. */
async function readBody(request: IncomingMessage): Promise<Buffer | undefined> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > BODY_BYTES_MAX) return undefined;
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

function send(response: ServerResponse, { status, headers = {}, body }: HttpAnswer): void {
  response.statusCode = status;
  for (const [name, value] of Object.entries(headers)) {
    response.setHeader(name, typeof value === 'string' ? value : [...value]);
  }
  response.end(body);
}
