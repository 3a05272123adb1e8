import { expect, it } from 'vitest';
import { changeRepositoryPassphrase, createRepository, openRepository } from '../../src/repository.ts';
import { readSettings } from '../../src/settings.ts';
import { connectStorage } from '../../src/storage/connect.ts';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { startFaultyProxy } from '../kit/faulty-proxy.ts';
import { cheapScrypt } from '../kit/repository.ts';

it('an append blob whose first block got no answer is known again, and is not taken for another one', async () => {
  const proxy = await startFaultyProxy(azuriteConnectionString());
  try {
    const name = uniqueName();
    const direct = connectStorage({ connectionString: azuriteConnectionString() }).container(name);
    await direct.createContainer();
    const store = connectStorage({ connectionString: proxy.connectionString }, { retryMs: 1 }).container(name);
    const lost = new Set<string>();
    proxy.fault = (method, url) => {
      if (lost.has(method)) return undefined;
      // What it is known again by is damaged on the way once.
      if (method === 'GET') lost.add(method);
      if (method === 'GET') return { kind: 'flip', byte: 3, bit: 1 };
      if (method !== 'PUT' || !url.includes('comp=appendblock')) return undefined;
      lost.add(method);
      return { kind: 'cut', after: 0 };
    };
    const first = Buffer.from('the first block');
    expect(await store.createAppend('mine', first)).toMatchObject({ offset: 0, blocks: 1 });
    expect((await direct.read('mine')).body).toEqual(first);
    expect(lost).toEqual(new Set(['PUT', 'GET']));

    // Another process is faster between the two requests, and the answer that tells it is the only one.
    proxy.fault = () => undefined;
    proxy.hold = async (method, url) => {
      if (method === 'PUT' && url.includes('comp=appendblock'))
        await direct.append('other', Buffer.from('not the first'));
    };
    await expect(store.createAppend('other', first)).rejects.toMatchObject({ failure: 'position' });
  } finally {
    await proxy.stop();
  }
});

it.each([['keys/'], ['config']])(
  'a write of %s whose answer was lost keeps nobody from creating a repository or changing its passphrase',
  async (blob) => {
    const proxy = await startFaultyProxy(azuriteConnectionString());
    try {
      const containers = connectStorage({ connectionString: proxy.connectionString }, { retryMs: 1 });
      const lost = new Set<string>();
      proxy.fault = (method, url) => {
        if (method !== 'PUT' || !url.includes(`-data/${blob}`) || lost.has(url)) return undefined;
        lost.add(url);
        return { kind: 'cut', after: 0 };
      };
      const repository = uniqueName('lost');
      const { settings } = readSettings({ FIRN_PASSPHRASE: 'correct horse', FIRN_REPOSITORY: repository });
      await createRepository(containers, settings, { encrypted: true, scryptCost: cheapScrypt });
      expect(lost.size).toBe(1);
      const to = 'battery staple';
      await changeRepositoryPassphrase(containers, settings, { to, keepOld: false }, { scryptCost: cheapScrypt });
      expect(lost.size).toBe(blob === 'config' ? 1 : 2);
      await openRepository(containers, { ...settings, passphrase: to });
      await expect(createRepository(containers, settings, { encrypted: true })).rejects.toMatchObject({
        code: 'FIRN_REPOSITORY_EXISTS',
      });
    } finally {
      await proxy.stop();
    }
  },
);
