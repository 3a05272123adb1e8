/** What is deployed, as it is deployed, on the local host. */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildPackage } from '../../build.ts';
import type { Azurite } from '../../src/local/azurite.ts';
import { publishNow, waitForSnapshot, waitUntilRecorded } from '../../src/local/demo/watch.ts';
import { hostFunctions } from '../../src/local/stack.ts';
import { readStartOptions } from '../../src/local/start-options.ts';
import { openFromEnvironment } from '../../src/open-from-environment.ts';
import { startAzurite } from '../kit/azurite.ts';
import { startCollector } from '../kit/collector.ts';
import { contentOf } from '../kit/repository.ts';

const folder = await mkdtemp(path.join(tmpdir(), 'firn-package-'));
const packageFolder = path.join(folder, 'package');

let azurite: Azurite;

beforeAll(async () => {
  [azurite] = await Promise.all([startAzurite(), buildPackage(packageFolder)]);
});
afterAll(async () => {
  await azurite.stop();
  await rm(folder, { recursive: true, force: true });
});

test('the package has the bundle, host.json and a manifest, and nothing that must be installed', async () => {
  expect((await readdir(packageFolder)).sort()).toEqual([
    'apache-arrow.cjs',
    'axios.cjs',
    'cloneDeep.cjs',
    'host.json',
    'index.cjs',
    'moment.cjs',
    'package.json',
    'telemetry-sdk.cjs',
    'validator.cjs',
  ]);
  const manifest = JSON.parse(await readFile(path.join(packageFolder, 'package.json'), 'utf8'));
  expect(manifest).toMatchObject({ main: 'index.cjs' });
  expect(manifest).not.toHaveProperty('dependencies');
});

test('all functions of the package are registered from its first file alone', async () => {
  const loader = fileURLToPath(new URL('../bench/cold-start-load.ts', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [loader, path.join(packageFolder, 'index.cjs')]);
  expect(JSON.parse(stdout)).toHaveProperty('files', ['index.cjs']);
});

test('what the storage SDK would import from Apache Arrow is in the package', async () => {
  expect(await import(path.join(packageFolder, 'apache-arrow.cjs'))).toHaveProperty('tableFromIPC');
});

test('a deployment in small: POST /api/repository creates the repository once, and uploads become a snapshot in the package, which sends telemetry', async () => {
  await using collector = await startCollector();
  const environment = {
    FIRN_STORAGE: azurite.connectionString,
    FIRN_PASSPHRASE: 'correct horse battery staple',
    FIRN_PUBLISH_SCHEDULE: '* * * * * *',
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
  };
  await using host = await hostFunctions(environment, { httpPort: 0, packageFolder });
  const create = () => fetch(`${host.url}/api/repository`, { method: 'POST' });
  const [first, second] = [await create(), await create()];
  expect({ status: first.status, body: await first.json() }).toEqual({
    status: 201,
    body: { repository: 'firn', created: true },
  });
  expect({ status: second.status, body: await second.json() }).toEqual({
    status: 200,
    body: { repository: 'firn', created: false },
  });

  const { repository } = await openFromEnvironment(environment);
  await repository.inbox.create('docs/a', Buffer.from('one'));
  await repository.inbox.create('docs/folder/b', Buffer.from('two'));
  await waitUntilRecorded(repository, 'docs', 2, {});
  await publishNow(host.url, 'docs');
  const snapshot = await waitForSnapshot(repository, 'docs', undefined, {});
  expect(await contentOf(repository, snapshot)).toEqual({ a: 'one', 'folder/b': 'two' });
  await host.stop();
  expect(collector.metrics()).toContainEqual(expect.objectContaining({ name: 'firn.files', value: 2 }));
  expect(collector.spans().map(({ name }) => name)).toContain('commitSnapshot');
});

test('without a passphrase, POST /api/repository creates nothing and says what is missing', async () => {
  const environment = {
    FIRN_STORAGE: azurite.connectionString,
    FIRN_REPOSITORY: 'other',
    FIRN_PASSPHRASE: '@Microsoft.KeyVault(SecretUri=https://v.example/secrets/firn-passphrase)',
  };
  await using host = await hostFunctions(environment, { httpPort: 0, packageFolder });
  const response = await fetch(`${host.url}/api/repository`, { method: 'POST' });
  expect({ status: response.status, body: await response.json() }).toMatchObject({
    status: 409,
    body: { error: 'FIRN_REPOSITORY_ENCRYPTED' },
  });
});

test('a folder without a package says how to build one', async () => {
  await expect(hostFunctions({}, { packageFolder: folder })).rejects.toMatchObject({
    code: 'FIRN_LOCAL_STACK_FAILED',
    message: expect.stringContaining('npm run package'),
  });
});

test('npm start hosts the package where it is told to, and refuses what it does not know', () => {
  expect(readStartOptions({}, '/firn', ['--package']).packageFolder).toBe(path.join('/firn', 'dist', 'package'));
  expect(readStartOptions({}, '/firn').packageFolder).toBeUndefined();
  expect(() => readStartOptions({}, '/firn', ['--packages'])).toThrow(
    expect.objectContaining({ code: 'FIRN_USAGE', message: expect.stringContaining('--packages') }),
  );
});
