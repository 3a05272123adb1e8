/**
 * After the code is deployed: creates the repository where there is none, and subscribes to the events of uploads. May be
 * run again at any time.
 *
 * The functions create the repository, because they have the passphrase and reach the storage; this machine needs neither.
 * What was deployed a moment ago may not work yet (roles and references take some minutes), so it is tried for a while.
 */
import { fileURLToPath } from 'node:url';
import { need, runHook, type World, withOutputs } from './azure.ts';

const TRIES_MAX = 40;
const WAIT_MS = 15_000;
/** An app reads its references to Key Vault when it starts; this often it is started again to read them anew. */
const RESTART_EVERY = 8;

const OUTPUTS = [
  'AZURE_RESOURCE_GROUP',
  'FUNCTION_APP_NAME',
  'EVENT_TOPIC_NAME',
  'INBOX_CONTAINER',
  'ARCHIVE_STORAGE_ID',
  'DEAD_LETTER_CONTAINER',
  'EVENTS_IDENTITY_ID',
  'KEY_VAULT_NAME',
];

interface Keys {
  /** Of the webhook of blob triggers; the host makes it when it first runs the code. */
  readonly blobs: string | null;
  readonly app: string | null;
}

export async function postdeploy(given: World): Promise<void> {
  const world = await withOutputs(given, OUTPUTS);
  const app = need(world, 'FUNCTION_APP_NAME');
  const group = need(world, 'AZURE_RESOURCE_GROUP');
  const parameters = {
    eventTopicName: need(world, 'EVENT_TOPIC_NAME'),
    functionAppName: app,
    inboxContainer: need(world, 'INBOX_CONTAINER'),
    archiveStorageId: need(world, 'ARCHIVE_STORAGE_ID'),
    deadLetterContainer: need(world, 'DEAD_LETTER_CONTAINER'),
    eventsIdentityId: need(world, 'EVENTS_IDENTITY_ID'),
  };
  const vault = need(world, 'KEY_VAULT_NAME');
  const onApp = ['--name', app, '--resource-group', group];
  const host = await world.az(['functionapp', 'show', ...onApp, '--query', 'defaultHostName', '--output', 'tsv']);

  world.say('Waiting for the functions to start…');
  const keys = await tried(world, 'the functions have started', async () => {
    const query = '{blobs:systemKeys.blobs_extension,app:functionKeys.default}';
    const found = JSON.parse(
      await world.az(['functionapp', 'keys', 'list', ...onApp, '--query', query, '--output', 'json']),
    ) as Keys;
    return found.blobs && found.app ? { app: found.app } : undefined;
  });

  let tries = 0;
  const created = await tried(world, 'the repository is there', async () => {
    tries += 1;
    if (tries % RESTART_EVERY === 0) await world.az(['functionapp', 'restart', ...onApp, '--output', 'none']);
    const response = await world.fetch(`https://${host}/api/repository`, {
      method: 'POST',
      headers: { 'x-functions-key': keys.app },
    });
    if (response.ok) return response.status === 201 ? 'created' : 'there already';
    throw new Error(`POST /api/repository answered ${response.status}: ${await response.text()}`);
  });
  world.say(`The repository is ${created}.`);

  await world.az([
    'deployment',
    'group',
    'create',
    '--resource-group',
    group,
    '--name',
    'firn-events',
    '--template-file',
    'infra/events.bicep',
    '--parameters',
    ...Object.entries(parameters).map(([name, value]) => `${name}=${value}`),
    '--output',
    'none',
  ]);
  world.say('Uploads to the inbox are announced to the functions.');
  world.say(`The passphrase is in the vault ${vault}. Keep a copy of it elsewhere: docs/deploy.md.`);
}

/** Tries until there is a result; the last failure is thrown when there is none in time. */
async function tried<T>(world: World, wanted: string, work: () => Promise<T | undefined>): Promise<T> {
  let failure: unknown;
  for (let tries = 1; tries <= TRIES_MAX; tries += 1) {
    if (tries > 1) await world.wait(WAIT_MS);
    try {
      const result = await work();
      if (result !== undefined) return result;
      failure = undefined;
    } catch (error) {
      failure = error;
    }
  }
  const minutes = (TRIES_MAX * WAIT_MS) / 60_000;
  const reason = failure instanceof Error ? `: ${failure.message}` : '';
  throw new Error(`Waited ${minutes} minutes until ${wanted}${reason}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await runHook(postdeploy);
