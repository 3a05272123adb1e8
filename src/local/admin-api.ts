/**
 * The host's own endpoints, as Core Tools have them: its status, the list of functions, and running a function by hand
 * (`POST /admin/functions/<name>` with `{"input": "…"}`), which answers 202 at once.
 */
import type { HostedFunction } from './functions.ts';
import { type HttpHandler, jsonAnswer } from './http-server.ts';

export interface AdminOptions {
  readonly hostId: string;
  readonly functions: readonly HostedFunction[];
  /** Undefined where a function of that kind cannot be run by hand. It does not reject. */
  readonly runByHand: (target: HostedFunction, input: string) => Promise<void> | undefined;
}

export function adminApi({ hostId, functions, runByHand }: AdminOptions): HttpHandler {
  const startedMs = performance.now();
  return (request) => {
    const path = request.url.pathname.toLowerCase().replace(/\/$/, '');
    if (path === '/admin/host/status' && request.method === 'GET') {
      return Promise.resolve(
        jsonAnswer(200, {
          id: hostId,
          state: 'Running',
          version: '4.local',
          processUptime: Math.round(performance.now() - startedMs),
        }),
      );
    }
    if (path === '/admin/functions' && request.method === 'GET') {
      return Promise.resolve(
        jsonAnswer(
          200,
          functions.map(({ name, trigger }) => ({ name, trigger: trigger.binding.type })),
        ),
      );
    }
    const named = /^\/admin\/functions\/([^/]+)$/.exec(path);
    if (named?.[1] === undefined) return path.startsWith('/admin/') ? Promise.resolve({ status: 404 }) : undefined;
    if (request.method !== 'POST') return Promise.resolve({ status: 405 });
    const name = decodeURIComponent(named[1]);
    const target = functions.find((candidate) => candidate.name.toLowerCase() === name);
    if (target === undefined) return Promise.resolve({ status: 404 });
    const input = inputOf(request.body.toString('utf8'));
    if (input === undefined) {
      return Promise.resolve(jsonAnswer(400, { Message: 'The body must be {"input": "<text>"}.' }));
    }
    const run = runByHand(target, input);
    if (run === undefined) {
      return Promise.resolve(jsonAnswer(400, { Message: `A ${target.kind} is not run by hand.` }));
    }
    return Promise.resolve({ status: 202 });
  };
}

function inputOf(body: string): string | undefined {
  if (body.trim() === '') return '';
  try {
    const { input = '' } = JSON.parse(body) as { input?: unknown };
    return typeof input === 'string' ? input : JSON.stringify(input);
  } catch {
    return undefined;
  }
}
