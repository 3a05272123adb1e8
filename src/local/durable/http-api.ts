/**
 * The HTTP endpoints of the Durable Functions extension that the durable client of `durable-functions` calls, and the
 * data of the `durableClient` input binding that tells it where they are.
 *
 * Served: start, status, query, raise event, terminate, suspend, resume, purge (one or by filter). Rewind and restart
 * answer 501. Entities are not supported and answer 501 too.
 */
import { randomUUID } from 'node:crypto';
import { type HttpAnswer, type HttpHandler, type HttpRequest, jsonAnswer } from '../http-server.ts';
import type { RpcTypedData } from '../rpc.ts';
import type { DurableEngine } from './engine.ts';
import { type InstanceState, isTerminal, type Message, type RuntimeStatus } from './instance.ts';

/** What the library asks, and what people and status links ask. Both are answered in the same way. */
const prefixes = ['/durabletask/', '/runtime/webhooks/durabletask/'] as const;
const ID_PLACEHOLDER = 'INSTANCEID';

/** The data of a `durableClient` input. */
export function durableClientData(hostUrl: string, taskHub: string): RpcTypedData {
  const baseUrl = `${hostUrl}${prefixes[1].slice(0, -1)}`;
  const query = queryOf(taskHub);
  return {
    json: JSON.stringify({
      taskHubName: taskHub,
      creationUrls: {
        createNewInstancePostUri: `${baseUrl}/orchestrators/{functionName}[/{instanceId}]?${query}`,
        createAndWaitOnNewInstancePostUri: `${baseUrl}/orchestrators/{functionName}[/{instanceId}]?${query}`,
      },
      managementUrls: managementUrls(baseUrl, ID_PLACEHOLDER, query),
      baseUrl,
      requiredQueryStringParameters: 'code=local',
      rpcBaseUrl: `${hostUrl}${prefixes[0]}`,
    }),
  };
}

function queryOf(taskHub: string): string {
  return `taskHub=${encodeURIComponent(taskHub)}&connection=Storage&code=local`;
}

function managementUrls(baseUrl: string, instanceId: string, query: string): Record<string, string> {
  const instance = `${baseUrl}/instances/${encodeURIComponent(instanceId)}`;
  return {
    id: instanceId,
    statusQueryGetUri: `${instance}?${query}`,
    sendEventPostUri: `${instance}/raiseEvent/{eventName}?${query}`,
    terminatePostUri: `${instance}/terminate?reason={text}&${query}`,
    suspendPostUri: `${instance}/suspend?reason={text}&${query}`,
    resumePostUri: `${instance}/resume?reason={text}&${query}`,
    rewindPostUri: `${instance}/rewind?reason={text}&${query}`,
    restartPostUri: `${instance}/restart?${query}`,
    purgeHistoryDeleteUri: `${instance}?${query}`,
  };
}

export function durableHttpApi(engine: DurableEngine, hostUrl: string, taskHub: string): HttpHandler {
  return (request) => {
    const prefix = prefixes.find((known) => request.url.pathname.startsWith(known));
    if (prefix === undefined) return undefined;
    const [kind, ...rest] = request.url.pathname
      .slice(prefix.length)
      .split('/')
      .filter((part) => part !== '')
      .map(decodeURIComponent);
    if (kind === 'orchestrators') return start(request, rest);
    if (kind === 'instances') return rest.length === 0 ? instances(request) : instance(request, rest);
    return Promise.resolve(problem(501, 'The local host does not support this.'));
  };

  async function start(request: HttpRequest, [name, given]: readonly string[]): Promise<HttpAnswer> {
    if (request.method !== 'POST' || name === undefined) return { status: 404 };
    const instanceId = given ?? randomUUID().replaceAll('-', '');
    const wrong = instanceIdProblem(instanceId);
    if (wrong !== undefined) return problem(400, wrong);
    const input = jsonTextOf(request);
    if (input === undefined) return problem(400, 'Invalid JSON content');
    switch (await engine.start(name, instanceId, input)) {
      case 'started': {
        const urls = managementUrls(`${hostUrl}${prefixes[1].slice(0, -1)}`, instanceId, queryOf(taskHub));
        const location = { location: urls.statusQueryGetUri ?? '', 'retry-after': '10' };
        return jsonAnswer(202, { ...urls, id: instanceId }, location);
      }
      case 'exists':
        return problem(409, `An orchestration instance with the id '${instanceId}' exists and has not ended.`);
      default:
        return problem(400, `The function '${name}' doesn't exist, is disabled, or is not an orchestrator function.`);
    }
  }

  async function instance(request: HttpRequest, path: readonly string[]): Promise<HttpAnswer> {
    const [instanceId = '', operation, eventName] = path;
    const reason = request.url.searchParams.get('reason') ?? '';
    if (operation === undefined) {
      if (request.method === 'GET') return status(request, instanceId);
      if (request.method !== 'DELETE') return { status: 404 };
      return (await engine.purge(instanceId)) ? jsonAnswer(200, { instancesDeleted: 1 }) : { status: 404 };
    }
    if (request.method !== 'POST') return { status: 404 };
    switch (operation.toLowerCase()) {
      case 'raiseevent': {
        const input = jsonTextOf(request);
        if (input === undefined || eventName === undefined) return problem(400, 'Invalid JSON content');
        return send(instanceId, { type: 'raised', name: eventName, input });
      }
      case 'terminate':
      case 'suspend':
      case 'resume':
        return send(instanceId, { type: operation.toLowerCase() as 'terminate' | 'suspend' | 'resume', reason });
      default:
        return problem(501, `The local host does not support ${operation}.`);
    }
  }

  async function send(instanceId: string, message: Message): Promise<HttpAnswer> {
    const result = await engine.send(instanceId, message);
    return { status: result === 'accepted' ? 202 : result === 'ended' ? 410 : 404 };
  }

  async function status(request: HttpRequest, instanceId: string): Promise<HttpAnswer> {
    const state = await engine.get(instanceId);
    if (state === undefined) return { status: 404 };
    const query = request.url.searchParams;
    const payload = statusPayload(state, {
      input: query.get('showInput')?.toLowerCase() !== 'false',
      history: query.get('showHistory')?.toLowerCase() === 'true',
    });
    return isTerminal(state.runtimeStatus)
      ? jsonAnswer(200, payload)
      : jsonAnswer(202, payload, { location: request.url.href, 'retry-after': '10' });
  }

  async function instances(request: HttpRequest): Promise<HttpAnswer> {
    const query = request.url.searchParams;
    const found: InstanceState[] = [];
    for await (const summary of engine.list()) {
      if (!matches(summary.runtimeStatus, summary.createdTime, query)) continue;
      if (!summary.instanceId.startsWith(query.get('instanceIdPrefix') ?? '')) continue;
      const state = await engine.get(summary.instanceId);
      if (state !== undefined) found.push(state);
    }
    if (request.method === 'GET') {
      const input = query.get('showInput')?.toLowerCase() === 'true';
      return jsonAnswer(
        200,
        found.map((state) => statusPayload(state, { input, history: false })),
      );
    }
    if (request.method !== 'DELETE') return { status: 404 };
    let instancesDeleted = 0;
    for (const { instanceId } of found) if (await engine.purge(instanceId)) instancesDeleted += 1;
    return instancesDeleted === 0 ? { status: 404 } : jsonAnswer(200, { instancesDeleted });
  }
}

function matches(status: RuntimeStatus, createdTime: string, query: URLSearchParams): boolean {
  const wanted = query.get('runtimeStatus');
  if (wanted && !wanted.toLowerCase().split(',').includes(status.toLowerCase())) return false;
  const created = Date.parse(createdTime);
  const from = Date.parse(query.get('createdTimeFrom') ?? '');
  const to = Date.parse(query.get('createdTimeTo') ?? '');
  return !(created < from) && !(created > to);
}

function statusPayload(state: InstanceState, show: { input: boolean; history: boolean }): unknown {
  return {
    name: state.name,
    instanceId: state.instanceId,
    runtimeStatus: state.runtimeStatus,
    input: show.input ? JSON.parse(state.input) : null,
    customStatus: JSON.parse(state.customStatus),
    output: JSON.parse(state.output),
    createdTime: state.createdTime,
    lastUpdatedTime: state.lastUpdatedTime,
    ...(show.history ? { historyEvents: state.history } : {}),
  };
}

/** The rules of the extension for instance ids. */
function instanceIdProblem(instanceId: string): string | undefined {
  if (instanceId.length > 100) return 'Instance IDs must have 100 characters at most.';
  if (instanceId.startsWith('@')) return 'Instance IDs must not start with «@».';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  if (/[/\\#?\u0000-\u001f\u007f-\u009f]/.test(instanceId)) {
    return 'Instance IDs must not contain «/», «\\», «#», «?» or control characters.';
  }
  return undefined;
}

/** The body as JSON text, `null` where there is none, undefined where it is no JSON. */
function jsonTextOf(request: HttpRequest): string | undefined {
  const text = request.body.toString('utf8').trim();
  if (text === '') return 'null';
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function problem(status: number, message: string): HttpAnswer {
  return jsonAnswer(status, { Message: message });
}
