import { expect, it } from 'vitest';
import { connectStorage } from '../../src/storage/connect.ts';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { startFaultyProxy } from '../kit/faulty-proxy.ts';

it('an append blob whose first block got no answer is known again, and is not taken for another one', async () => {
  const proxy = await startFaultyProxy(azuriteConnectionString());
  try {
    const name = uniqueName();
    const direct = connectStorage({ connectionString: azuriteConnectionString() }).container(name);
    await direct.createContainer();
    const store = connectStorage({ connectionString: proxy.connectionString }, { retryMs: 1 }).container(name);
    const lost = new Set<string>();
    proxy.fault = (method, url) => {
      if (method !== 'PUT' || !url.includes('comp=appendblock') || lost.has(url)) return undefined;
      lost.add(url);
      return { kind: 'cut', after: 0 };
    };
    const first = Buffer.from('the first block');
    expect(await store.createAppend('mine', first)).toMatchObject({ offset: 0, blocks: 1 });
    expect((await direct.read('mine')).body).toEqual(first);

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
