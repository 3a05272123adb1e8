import { BlobServiceClient } from '@azure/storage-blob';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { azuriteConnectionString } from '../kit/azurite.ts';
import { until } from '../kit/until.ts';
import { type Fixture, startFixture } from './fixture.ts';

let app: Fixture;

beforeAll(async () => {
  app = await startFixture();
});
afterAll(() => app.stop());

test('a request reaches its function with parameters, query and body, and its answer comes back', async () => {
  const response = await app.fetch('/api/copy/a%20b?tag=t%2Fu', { method: 'POST', body: 'text' });
  expect(response.status).toBe(201);
  expect(response.headers.get('x-seen')).toBe('POST');
  expect(await response.json()).toEqual({ id: 'a b', tag: 't/u' });
});

test('a route may take the rest of the path', async () => {
  expect(await (await app.fetch('/api/files/a/b/c.txt')).text()).toBe('a/b/c.txt');
});

test('a wrong method, an unknown path, no answer and a failure have their own status', async () => {
  expect((await app.fetch('/api/copy/x')).status).toBe(405);
  expect((await app.fetch('/api/unknown')).status).toBe(404);
  expect((await app.fetch('/api/nothing')).status).toBe(204);
  expect((await app.fetch('/api/broken')).status).toBe(500);
  await until('the failure is logged', async () =>
    app.logs.find((line) => line === 'error broken: The request failed: broken'),
  );
});

test('the host tells its status and its functions', async () => {
  expect(await (await app.fetch('/admin/host/status')).json()).toMatchObject({ state: 'Running' });
  const functions = (await (await app.fetch('/admin/functions')).json()) as { name: string }[];
  expect(functions.map(({ name }) => name)).toEqual([...app.host().functions]);
});

test('a timer function runs by hand and is told its schedule', async () => {
  const response = await app.fetch('/admin/functions/rare', { method: 'POST', body: '{}' });
  expect(response.status).toBe(202);
  const [timer] = await app.effectsOf('timer', 'rare');
  expect(timer).toMatchObject({
    isPastDue: false,
    schedule: { adjustForDST: true },
    scheduleStatus: { next: expect.stringMatching(/-02-29T00:00:00/) },
  });
});

test('runOnStartup runs a timer function at every start', async () => {
  await app.effectsOf('timer', 'atStart');
  expect(await app.effects('timer', 'atStart')).toHaveLength(1);
});

test('a run that was due while no host ran is made up for, and says so', async () => {
  await app.effectsOf('timer', 'rare');
  const before = (await app.effects('timer', 'rare')).length;
  await app.stop();
  const missed = {
    Last: '2020-02-29T00:00:00.000Z',
    Next: '2024-02-29T00:00:00.000Z',
    LastUpdated: '2020-02-29T00:00:00.000Z',
  };
  await BlobServiceClient.fromConnectionString(azuriteConnectionString())
    .getContainerClient('azure-webjobs-hosts')
    .getBlockBlobClient(`timers/${app.hostId}/rare/status`)
    .uploadData(Buffer.from(JSON.stringify(missed)));
  await app.start();
  const runs = await app.effectsOf('timer', 'rare', before + 1);
  expect(runs).toContainEqual(
    expect.objectContaining({ isPastDue: true, scheduleStatus: expect.objectContaining({ next: missed.Next }) }),
  );
  await app.stop();
  await app.start();
  await app.effectsOf('timer', 'atStart', 3);
  expect(await app.effects('timer', 'rare')).toHaveLength(before + 1);
});

test('a queue function runs by hand; an HTTP or durable function does not', async () => {
  const byHand = (name: string, input: string) =>
    app.fetch(`/admin/functions/${name}`, { method: 'POST', body: JSON.stringify({ input }) });
  expect((await byHand('jobs', '{"id":"by-hand"}')).status).toBe(202);
  await app.effectsOf('job-done', 'by-hand');
  expect((await byHand('copy', '')).status).toBe(400);
  expect((await byHand('fanOut', '')).status).toBe(400);
  expect((await byHand('nobody', '')).status).toBe(404);
});
