/** Who may do what: roles, and the keys that there are not. */
import { describe, expect, test } from 'vitest';
import { type Deployed, textsIn } from './bicep.ts';
import {
  appSettings,
  archive,
  builtInRoles,
  events,
  filesOf,
  host,
  jsonOf,
  main,
  ofType,
  only,
  propertiesOf,
  roleAssignments,
  roleOf,
  textOf,
} from './deployed.ts';

describe('roles', () => {
  test('are those that Azure has under these ids, and each is given to somebody', () => {
    expect(jsonOf('infra/roles.json')).toEqual(builtInRoles);
    expect(new Set(roleAssignments.map(roleOf))).toEqual(new Set(Object.keys(builtInRoles)));
  });

  test('have a name that tells resource, principal and role, so that none is given twice or taken for another', () => {
    for (const assignment of roleAssignments) {
      const { principalId } = propertiesOf(assignment);
      expect(assignment.name).toContain(String(principalId));
      expect(assignment.name).toContain(roleOf(assignment));
    }
    expect(new Set(roleAssignments.map(({ name }) => name)).size).toBe(roleAssignments.length);
  });

  test('are justified in a comment, and listed with who has them and on what in docs/security.md', () => {
    for (const file of filesOf('infra/**/*.bicep')) {
      for (const [, before] of textOf(file).matchAll(
        /([^\n]*)\nresource \w+ 'Microsoft\.Authorization\/roleAssignments/g,
      )) {
        expect(before, file).toMatch(/^\/\/ /);
      }
    }
    const whose = { 'id-firn-functions': 'functions', 'id-firn-events': 'event topic', operator: 'operator' };
    const where = { stfirn: 'archive', deadletter: 'undelivered', stfunc: 'host', 'kv-': 'vault', 'appi-': 'Insights' };
    const rowOf = (each: Deployed): string[] => {
      const principal = Object.entries(whose).find(([id]) => String(propertiesOf(each).principalId).includes(id));
      const scope = Object.entries(where).findLast(([start]) => String(each.body.scope).includes(start));
      return [principal?.[1] ?? '', roleOf(each), scope?.[1] ?? ''];
    };
    const rows = textOf('docs/security.md')
      .split('\n')
      .filter((line) => line.startsWith('| ') && Object.keys(builtInRoles).some((role) => line.includes(`*${role}*`)));
    for (const assignment of roleAssignments) {
      const cells = rowOf(assignment);
      expect(
        rows.filter((row) => cells.every((cell) => row.includes(cell))),
        cells.join(', '),
      ).toHaveLength(1);
    }
    expect(rows).toHaveLength(roleAssignments.length);
  });
});

test('no template, parameter file or setting holds a key, and nothing may be reached with one', () => {
  for (const account of [archive, host]) {
    expect(propertiesOf(account)).toMatchObject({
      allowSharedKeyAccess: false,
      allowBlobPublicAccess: false,
      minimumTlsVersion: 'TLS1_2',
      publicNetworkAccess: 'Disabled',
    });
  }
  expect(propertiesOf(only(ofType('Microsoft.Insights/components')))).toMatchObject({ DisableLocalAuth: true });
  const workspace = only(ofType('Microsoft.OperationalInsights/workspaces'));
  expect(propertiesOf(workspace)).toMatchObject({ features: { disableLocalAuth: true } });
  const publishing = ofType('Microsoft.Web/sites/basicPublishingCredentialsPolicies').map(propertiesOf);
  expect(publishing).toEqual([{ allow: false }, { allow: false }]);
  expect(Object.values(appSettings).join('\n')).not.toMatch(/AccountKey|SharedAccess|sig=/);
  const keys = [...main.resources, ...events.resources].filter((each) =>
    textsIn(each.body).join().includes('«keys of'),
  );
  expect(keys.map(({ type }) => type)).toEqual(['Microsoft.EventGrid/systemTopics/eventSubscriptions']);
});
