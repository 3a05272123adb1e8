import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { spawnFunctionsHost } from '../../src/local/host-client.ts';
import { azuriteConnectionString } from '../kit/azurite.ts';
import { until } from '../kit/until.ts';
import { isAlive } from './child-processes.ts';
import { send, startFixture } from './fixture.ts';

const appRoot = fileURLToPath(new URL('./fixture-app', import.meta.url));

function refused(entry: string, settings: Record<string, string> = {}, httpPort = 0): Promise<unknown> {
  const storage = azuriteConnectionString();
  return spawnFunctionsHost({
    appRoot,
    entry,
    httpPort,
    settings: { AzureWebJobsStorage: storage, FIXTURE_STORAGE: storage, ...settings },
  }).then(
    async (host) => {
      await host.stop();
      throw new Error('the host started');
    },
    (error: unknown) => error,
  );
}

test.each([
  ['duplicate', 'FIRN_FUNCTION_INVALID', 'a function of that name is registered already'],
  ['trigger', 'FIRN_FUNCTION_INVALID', 'The function bus cannot be hosted: triggers of type serviceBusTrigger'],
  ['input', 'FIRN_FUNCTION_INVALID', 'The function reads cannot be hosted: input bindings of type blob'],
  ['setting', 'FIRN_SETTING_MISSING', 'The setting NOT_SET is missing: the function needs'],
  ['connection', 'FIRN_SETTING_MISSING', 'The setting NO_STORAGE is missing'],
  ['throws', 'FIRN_LOCAL_STACK_FAILED', 'this app is broken'],
  ['empty', 'FIRN_LOCAL_STACK_FAILED', 'registers no functions'],
  ['missing', 'FIRN_LOCAL_STACK_FAILED', 'cannot be loaded'],
])('an app that cannot be hosted is refused with the reason: %s', async (entry, code, message) => {
  expect(await refused(`refused/${entry}.ts`)).toMatchObject({ code, message: expect.stringContaining(message) });
});

test('storage that cannot be reached is told', async () => {
  const error = await refused('app.ts', {
    AzureWebJobsStorage:
      'DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;BlobEndpoint=http://127.0.0.1:1/a;QueueEndpoint=http://127.0.0.1:1/a;',
    ...Object.fromEntries(
      ['INBOX', 'SMALL', 'JOBS_QUEUE', 'COPIES_QUEUE', 'HOOKED_QUEUE'].map((name) => [name, 'name']),
    ),
  });
  expect(error).toMatchObject({
    code: 'FIRN_LOCAL_STACK_FAILED',
    message: expect.stringContaining('AzureWebJobsStorage'),
  });
});

test('a port in use is an error that names the port and the setting', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  expect(await refused('refused/empty.ts', {}, port)).toMatchObject({
    code: 'FIRN_PORT_IN_USE',
    details: { port, setting: 'FIRN_HTTP_PORT' },
  });
  server.close();
});

test('SIGTERM lets running functions end, then the process ends', async () => {
  const app = await startFixture();
  await send(app.jobs, { id: 'term', gate: 'term' });
  await app.effectsOf('job', 'term');
  expect(await app.host().idle()).toBe(false);
  process.kill(app.host().pid, 'SIGTERM');
  await app.openGate('term');
  await app.host().exited;
  expect(await app.effects('job-done', 'term')).toHaveLength(1);
});

test('an idle host says so', async () => {
  const app = await startFixture();
  await until('the host is idle', async () => ((await app.host().idle()) ? true : undefined));
  await app.stop();
  expect(await app.host().idle()).toBe(false);
});

test('the host ends when its parent is killed', async () => {
  const parent = fork(fileURLToPath(new URL('./fixture-app/parent.ts', import.meta.url)), [], {
    env: { ...process.env, FIXTURE_STORAGE: azuriteConnectionString() },
    execArgv: [],
  });
  const [pid] = (await once(parent, 'message')) as [number];
  expect(isAlive(pid)).toBe(true);
  parent.kill('SIGKILL');
  await until('the host has ended', async () => (isAlive(pid) ? undefined : true));
});
