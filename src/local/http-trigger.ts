/**
 * The HTTP trigger: a request becomes typed data for the library, the function's `http` output becomes the answer.
 *
 * A function that fails answers 500 without a body; one that returns nothing answers 204, as in the real host.
 */
import type { HostedFunction } from './functions.ts';
import type { Routes } from './http-routes.ts';
import type { HttpAnswer, HttpHandler, HttpRequest } from './http-server.ts';
import { failureLine, type InvocationOutcome, type Invoker } from './invoke.ts';
import type { HostLog } from './log.ts';
import { dataValue, type RpcHttpCookie, type RpcTypedData } from './rpc.ts';

export function httpTrigger(routes: Routes, invoker: Invoker, log: HostLog): HttpHandler {
  return (request) => {
    const match = routes.find(request.method, request.url.pathname);
    if (match === undefined) return undefined;
    if (match === 'method') return Promise.resolve({ status: 405 });
    return run(match.target, match.params, request);
  };

  async function run(
    target: HostedFunction,
    params: Readonly<Record<string, string>>,
    request: HttpRequest,
  ): Promise<HttpAnswer> {
    let outcome: InvocationOutcome;
    try {
      outcome = await invoker.invoke(target, { input: requestData(request, params) });
    } catch (error) {
      log('error', `The request failed: ${failureLine(error)}`, target.name);
      return { status: 500 };
    }
    const output = target.outputs.find(({ binding }) => binding.type === 'http');
    const data =
      output === undefined || output.name === '$return' ? outcome.returnValue : outcome.outputs.get(output.name);
    return answerOf(data);
  }
}

function requestData(request: HttpRequest, params: Readonly<Record<string, string>>): RpcTypedData {
  return {
    http: {
      method: request.method,
      url: request.url.href,
      headers: { ...request.headers },
      query: Object.fromEntries(request.url.searchParams),
      params: { ...params },
      ...(request.body.length === 0 ? {} : { body: { bytes: request.body } }),
    },
  };
}

function answerOf(data: RpcTypedData | null | undefined): HttpAnswer {
  const http = data?.http;
  if (http === undefined) return { status: 204 };
  const body = dataValue(http.body);
  const cookies = (http.cookies ?? []).map(cookieText);
  return {
    status: Number(http.statusCode ?? 200),
    headers: { ...http.headers, ...(cookies.length === 0 ? {} : { 'set-cookie': cookies }) },
    ...(body instanceof Uint8Array || typeof body === 'string' ? { body } : {}),
  };
}

function cookieText(cookie: RpcHttpCookie): string {
  const { domain, path, maxAge, expires, secure, httpOnly, sameSite } = cookie;
  return [
    `${cookie.name}=${encodeURIComponent(cookie.value)}`,
    domain?.value === undefined ? '' : `Domain=${domain.value}`,
    path?.value === undefined ? '' : `Path=${path.value}`,
    expires?.value === undefined ? '' : `Expires=${new Date(expires.value.seconds * 1000).toUTCString()}`,
    maxAge?.value === undefined ? '' : `Max-Age=${maxAge.value}`,
    secure?.value === true ? 'Secure' : '',
    httpOnly?.value === true ? 'HttpOnly' : '',
    sameSite === undefined || sameSite === 'none' ? '' : `SameSite=${sameSite.replace('explicitNone', 'none')}`,
  ]
    .filter((part) => part !== '')
    .join('; ');
}
