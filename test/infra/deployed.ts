/** What the tests of `infra/` look at: everything that `main.bicep` and `events.bicep` deploy, with every option taken. */
import { execFileSync } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { repositoryNames } from '../../src/settings.ts';
import { type Deployed, type Deployment, deploymentOf, type Value } from './bicep.ts';
import type { Registered } from './registrations.ts';

export const root = fileURLToPath(new URL('../../', import.meta.url));
export const textOf = (file: string): string => readFileSync(path.join(root, file), 'utf8');
export const jsonOf = (file: string): { [key: string]: Value } => JSON.parse(textOf(file));
export const filesOf = (pattern: string): string[] => globSync(pattern, { cwd: root });

/** Another name than the default. */
export const REPOSITORY = 'photos';
export const names = repositoryNames(REPOSITORY);
export const everything = {
  environmentName: 'demo',
  location: 'somewhere',
  repository: REPOSITORY,
  operatorPrincipalId: 'operator',
  alertEmail: 'operator@example.net',
  privateNetwork: true,
  wrappingKey: true,
  durableAlwaysReady: 1,
};

export function mainWith(changed: { readonly [parameter: string]: Value } = {}): Deployment {
  return deploymentOf(path.join(root, 'infra/main.bicep'), { ...everything, ...changed });
}

export const main = mainWith();
export const outputs = Object.fromEntries(main.outputs) as { [name: string]: string };
export const events = deploymentOf(path.join(root, 'infra/events.bicep'), {
  eventTopicName: outputs.EVENT_TOPIC_NAME ?? '',
  functionAppName: outputs.FUNCTION_APP_NAME ?? '',
  inboxContainer: outputs.INBOX_CONTAINER ?? '',
  archiveStorageId: outputs.ARCHIVE_STORAGE_ID ?? '',
  deadLetterContainer: outputs.DEAD_LETTER_CONTAINER ?? '',
  eventsIdentityId: outputs.EVENTS_IDENTITY_ID ?? '',
});

export const ofType = (type: string, { resources } = main): Deployed[] =>
  resources.filter((each) => each.type === type);
export const propertiesOf = ({ body }: Deployed): { [key: string]: Value } =>
  body.properties as { [key: string]: Value };
export const lastOf = (name: string): string => name.split('/').at(-1) ?? '';

export function only<T>(items: readonly T[]): T {
  expect(items).toHaveLength(1);
  return items[0] as T;
}

export const ACCOUNT = 'Microsoft.Storage/storageAccounts';
const account = (start: string): Deployed => only(ofType(ACCOUNT).filter(({ name }) => name.startsWith(start)));
export const archive = account('stfirn');
export const host = account('stfunc');
export const within = (of: Deployed, type: string): string[] =>
  ofType(`${ACCOUNT}/${type}`)
    .filter(({ name }) => name.startsWith(`${of.name}/`))
    .map(({ name }) => lastOf(name))
    .toSorted();

export const app = only(ofType('Microsoft.Web/sites'));
export const appSettings = propertiesOf(only(ofType('Microsoft.Web/sites/config'))) as { [name: string]: string };

/** What the app registers when it has the app settings of the template, and these on top. */
export function registeredWith(settings: Record<string, string> = {}): Registered[] {
  const env = { PATH: process.env.PATH, ...appSettings, ...settings };
  const file = fileURLToPath(new URL('./registrations.ts', import.meta.url));
  return JSON.parse(execFileSync(process.execPath, [file], { env, encoding: 'utf8' })) as Registered[];
}

/** Built-in roles as Azure documents them. */
export const builtInRoles: { readonly [role: string]: string } = {
  'Storage Blob Data Owner': 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b',
  'Storage Blob Data Contributor': 'ba92f5b4-2d11-453d-a403-e96b0029c9fe',
  'Storage Queue Data Contributor': '974c5e8b-45b9-4653-ba55-5f855dd0fb88',
  'Storage Table Data Contributor': '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3',
  'Key Vault Secrets User': '4633458b-17de-408a-b874-0445c86b69e6',
  'Key Vault Crypto User': '12338af0-0e69-4776-bea7-57ae8d297424',
  'Monitoring Metrics Publisher': '3913510d-42f4-4e42-8a64-420c390055eb',
};

export const roleAssignments = ofType('Microsoft.Authorization/roleAssignments');

export function roleOf(assignment: Deployed): string {
  const id = lastOf(String(propertiesOf(assignment).roleDefinitionId));
  return Object.keys(builtInRoles).find((role) => builtInRoles[role] === id) ?? `unknown role ${id}`;
}
