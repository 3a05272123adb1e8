import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { hostSettings, readHostJson } from '../../src/local/host-json.ts';

test('an empty file means the defaults of the real host', () => {
  expect(hostSettings({ version: '2.0' })).toMatchObject({
    functionTimeoutMs: 30 * 60_000,
    queues: {
      batchSize: 16,
      newBatchThreshold: 8,
      maxDequeueCount: 5,
      visibilityTimeoutMs: 0,
      messageEncoding: 'base64',
    },
    http: { routePrefix: 'api' },
    durableTask: { hubName: 'TestHubName' },
  });
});

test('values are read, and half of batchSize is the threshold where none is given', () => {
  const settings = hostSettings({
    version: '2.0',
    functionTimeout: '-1',
    extensions: {
      queues: { batchSize: 6, visibilityTimeout: '00:00:30', maxPollingInterval: '00:00:00.250' },
      http: { routePrefix: '' },
    },
  });
  expect(settings.functionTimeoutMs).toBe(0);
  expect(settings.queues).toMatchObject({
    batchSize: 6,
    newBatchThreshold: 3,
    visibilityTimeoutMs: 30_000,
    maxPollingIntervalMs: 250,
  });
  expect(settings.http.routePrefix).toBe('');
});

test('an app setting overrides the file', () => {
  const settings = hostSettings(
    { version: '2.0', extensions: { queues: { batchSize: 6 } } },
    { AzureFunctionsJobHost__extensions__queues__batchSize: '2' },
  );
  expect(settings.queues.batchSize).toBe(2);
});

test.each([
  ['extensions.queues.batchSize', { extensions: { queues: { batchSize: 0 } } }],
  ['extensions.queues.batchSize', { extensions: { queues: { batchSize: 33 } } }],
  ['extensions.queues.maxDequeueCount', { extensions: { queues: { maxDequeueCount: 'many' } } }],
  ['extensions.queues.visibilityTimeout', { extensions: { queues: { visibilityTimeout: '30' } } }],
  ['extensions.queues.maxPollingInterval', { extensions: { queues: { maxPollingInterval: '00:00:00.050' } } }],
  ['extensions.queues.batchSize', { extensions: { queues: 'no object' } }],
  ['extensions.durableTask.hubName', { extensions: { durableTask: { hubName: 'a b' } } }],
  ['functionTimeout', { functionTimeout: 'soon' }],
  ['version', { version: '3.0' }],
])('a value that cannot be used names its key: %s', (key, document) => {
  expect(() => hostSettings(document)).toThrow(
    expect.objectContaining({
      code: 'FIRN_SETTING_INVALID',
      details: expect.objectContaining({ name: `host.json: ${key}` }),
    }),
  );
});

test('a missing file counts as an empty one; one that is no JSON is refused', async () => {
  expect((await readHostJson('/nonexistent/host.json')).queues.batchSize).toBe(16);
  await expect(readHostJson(fileURLToPath(import.meta.url))).rejects.toMatchObject({ code: 'FIRN_SETTING_INVALID' });
});
