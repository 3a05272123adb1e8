import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../kit/until.ts';
import { type Fixture, startFixture } from './fixture.ts';

let app: Fixture;

beforeAll(async () => {
  app = await startFixture();
});
afterAll(() => app.stop());

interface Status {
  readonly name: string;
  readonly runtimeStatus: string;
  readonly input: unknown;
  readonly output: unknown;
  readonly customStatus: unknown;
}

async function start(name: string, id: string, input: unknown, on = app): Promise<Response> {
  return on.fetch(`/api/start/${name}/${id}`, { method: 'POST', body: JSON.stringify(input) });
}

async function manage(what: string, id: string, init: RequestInit = {}, query = '', on = app): Promise<Response> {
  return on.fetch(`/api/manage/${what}/${id}${query}`, init);
}

async function raise(id: string, event: string, data: unknown): Promise<Response> {
  return manage('raise', id, { method: 'POST', body: JSON.stringify(data) }, `?event=${event}`);
}

async function status(id: string, on = app): Promise<Status> {
  const response = await manage('status', id, {}, '', on);
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()) as Status;
}

function reaches(id: string, wanted: (status: Status) => boolean, on = app): Promise<Status> {
  return until(`${id} reaches a state`, async () => {
    const found = await status(id, on);
    return wanted(found) ? found : undefined;
  });
}

const ended = ({ runtimeStatus }: Status): boolean => ['Completed', 'Failed', 'Terminated'].includes(runtimeStatus);

test('activities of a fan-out run once each and their results come back in order', async () => {
  const response = await start('fanOut', 'fan', { run: 'fan' });
  expect(response.status).toBe(202);
  expect(await reaches('fan', ended)).toMatchObject({
    name: 'fanOut',
    runtimeStatus: 'Completed',
    input: { run: 'fan' },
    output: 380,
  });
  for (let n = 0; n < 20; n += 1) expect(await app.effects('double', `fan-${n}`)).toHaveLength(1);
});

test('an activity is retried as often as the orchestrator asks; the last failure reaches it', async () => {
  await start('retries', 'retry', 'retry');
  const { output } = await reaches('retry', ended);
  expect(output).toEqual({ flaky: 'after 2', failure: expect.stringContaining('never') });
  expect(await app.effects('flaky', 'retry')).toHaveLength(2);
  expect(await app.effects('hopeless', 'retry')).toHaveLength(2);
});

test('a durable timer fires, then an external event decides the race and its data reaches an activity', async () => {
  await start('waiting', 'wait', null);
  await reaches('wait', ({ customStatus }) => customStatus === 'waiting for approval');
  expect((await raise('wait', 'approval', { by: 'me' })).status).toBe(202);
  expect((await reaches('wait', ended)).output).toEqual({ approval: { by: 'me' }, waitedMs: true });
});

test('a sub-orchestration gives its result, or its failure, to its parent', async () => {
  await start('parent', 'parent', 'sub');
  expect((await reaches('parent', ended)).output).toEqual({
    sum: 380,
    failure: expect.stringContaining('on purpose'),
  });
});

test('an orchestrator that throws fails its instance with the message', async () => {
  await start('fails', 'thrown', null);
  expect(await reaches('thrown', ended)).toMatchObject({
    runtimeStatus: 'Failed',
    output: "Orchestrator function 'fails' failed: on purpose",
  });
});

test('an instance that is running cannot be started again; one that has ended can', async () => {
  expect((await start('waiting', 'single', null)).status).toBe(202);
  expect((await start('waiting', 'single', null)).status).toBe(409);
  await reaches('single', ({ customStatus }) => customStatus === 'waiting for approval');
  await manage('terminate', 'single');
  expect(await reaches('single', ended)).toMatchObject({ runtimeStatus: 'Terminated', output: 'enough' });
  expect((await start('fanOut', 'single', { run: 'single' })).status).toBe(202);
  expect((await reaches('single', ended)).output).toBe(380);
});

test('events that arrive before they are waited for, or before a new round, are not lost', async () => {
  await start('rounds', 'rounds', 0);
  await Promise.all([1, 1, 1].map((step) => raise('rounds', 'step', step)));
  expect((await reaches('rounds', ended)).output).toBe(3);
});

test('a suspended instance waits and goes on when it is resumed', async () => {
  await start('waiting', 'paused', null);
  await reaches('paused', ({ customStatus }) => customStatus === 'waiting for approval');
  await manage('suspend', 'paused');
  await raise('paused', 'approval', 1);
  expect(await status('paused')).toMatchObject({ runtimeStatus: 'Suspended' });
  await manage('resume', 'paused');
  expect((await reaches('paused', ended)).output).toMatchObject({ approval: 1 });
});

test('unknown instances and functions are told as such', async () => {
  expect((await manage('status', 'nobody')).status).toBe(404);
  expect((await manage('terminate', 'nobody')).status).toBe(404);
  const unknown = await start('nothing', 'x', null);
  expect(await unknown.text()).toContain('is not an orchestrator function');
});

test('instances are found by status, and purged when they have ended', async () => {
  await start('fanOut', 'purged', { run: 'purged' });
  await reaches('purged', ended);
  const found = (await (await manage('query', '-')).json()) as { instanceId: string; runtimeStatus: string }[];
  expect(found.map(({ instanceId }) => instanceId)).toContain('purged');
  expect(new Set(found.map(({ runtimeStatus }) => runtimeStatus))).toEqual(new Set(['Completed']));

  expect(await (await manage('purge', 'purged')).json()).toEqual({ instancesDeleted: 1 });
  expect((await manage('status', 'purged')).status).toBe(404);
});

test('a host killed in the middle of a fan-out resumes: what was finished does not run again', async () => {
  const own = await startFixture();
  await start('fanOut', 'killed', { run: 'killed', gate: 'killed' }, own);
  // The first ten end; the others wait at the gate, four at a time.
  for (let n = 0; n < 10; n += 1) await own.effectsOf('double', `killed-${n}`);
  await until('ten results are recorded', async () => {
    const { historyEvents } = (await (
      await own.fetch('/runtime/webhooks/durabletask/instances/killed?showHistory=true')
    ).json()) as { historyEvents: { EventType: number }[] };
    return historyEvents.filter(({ EventType }) => EventType === 5).length === 10 ? true : undefined;
  });
  await own.host().kill();

  await own.openGate('killed');
  await own.start();
  expect(await reaches('killed', ended, own)).toMatchObject({ runtimeStatus: 'Completed', output: 380 });
  for (let n = 0; n < 20; n += 1) expect(await own.effects('double', `killed-${n}`)).toHaveLength(1);
  await own.stop();
});

test('a host stopped while an orchestration waits takes it up again', async () => {
  const own = await startFixture();
  await start('waiting', 'restarted', null, own);
  await reaches('restarted', ({ customStatus }) => customStatus === 'waiting for approval', own);
  await own.stop();
  await own.start();
  const raised = await own.fetch('/api/manage/raise/restarted?event=approval', { method: 'POST', body: '7' });
  expect(raised.status).toBe(202);
  expect((await reaches('restarted', ended, own)).output).toMatchObject({ approval: 7 });
  await own.stop();
});
