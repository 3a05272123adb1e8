import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../kit/until.ts';
import { emptied, type Fixture, send, startFixture } from './fixture.ts';

let app: Fixture;
/** A host that is held up for less than two thirds of it renews in time. */
const LEASE_SECONDS = 6;
/** With one message of that lease; the other tests take about as long. */
let patient: Fixture;
let patientSince: number;

beforeAll(async () => {
  [app, patient] = await Promise.all([startFixture(), startFixture({ messageLeaseSeconds: LEASE_SECONDS })]);
  await send(patient.jobs, { id: 'long', gate: 'long' });
  await patient.effectsOf('job', 'long');
  patientSince = performance.now();
});
afterAll(() => Promise.all([app.stop(), patient.stop()]));

test('a message is delivered once, with its trigger metadata, and deleted', async () => {
  await send(app.jobs, { id: 'one' });
  await app.effectsOf('job-done', 'one');
  await emptied(app.jobs);

  const [seen] = (await app.effects('job', 'one')) as { metadata: Record<string, unknown>; invocationId: string }[];
  expect(seen?.invocationId).toMatch(/^[0-9a-f-]{36}$/);
  expect(seen?.metadata).toMatchObject({
    dequeueCount: 1,
    id: expect.stringMatching(/^[0-9a-f-]{36}$/),
    queueTrigger: { id: 'one' },
    insertionTime: expect.stringMatching(/^\d{4}-/),
    expirationTime: expect.stringMatching(/^\d{4}-/),
  });
});

test('a message whose function fails is delivered maxDequeueCount times and then goes to the poison queue', async () => {
  await send(app.jobs, { id: 'failing', fail: true });
  await app.effectsOf('poison', 'failing');
  await emptied(app.jobs);

  const seen = (await app.effects('job', 'failing')) as { metadata: { dequeueCount: number } }[];
  expect(seen.map(({ metadata }) => metadata.dequeueCount)).toEqual([1, 2, 3]);
  expect(await app.effects('job-done', 'failing')).toEqual([]);
});

test('a message that is not base64 goes to the poison queue as it is', async () => {
  await app.jobs.sendMessage('{"id":"raw"}');
  const poison = await until('the line about it', async () => app.logs.find((line) => line.includes('is not base64')));
  expect(poison).toContain('error jobs');
  await emptied(app.jobs);
});

test('messages run side by side up to batchSize and newBatchThreshold', async () => {
  const ids = Array.from({ length: 12 }, (_, n) => `side-${n}`);
  for (const id of ids) await send(app.jobs, { id, gate: 'side' });
  const begun = async () => {
    const counts = await Promise.all(ids.map(async (id) => (await app.effects('job', id)).length));
    return counts.filter((n) => n > 0).length;
  };
  // 4 are fetched while no more than 2 run, so at most 6 run at once.
  await until('no more may be fetched', async () => ((await begun()) > 2 ? true : undefined));
  // What comes to another queue later than all of them has its turn meanwhile.
  await send(app.copies, { id: 'meanwhile' });
  await app.effectsOf('copied', 'meanwhile');
  expect(await begun()).toBeLessThanOrEqual(6);
  await app.openGate('side');
  for (const id of ids) await app.effectsOf('job-done', id);
});

test('what a function sets as a queue output is sent when it has succeeded, one message per element', async () => {
  const response = await app.fetch('/api/copy/x1?tag=t', { method: 'POST', body: 'hello' });
  expect(response.status).toBe(201);
  expect(await app.effectsOf('copied', 'x1-a')).toEqual([{ id: 'x1-a' }]);
  expect(await app.effectsOf('copied', 'x1-b')).toEqual([{ id: 'x1-b', text: 'hello' }]);
});

test('hooks may change what a function is given and see what it did', async () => {
  await send(app.hooked, 'original');
  expect(await app.effectsOf('hook', 'post')).toEqual(['changed by a hook']);
});

test('a host that is stopped lets running functions end and leaves the rest in the queue', async () => {
  const other = await startFixture();
  await send(other.jobs, { id: 'draining', gate: 'draining' });
  await other.effectsOf('job', 'draining');
  const stopped = other.stop();
  await other.openGate('draining');
  await stopped;
  expect(await other.effects('job-done', 'draining')).toHaveLength(1);

  await send(other.jobs, { id: 'later' });
  expect((await other.jobs.getProperties()).approximateMessagesCount).toBe(1);
  await other.start();
  await other.effectsOf('job-done', 'later');
  await other.stop();
});

test('what does not end in time is given back at once when the host is stopped', async () => {
  const other = await startFixture({ drainMsMax: 200, messageLeaseSeconds: 60 });
  await send(other.jobs, { id: 'stuck', gate: 'stuck' });
  await other.effectsOf('job', 'stuck');
  await other.stop();
  expect((await other.jobs.peekMessages()).peekedMessageItems).toHaveLength(1);
});

test('a message that a killed host held is delivered again by the next one', async () => {
  const other = await startFixture({ messageLeaseSeconds: 1 });
  await send(other.jobs, { id: 'killed', gate: 'killed' });
  await other.effectsOf('job', 'killed');
  await other.host().kill();
  await other.openGate('killed');
  await other.start();
  await other.effectsOf('job-done', 'killed');
  // More often where a host was held up for as long as its lease.
  const seen = (await other.effects('job', 'killed')) as { metadata: { dequeueCount: number } }[];
  expect(seen.map(({ metadata }) => metadata.dequeueCount)).toEqual(expect.arrayContaining([1, 2]));
  await other.stop();
});

test('a message stays hidden for as long as its function runs', async () => {
  await until('more than a lease is over', async () =>
    performance.now() - patientSince > LEASE_SECONDS * 1_200 ? true : undefined,
  );
  await patient.openGate('long');
  await patient.effectsOf('job-done', 'long');
  await emptied(patient.jobs);
  expect(await patient.effects('job', 'long')).toHaveLength(1);
});
