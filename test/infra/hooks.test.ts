/** The hooks of a deployment against an Azure CLI that answers as the real one does. */
import { expect, test } from 'vitest';
import type { World } from '../../infra/hooks/azure.ts';
import { postdeploy } from '../../infra/hooks/postdeploy.ts';
import { postdown } from '../../infra/hooks/postdown.ts';
import { preprovision } from '../../infra/hooks/preprovision.ts';

const KEY = 'a secret key';
const environment = {
  AZURE_ENV_NAME: 'demo',
  AZURE_LOCATION: 'westeurope',
  AZURE_RESOURCE_GROUP: 'rg-demo',
  FUNCTION_APP_NAME: 'func',
  EVENT_TOPIC_NAME: 'topic',
  INBOX_CONTAINER: 'firn-inbox',
  ARCHIVE_STORAGE_ID: '/archive',
  DEAD_LETTER_CONTAINER: 'firn-deadletter',
  EVENTS_IDENTITY_ID: '/events',
  KEY_VAULT_NAME: 'kv',
};

interface Fake extends World {
  readonly commands: string[];
  readonly requests: { url: string; headers: unknown }[];
  readonly said: string[];
  waits: number;
}

/** `answers` by the first words of a command; an array answers one after the other, and its last for ever. */
function fakeWorld(answers: Record<string, string | readonly string[]>, statuses: readonly number[] = [200]): Fake {
  const asked = new Map<string, number>();
  const nextOf = <T>(name: string, values: readonly T[]): T | undefined => {
    const n = asked.get(name) ?? 0;
    asked.set(name, n + 1);
    return values[Math.min(n, values.length - 1)];
  };
  const world: Fake = {
    environment,
    commands: [],
    requests: [],
    said: [],
    waits: 0,
    async az(args) {
      const command = args.join(' ');
      world.commands.push(command);
      const known = Object.keys(answers).find((start) => command.startsWith(start));
      const answer = known === undefined ? '' : answers[known];
      return (typeof answer === 'string' ? answer : nextOf(known ?? '', answer ?? [])) ?? '';
    },
    async fetch(url, { headers }) {
      world.requests.push({ url, headers });
      const status = nextOf('fetch', statuses) ?? 200;
      return new Response(`{"status":${status}}`, { status });
    },
    async wait() {
      world.waits += 1;
    },
    say: (text) => void world.said.push(text),
  };
  return world;
}

const started = JSON.stringify({ blobs: 'blobs key', app: KEY });
const app = { 'functionapp show': 'func.example.net', 'functionapp keys list': started };

test('after a deployment the repository is created and uploads are announced, in this order', async () => {
  const world = fakeWorld(app, [201]);
  await postdeploy(world);
  expect(world.requests).toEqual([
    { url: 'https://func.example.net/api/repository', headers: { 'x-functions-key': KEY } },
  ]);
  expect(world.commands.at(-1)).toContain('deployment group create --resource-group rg-demo');
  expect(world.commands.at(-1)).toContain('infra/events.bicep');
  expect(world.said.join()).toContain('created');
});

test('no key is on a command line or printed', async () => {
  const world = fakeWorld(app);
  await postdeploy(world);
  expect([...world.commands, ...world.said].filter((text) => /key$|a secret/.test(text))).toEqual([]);
});

test('what was deployed a moment ago is waited for: the key of the webhook, the role on the passphrase', async () => {
  const world = fakeWorld(
    { ...app, 'functionapp keys list': ['{"blobs":null,"app":"x"}', '{"blobs":null,"app":"x"}', started] },
    [404, 503, ...new Array<number>(8).fill(409), 201],
  );
  await postdeploy(world);
  expect(world.waits).toBe(2 + 10);
  expect(world.requests).toHaveLength(11);
  // References to Key Vault are read at the start of an app.
  expect(world.commands.filter((command) => command.startsWith('functionapp restart'))).toHaveLength(1);
});

test('a repository that cannot be created ends the hook with the reason, and nothing is subscribed', async () => {
  const world = fakeWorld(app, [409]);
  await expect(postdeploy(world)).rejects.toThrow(/Waited 10 minutes.*409: \{"status":409\}/);
  expect(world.commands.filter((command) => command.startsWith('deployment'))).toEqual([]);
});

test('a missing setting is named before anything is done', async () => {
  const world = fakeWorld(app);
  await expect(postdeploy({ ...world, environment: {} })).rejects.toThrow('FUNCTION_APP_NAME');
  expect(world.commands).toEqual([]);
});

test('without azd, names come from the outputs of a deployment, whose case Azure changes', async () => {
  const { AZURE_ENV_NAME, AZURE_LOCATION, ...outputs } = environment;
  const changed = Object.entries(outputs).map(([name, value]) => [name.replace('AZURE_', 'azurE_'), { value }]);
  const world = fakeWorld({ ...app, 'deployment sub show': JSON.stringify(Object.fromEntries(changed)) });
  await postdeploy({ ...world, environment: { AZURE_DEPLOYMENT: 'firn' } });
  expect(world.commands.at(-1)).toContain('deployment group create --resource-group rg-demo');
});

test('the resource group of the archive is made where there is none, and left alone where there is one', async () => {
  const first = fakeWorld({ 'group exists': 'false' });
  await preprovision(first);
  expect(first.commands).toContain('group create --name rg-demo-archive --location westeurope --output none');
  const second = fakeWorld({ 'group exists': 'true' });
  await preprovision(second);
  expect(second.commands).toHaveLength(1);
});

test('azd down keeps the archive unless it is named to be deleted', async () => {
  const answers = { 'group exists': 'true', 'lock list': '["/locks/a","/locks/b"]' };
  for (const DELETE_ARCHIVE of [undefined, '', 'true', 'rg-other-archive']) {
    const world = fakeWorld(answers);
    await postdown({ ...world, environment: { ...environment, DELETE_ARCHIVE } });
    expect(world.commands).toEqual(['group exists --name rg-demo-archive --output tsv']);
    expect(world.said.join()).toContain('Kept');
  }
  const world = fakeWorld(answers);
  await postdown({ ...world, environment: { ...environment, DELETE_ARCHIVE: 'rg-demo-archive' } });
  expect(world.commands.filter((command) => command.startsWith('rest --method delete'))).toHaveLength(2);
  expect(world.commands.at(-1)).toBe('group delete --name rg-demo-archive --yes --output none');
});
