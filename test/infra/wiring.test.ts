/**
 * Holds `infra/` and `host.json` together with the functions as the local host sees them: whatever one side names has to be
 * there on the other.
 */
import { describe, expect, test } from 'vitest';
import { errorCodes } from '../../src/errors.ts';
import { connectionOf } from '../../src/local/functions.ts';
import { hostSettings } from '../../src/local/host-json.ts';
import { parseSchedule } from '../../src/local/ncrontab.ts';
import { numberSettings, readSettings, readStorageConnection } from '../../src/settings.ts';
import { tiers } from '../../src/storage/blob-store.ts';
import { type Deployed, textsIn, type Value } from './bicep.ts';
import { parseBicep } from './bicep-syntax.ts';
import {
  ACCOUNT,
  app,
  appSettings,
  archive,
  events,
  everything,
  filesOf,
  host,
  jsonOf,
  lastOf,
  main,
  mainWith,
  names,
  ofType,
  only,
  outputs,
  propertiesOf,
  REPOSITORY,
  registeredWith,
  roleAssignments,
  roleOf,
  textOf,
  within,
} from './deployed.ts';
import type { Registered } from './registrations.ts';

const functions = registeredWith();
const bindings = functions.flatMap(({ trigger, extraInputs, outputs: out }) => [trigger, ...extraInputs, ...out]);
const triggers = (kind: Registered['kind']): Registered[] => functions.filter((each) => each.kind === kind);
const bindingsOf = (type: RegExp) => bindings.map(({ binding }) => binding).filter((each) => type.test(each.type));

test('every Bicep file is read, and none declares a parameter or variable that it does not use', () => {
  for (const file of filesOf('infra/**/*.bicep')) {
    const source = textOf(file);
    for (const { kind, name } of parseBicep(source, file)) {
      if (kind !== 'param' && kind !== 'var') continue;
      expect(source.match(new RegExp(`\\b${name}\\b`, 'g'))?.length, `${file}: ${name}`).toBeGreaterThan(1);
    }
  }
});

describe('storage', () => {
  const filter = () => propertiesOf(only(events.resources)).filter as { [key: string]: Value };

  test('the containers of the archive are those of the code, and one for undelivered events', () => {
    const wanted = [names.inbox, names.data, names.state, outputs.DEAD_LETTER_CONTAINER ?? ''];
    expect(within(archive, 'blobServices/containers')).toEqual(wanted.toSorted());
  });

  test('the queues are those that bindings name, and the poison queues of the host', () => {
    const named = bindingsOf(/^queue/i).map(({ queueName }) => String(queueName));
    // A queue trigger that fails fills <queue>-poison; that of the last resort, which has that name, is not to fail.
    const poison = triggers('queuetrigger').map(({ trigger }) => String(trigger.binding.queueName));
    const ofHost = poison.filter((queue) => !queue.endsWith('-poison')).map((queue) => `${queue}-poison`);
    const ofBlobs = triggers('blobtrigger').map(() => 'webjobs-blobtrigger-poison');
    expect(within(archive, 'queueServices/queues')).toEqual([...new Set([...named, ...ofHost, ...ofBlobs])].toSorted());
    expect(named.toSorted()).toContain(names.batchQueue);
  });

  test('the data container is what is protected, and lifecycle rules touch only what may go', () => {
    const immutable = mainWith({ dataProtection: 'immutable' });
    const policy = only(ofType(`${ACCOUNT}/blobServices/containers/immutabilityPolicies`, immutable));
    expect(policy.name).toBe(`${archive.name}/default/${names.data}/default`);
    for (const dataProtection of ['none', 'versioning', 'immutable']) {
      const { resources } = mainWith({ dataProtection });
      const rules = resources.filter(({ type }) => type === `${ACCOUNT}/managementPolicies`).map(propertiesOf);
      const places = textsIn(rules).filter((text) => text.endsWith('/'));
      expect(places.length).toBeGreaterThan(0);
      const containers = within(archive, 'blobServices/containers');
      for (const place of places) expect(containers).toContain(place.split('/')[0]);
      expect(places.filter((place) => place.startsWith(`${names.data}/`))).toEqual([]);
    }
    expect(textOf('docs/design.md')).toContain('rehydrated/');
  });

  test('uploads to the container of the blob trigger are announced to its webhook, and to nothing else', () => {
    const trigger = only(triggers('blobtrigger'));
    expect(trigger.trigger.binding).toMatchObject({ source: 'EventGrid', path: `${names.inbox}/{name}` });
    const { endpointUrl } = (
      propertiesOf(only(events.resources)).destination as { properties: { endpointUrl: string } }
    ).properties;
    expect(/functionName=Host\.Functions\.(\w+)&/.exec(endpointUrl)?.[1]).toBe(trigger.name);
    expect(filter()).toEqual({
      includedEventTypes: ['Microsoft.Storage.BlobCreated'],
      subjectBeginsWith: `/blobServices/default/containers/${names.inbox}/blobs/`,
    });
  });

  test('events that cannot be delivered go to a container that is there, as an identity that may write it', () => {
    const { deadLetterWithResourceIdentity } = propertiesOf(only(events.resources));
    expect(textsIn(deadLetterWithResourceIdentity ?? '')).toEqual(
      expect.arrayContaining([archive.id, outputs.DEAD_LETTER_CONTAINER, outputs.EVENTS_IDENTITY_ID]),
    );
    const topic = only(ofType('Microsoft.EventGrid/systemTopics'));
    expect(textsIn(topic.body)).toEqual(expect.arrayContaining([archive.id, outputs.EVENTS_IDENTITY_ID]));
    expect(events.resources[0]?.name).toBe(`${topic.name}/uploads`);
  });

  test('the package is read from a container that is there', () => {
    const { functionAppConfig } = propertiesOf(app);
    const uri = textsIn(functionAppConfig ?? '').find((text) => text.includes('.blob'));
    expect(within(host, 'blobServices/containers')).toEqual([uri?.split('»')[1]]);
  });
});

describe('app settings', () => {
  // A blob trigger hands failed events on in a queue of its account; the host keeps orchestrations in all three.
  const services = new Map([['AzureWebJobsStorage', new Set(['blob', 'queue', 'table'])]]);
  for (const binding of bindingsOf(/^(queue|blob)/i)) {
    const used = services.get(connectionOf(binding)) ?? new Set<string>();
    services.set(connectionOf(binding), used.add(binding.type.toLowerCase().startsWith('blob') ? 'blob' : 'queue'));
  }

  test('every connection that a binding names is there, with an identity and without a key; and no other is', () => {
    for (const [connection, used] of services) {
      expect(appSettings[connection]).toBeUndefined();
      expect(appSettings[`${connection}__credential`], connection).toBe('managedidentity');
      expect(appSettings[`${connection}__clientId`], connection).toContain('id-firn-functions');
      const reachesAll = appSettings[`${connection}__accountName`] !== undefined;
      for (const service of used) {
        expect(
          reachesAll || appSettings[`${connection}__${service}ServiceUri`],
          `${connection} ${service}`,
        ).toBeTruthy();
      }
    }
    const connections = Object.keys(appSettings).flatMap((name) => name.split('__').slice(0, -1));
    expect(new Set(connections)).toEqual(new Set(services.keys()));
  });

  test('they lead to the accounts whose roles the functions have', () => {
    expect(appSettings.AzureWebJobsStorage__accountName).toBe(host.name);
    expect(appSettings.FIRN_STORAGE__blobServiceUri).toBe(`«${archive.name}.properties.primaryEndpoints.blob»`);
    expect(appSettings.FIRN_STORAGE__queueServiceUri).toBe(`«${archive.name}.properties.primaryEndpoints.queue»`);
    const given = (account: Deployed) =>
      roleAssignments
        .filter(({ body }) => body.scope === account.id && textsIn(body).join().includes('id-firn-functions'))
        .map(roleOf);
    for (const [connection, used] of services) {
      const roles = given(connection === 'AzureWebJobsStorage' ? host : archive).join();
      for (const service of used) expect(roles, connection).toMatch(new RegExp(`Storage ${service} Data`, 'i'));
    }
  });

  test('the code can read all of them, names none that is missing, and none is Firn’s that it does not know', () => {
    const code = filesOf('{src,functions}/**/*.ts').map(textOf).join('\n');
    for (const name of Object.keys(appSettings)) {
      if (name.startsWith('FIRN_')) expect(code, name).toContain(name);
    }
    expect(readStorageConnection(appSettings)).toMatchObject({ clientId: appSettings.FIRN_STORAGE__clientId });
    const { settings, warnings } = readSettings({ ...appSettings, FIRN_PASSPHRASE: 'resolved' });
    expect(warnings).toEqual([]);
    expect(settings).toMatchObject({ repository: REPOSITORY, passphrase: 'resolved', snapshotAgeDaysMax: 7 });
  });

  test('the passphrase is a reference to a secret that is there, made once, and that the functions may read', () => {
    const secret = only(ofType('Microsoft.KeyVault/vaults/secrets'));
    const vault = only(ofType('Microsoft.KeyVault/vaults'));
    expect(appSettings.FIRN_PASSPHRASE).toBe(
      `@Microsoft.KeyVault(SecretUri=«${vault.name}.properties.vaultUri»secrets/${lastOf(secret.name)})`,
    );
    expect(secret.decorators).toContain('onlyIfNotExists');
    for (const file of ['docs/deploy.md', 'docs/operations.md']) {
      expect(textOf(file), file).toContain(`--name ${lastOf(secret.name)} `);
    }
    expect(propertiesOf(app).keyVaultReferenceIdentity).toContain('id-firn-functions');
  });

  test('none is one that Flex Consumption forbids', () => {
    const forbidden = [
      'AzureWebJobsDashboard',
      'ENABLE_ORYX_BUILD',
      'FUNCTIONS_EXTENSION_VERSION',
      'FUNCTIONS_WORKER_PROCESS_COUNT',
      'FUNCTIONS_WORKER_RUNTIME',
      'FUNCTIONS_WORKER_RUNTIME_VERSION',
      'SCM_DO_BUILD_DURING_DEPLOYMENT',
      'WEBSITE_CONTENTAZUREFILECONNECTIONSTRING',
      'WEBSITE_CONTENTOVERVNET',
      'WEBSITE_CONTENTSHARE',
      'WEBSITE_DNS_SERVER',
      'WEBSITE_MAX_DYNAMIC_APPLICATION_SCALE_OUT',
      'WEBSITE_NODE_DEFAULT_VERSION',
      'WEBSITE_RUN_FROM_PACKAGE',
      'WEBSITE_SKIP_CONTENTSHARE_VALIDATION',
      'WEBSITE_VNET_ROUTE_ALL',
      'XDT_MicrosoftApplicationInsights_Mode',
    ];
    expect(Object.keys(appSettings).filter((name) => forbidden.includes(name))).toEqual([]);
  });

  test('the words that a deployment may choose, and their defaults, are those of the code', () => {
    const chosen = (name: string) => {
      const parameter = main.parameters.get(name);
      return {
        allowed: JSON.stringify(parameter?.decorators.get('allowed')),
        default: JSON.stringify(parameter?.value),
      };
    };
    const { settings } = readSettings({});
    for (const tier of tiers) expect(chosen('chunkTier').allowed).toContain(`"${tier}"`);
    expect(chosen('chunkTier').default).toContain(`"${settings.chunkTier}"`);
    for (const word of ['keep', 'consume']) expect(chosen('inbox').allowed).toContain(`"${word}"`);
    expect(chosen('inbox').default).toContain(`"${settings.inbox}"`);
    expect(chosen('repository').default).toContain(`"${settings.repository}"`);
    expect(readSettings({ FIRN_SNAPSHOT_AGE_DAYS_MAX: '3650' }).warnings).toEqual([]);
    expect(numberSettings.snapshotAgeDaysMax.max).toBe(3650);
  });
});

describe('functions', () => {
  test('every timer has a schedule that can be read, and a setting that changes it', () => {
    const timers = triggers('timertrigger');
    const schedules = [...textOf('src/settings.ts').matchAll(/'(FIRN_\w+_SCHEDULE)'/g)].map(([, name = '']) => name);
    expect(schedules).toHaveLength(timers.length);
    for (const { name, trigger } of timers) parseSchedule(String(trigger.binding.schedule), name);
    const changed = Object.fromEntries(schedules.map((name, at) => [name, `${at} 1 2 3 4 5`]));
    const used = registeredWith(changed).filter(({ kind }) => kind === 'timertrigger');
    expect(used.map(({ trigger }) => trigger.binding.schedule).toSorted()).toEqual(Object.values(changed).toSorted());
  });

  test('groups that are always ready are groups that these functions are in', () => {
    const { functionAppConfig } = propertiesOf(app) as {
      functionAppConfig: { scaleAndConcurrency: { alwaysReady: { name: string }[] }; runtime: Value };
    };
    const groups = functionAppConfig.scaleAndConcurrency.alwaysReady.map(({ name }) => name);
    const known: { [group: string]: Registered['kind'] } = {
      durable: 'orchestrationtrigger',
      blob: 'blobtrigger',
      http: 'httptrigger',
    };
    expect(groups).toEqual(['durable']);
    for (const group of groups) expect(triggers(known[group] ?? 'queuetrigger').length, group).toBeGreaterThan(0);
    expect(functionAppConfig.runtime).toEqual({ name: 'node', version: '22' });
  });

  test('host.json configures what is used, with values that the host can read', () => {
    const document = jsonOf('host.json');
    hostSettings(document);
    const sections: { [section: string]: Registered['kind'] } = {
      queues: 'queuetrigger',
      blobs: 'blobtrigger',
      durableTask: 'orchestrationtrigger',
      http: 'httptrigger',
    };
    for (const section of Object.keys(document.extensions as object)) {
      expect(triggers(sections[section] ?? 'activitytrigger').length, section).toBeGreaterThan(0);
      expect(sections[section], section).toBeDefined();
    }
    expect(document.extensionBundle).toMatchObject({ version: expect.stringMatching(/^\[4\.\*, 5\.0\.0\)$/) });
  });
});

describe('alerts', () => {
  const alerts = ofType('Microsoft.Insights/scheduledQueryRules').map((rule) => ({
    name: String(propertiesOf(rule).displayName).replace('Firn: ', ''),
    query: textsIn(propertiesOf(rule)).find((text) => text.startsWith('App')) ?? '',
  }));

  test('look for what the functions log, by names and codes that there are', () => {
    const code = filesOf('{functions,src/{archive,publish}}/**/*.ts').map(textOf).join('\n');
    for (const { name, query } of alerts) {
      const words = [...query.matchAll(/(?:has|==) "([^"]+)"/g)].map(([, text = '']) => text);
      expect(words.length, name).toBeGreaterThan(0);
      for (const wanted of words) {
        if (wanted.startsWith('FIRN_')) {
          expect(Object.keys(errorCodes), name).toContain(wanted);
          expect(code, name).toContain(`'${wanted}'`);
        } else if (wanted.startsWith('webjobs')) {
          expect(within(archive, 'queueServices/queues')).toContain(wanted);
        } else {
          expect(functions.map((each) => each.name)).toContain(wanted);
        }
      }
    }
    expect(alerts).toHaveLength(7);
  });

  test('mail to whom was named, and have their row in docs/operations.md', () => {
    const operations = textOf('docs/operations.md');
    const group = only(ofType('Microsoft.Insights/actionGroups'));
    expect(textsIn(group.body)).toContain(everything.alertEmail);
    const rules = [...ofType('Microsoft.Insights/scheduledQueryRules'), ...ofType('Microsoft.Insights/metricAlerts')];
    for (const rule of rules) {
      expect(textsIn(propertiesOf(rule)), rule.name).toContain(group.id);
      const name = rule.name.replace(/^firn-/, '').replace(/-TOKEN$/, '');
      expect(operations).toContain(`| \`${name}\` |`);
    }
    const rows = operations.split('## Alerts')[1]?.split('\n## ')[0]?.match(/^\| `/gm);
    expect(rows).toHaveLength(rules.length);
  });
});
