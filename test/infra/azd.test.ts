/** What azd and Core Tools read: `azure.yaml`, its hooks, the parameter file and `.funcignore`, held to the rest. */
import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import type { Value } from './bicep.ts';
import { parseBicep } from './bicep-syntax.ts';
import { app, everything, filesOf, jsonOf, main, mainWith, ofType, outputs, root, textOf } from './deployed.ts';

const azure = textOf('azure.yaml');

test('azure.yaml names the service by the tag of the app, the folder of the package, and scripts that there are', () => {
  const service = /^services:\n {2}(\w+):/m.exec(azure)?.[1];
  expect((app.body.tags as { [tag: string]: Value })['azd-service-name']).toBe(service);
  const { scripts, main: entry } = jsonOf('package.json') as { scripts: { [name: string]: string }; main: string };
  expect(entry.startsWith(`${/dist: (\S+)/.exec(azure)?.[1]}/`)).toBe(true);
  const named = [...azure.matchAll(/npm run --silent (\S+)/g)].map(([, name = '']) => name);
  expect(new Set(named).size).toBe(3);
  for (const name of named) expect(textOf(scripts[name]?.replace('node ', '') ?? '')).toContain('runHook(');
  expect(textOf('infra/main.bicep')).toContain("targetScope = 'subscription'");
});

test('the hooks read what main.bicep puts out, and give events.bicep what it wants', () => {
  const hooks = filesOf('infra/hooks/*.ts').map(textOf).join('\n');
  const ofAzd = ['AZURE_ENV_NAME', 'AZURE_LOCATION'];
  const listed = /const OUTPUTS = \[(.*?)\]/s.exec(hooks)?.[1]?.match(/\w+/g) ?? [];
  expect(listed.filter((name) => !main.outputs.has(name))).toEqual([]);
  for (const [, name = ''] of hooks.matchAll(/need\(world, '(\w+)'\)/g)) {
    expect([...main.outputs.keys(), ...ofAzd]).toContain(name);
  }
  const given = /const parameters = \{(.*?)\};/s.exec(textOf('infra/hooks/postdeploy.ts'))?.[1] ?? '';
  const wanted = parseBicep(textOf('infra/events.bicep'), 'events.bicep').filter(({ kind }) => kind === 'param');
  expect([...given.matchAll(/^ +(\w+):/gm)].map(([, name]) => name)).toEqual(wanted.map(({ name }) => name));
  const [, start, end] = /return `(.*)\$\{.*\}(.*)`;/.exec(textOf('infra/hooks/azure.ts')) ?? [];
  expect(`${start}${everything.environmentName}${end}`).toBe(outputs.ARCHIVE_RESOURCE_GROUP);
});

test('main.parameters.json lets a user set every parameter but the passphrase, and names no other', () => {
  const { parameters } = jsonOf('infra/main.parameters.json') as { parameters: { [name: string]: { value: Value } } };
  const declared = [...main.parameters.keys()].filter((name) => name !== 'passphrase');
  expect(Object.keys(parameters).toSorted()).toEqual(declared.toSorted());
  const deploy = textOf('docs/deploy.md');
  for (const { value } of Object.values(parameters)) {
    const [, variable] = /^\$\{(DEPLOY_\w+)\}$/.exec(String(value)) ?? [];
    if (variable !== undefined) expect(deploy).toContain(`\`${variable}\``);
  }
});

test('a resource group that was there before is not made by the deployment, and azd therefore keeps it', () => {
  const groups = (archiveGroupExists: boolean) =>
    ofType('Microsoft.Resources/resourceGroups', mainWith({ archiveGroupExists })).map(({ name }) => name);
  expect(groups(false)).toEqual(['rg-demo', 'rg-demo-archive']);
  expect(groups(true)).toEqual(['rg-demo']);
});

test('.funcignore leaves of what is kept in git only host.json and package.json', () => {
  const git = (...args: string[]) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim().split('\n');
  const left = new Set(git('ls-files', '--cached'));
  for (const ignored of git('ls-files', '--cached', '--ignored', '--exclude-from=.funcignore')) left.delete(ignored);
  expect([...left]).toEqual(['host.json', 'package.json']);
  expect(textOf('.funcignore').split('\n')).not.toContain('node_modules');
});
