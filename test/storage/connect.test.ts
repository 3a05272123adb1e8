import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { type ConnectOptions, connectStorage, limitedAgent } from '../../src/storage/connect.ts';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { type FaultyProxy, startFaultyProxy } from '../kit/faulty-proxy.ts';

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function throughProxy(options: ConnectOptions = {}) {
  const direct = connectStorage({ connectionString: azuriteConnectionString() });
  const proxy = await startFaultyProxy(azuriteConnectionString());
  cleanups.push(() => proxy.stop());
  const name = uniqueName();
  await direct.container(name).createContainer();
  return {
    proxy,
    direct: direct.container(name),
    store: connectStorage({ connectionString: proxy.connectionString }, options).container(name),
  };
}

describe('connecting', () => {
  test('a connection string gives containers and queues', async () => {
    const storage = connectStorage({ connectionString: azuriteConnectionString() });
    expect(storage.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/devstoreaccount1\/?$/);
    const queue = storage.queue(uniqueName());
    await queue.create();
    await queue.sendMessage('hello');
    const { receivedMessageItems } = await queue.receiveMessages();
    expect(receivedMessageItems.map((item) => item.messageText)).toEqual(['hello']);
  });

  test('UseDevelopmentStorage=true is the emulator on its own ports', () => {
    const storage = connectStorage({ connectionString: ' UseDevelopmentStorage=true ' });
    expect(storage.container('c').url).toBe('http://127.0.0.1:10000/devstoreaccount1/c');
    expect(storage.queue('q').url).toBe('http://127.0.0.1:10001/devstoreaccount1/q');
  });

  test('an identity is not asked for anything before the first call', () => {
    const storage = connectStorage({
      blobServiceUri: 'https://example.blob.core.windows.net',
      queueServiceUri: 'https://example.queue.core.windows.net',
      clientId: undefined,
    });
    expect(storage.container('c').url).toBe('https://example.blob.core.windows.net/c');
    expect(storage.queue('q').url).toBe('https://example.queue.core.windows.net/q');
  });

  test.each([
    '',
    'nonsense',
    'AccountName=a;AccountKey=c2VjcmV0',
    'DefaultEndpointsProtocol=https;AccountKey=c2VjcmV0',
  ])('the connection string «%s» is refused by name, without being repeated', (connectionString) => {
    const connect = () => connectStorage({ connectionString });
    expect(connect).toThrow(expect.objectContaining({ code: 'FIRN_SETTING_INVALID', details: expect.anything() }));
    expect(connect).toThrow(/FIRN_STORAGE/);
    expect(connect).not.toThrow(/c2VjcmV0/);
  });

  test('an address that is none is refused by the name of its setting', () => {
    const connect = () => connectStorage({ blobServiceUri: 'nowhere', queueServiceUri: 'https://example.com' });
    expect(connect).toThrow(/FIRN_STORAGE__blobServiceUri/);
  });

  test('an account that does not answer is unreachable, by address, within fifteen seconds', async () => {
    // Below all that a system gives out by itself, so that no other test listens there.
    const port = 1;
    const connectionString = azuriteConnectionString().replace(/BlobEndpoint=http:\/\/127\.0\.0\.1:\d+/, (endpoint) =>
      endpoint.replace(/\d+$/, String(port)),
    );
    const store = connectStorage({ connectionString }).container('c');
    const begun = performance.now();
    await expect(store.read('a')).rejects.toMatchObject({
      code: 'FIRN_STORAGE_UNREACHABLE',
      details: { url: `http://127.0.0.1:${port}/devstoreaccount1/c` },
    });
    expect(performance.now() - begun).toBeLessThan(15_000);
  });

  test('a connection that does not come about is given up', async () => {
    const agent = limitedAgent(false, 50);
    cleanups.push(async () => agent.destroy());
    // A name that is never resolved stands for a network that swallows what is sent.
    const pending = request({ agent, host: 'swallowed.invalid', lookup: () => undefined });
    const [error] = await once(pending, 'error').catch((thrown) => [thrown]);
    expect(error).toMatchObject({ code: 'ETIMEDOUT' });
  });

  test('a wrong key is denied', async () => {
    const wrong = azuriteConnectionString().replace(
      /AccountKey=[^;]+/,
      `AccountKey=${randomBytes(64).toString('base64')}`,
    );
    const store = connectStorage({ connectionString: wrong }).container(uniqueName());
    await expect(store.read('a')).rejects.toMatchObject({ code: 'FIRN_STORAGE_DENIED' });
  });
});

describe('connections that break', () => {
  test('a stream goes on where it broke', async () => {
    const { proxy, direct, store } = await throughProxy();
    const body = randomBytes(2 * 1024 * 1024);
    await direct.create('a', body);
    let cuts = 0;
    proxy.cut = (method) => {
      if (method !== 'GET' || cuts === 2) return undefined;
      cuts += 1;
      return 300_000;
    };
    const stream = await store.readStream('a');
    expect(Buffer.concat(await Array.fromAsync(stream.body)).equals(body)).toBe(true);
    expect(cuts).toBe(2);
  });

  test('a stream fails rather than mix two versions', async () => {
    const { proxy, direct, store } = await throughProxy();
    const { etag } = await direct.create('a', Buffer.alloc(2 * 1024 * 1024, 1));
    proxy.cut = (method) => (method === 'GET' ? 300_000 : undefined);
    const stream = await store.readStream('a');
    const iterator = stream.body[Symbol.asyncIterator]();
    expect((await iterator.next()).value?.every((byte: number) => byte === 1)).toBe(true);
    await direct.replace('a', Buffer.alloc(2 * 1024 * 1024, 2), { ifMatch: etag });
    const rest = (async () => {
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
        expect(next.value.includes(2)).toBe(false);
      }
    })();
    await expect(rest).rejects.toMatchObject({ failure: 'changed' });
  });

  test('a read into memory that broke gives the version that is there by then, or fails where another was asked for', async () => {
    const { proxy, direct, store } = await throughProxy();
    const [old, young] = [Buffer.alloc(2 * 1024 * 1024, 1), Buffer.alloc(1024 * 1024, 2)];
    for (const asked of [false, true]) {
      const { etag } = await direct.create('a', old);
      let gets = 0;
      proxy.cut = (method) => (method === 'GET' && gets === 1 ? 300_000 : undefined);
      proxy.hold = async (method) => {
        if (method !== 'GET') return;
        gets += 1;
        if (gets === 2) await direct.replace('a', young, { ifMatch: etag });
      };
      const read = store.read('a', asked ? { ifMatch: etag } : {});
      if (asked) await expect(read).rejects.toMatchObject({ failure: 'changed' });
      else expect((await read).body.equals(young)).toBe(true);
      expect(gets).toBe(asked ? 2 : 3);
      await direct.delete('a');
    }
  });

  test('a stream that breaks again and again before it brings anything ends with an error', async () => {
    const { proxy, direct, store } = await throughProxy();
    await direct.create('a', Buffer.alloc(1024 * 1024, 1));
    let answers = 0;
    proxy.cut = (method) => {
      if (method !== 'GET') return undefined;
      answers += 1;
      return answers === 1 ? 1000 : 1e-9;
    };
    const { body } = await store.readStream('a');
    await expect(Array.fromAsync(body)).rejects.toMatchObject({ code: 'FIRN_STORAGE_UNREACHABLE' });
    expect(answers).toBeLessThan(20);
  });

  test('a write whose answer is lost is answered as if another had made it, and is made once', async () => {
    const { proxy, direct, store } = await throughProxy();
    const loseOne = (method: string) => {
      let lost = false;
      proxy.cut = (seen) => {
        if (lost || seen !== method) return undefined;
        lost = true;
        return 0;
      };
    };
    loseOne('PUT');
    await expect(store.create('a', Buffer.from('x'))).rejects.toMatchObject({ failure: 'exists' });
    expect((await direct.read('a')).body.toString()).toBe('x');

    await direct.createAppend('log', Buffer.from('1'));
    loseOne('PUT');
    await expect(store.append('log', Buffer.from('2'), { position: 1 })).rejects.toMatchObject({ failure: 'position' });
    expect((await direct.read('log')).body.toString()).toBe('12');

    const { etag } = (await direct.read('a')).properties;
    loseOne('PUT');
    await expect(store.replace('a', Buffer.from('y'), { ifMatch: etag })).rejects.toMatchObject({ failure: 'changed' });
    expect((await direct.read('a')).body.toString()).toBe('y');

    loseOne('DELETE');
    const changed = (await direct.read('a')).properties.etag;
    expect(await store.delete('a', { ifMatch: changed })).toBe(false);
  });

  test('a commit whose blocks another writer dropped fails with «exists» where that writer made the blob', async () => {
    const { proxy, direct, store } = await throughProxy();
    proxy.refuse = (_method, url) =>
      url.includes('comp=blocklist') ? { status: 400, code: 'InvalidBlockList' } : undefined;
    async function* long(): AsyncGenerator<Uint8Array> {
      yield Buffer.alloc(9 * 1024 * 1024);
    }
    await expect(store.createFromStream('a', long())).rejects.toMatchObject({ code: 'FIRN_STORAGE_FAILED' });
    await direct.create('a', Buffer.from('theirs'));
    await expect(store.createFromStream('a', long())).rejects.toMatchObject({ failure: 'exists' });
  });

  test.each([
    ['BlobImmutableDueToPolicy', 409, { failure: 'exists' }],
    ['UnauthorizedBlobOverwrite', 403, { failure: 'exists' }],
    ['AuthorizationPermissionMismatch', 403, { code: 'FIRN_STORAGE_DENIED' }],
    ['AccountIsDisabled', 409, { code: 'FIRN_STORAGE_FAILED' }],
    ['ContainerBeingDeleted', 409, { code: 'FIRN_CONTAINER_MISSING' }],
  ])('where the service says %s, a create is answered in the words of the port', async (code, status, expected) => {
    const { proxy, store } = await throughProxy();
    proxy.refuse = () => ({ status, code });
    await expect(store.create('a', Buffer.from('x'))).rejects.toMatchObject(expected);
  });

  test.each([
    ['BlockCountExceedsLimit', 409, 'full'],
    ['BlobIsSealed', 409, 'sealed'],
    ['BlobBeingRehydrated', 409, 'offline'],
  ])('where the service says %s, an append fails with «%3$s»', async (code, status, expected) => {
    const { proxy, store } = await throughProxy();
    proxy.refuse = () => ({ status, code });
    await expect(store.append('a', Buffer.from('x'))).rejects.toMatchObject({ failure: expected });
  });

  test('a signal ends a call that gets no answer', async () => {
    const silent = createServer().listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const address = silent.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const connectionString = azuriteConnectionString().replace(/(BlobEndpoint=http:\/\/127\.0\.0\.1:)\d+/, `$1${port}`);
    const store = connectStorage({ connectionString }).container('c');
    const controller = new AbortController();
    const reason = new Error('enough');
    silent.once('connection', (socket) => {
      cleanups.push(async () => socket.destroy());
      controller.abort(reason);
    });
    cleanups.push(async () => silent.close());
    await expect(store.read('a', { signal: controller.signal })).rejects.toBe(reason);
  });
});

describe('a storage that throttles', () => {
  const TooManyRequests = { kind: 'refuse', status: 429, code: 'TooManyRequests' } as const;
  const TRIES = 4;

  /** Each address is refused as often as may be, then answers. */
  function refuseAllButTheLast(proxy: FaultyProxy): ReadonlyMap<string, number> {
    const refused = new Map<string, number>();
    proxy.fault = (method, url) => {
      const request = `${method} ${url}`;
      const times = refused.get(request) ?? 0;
      if (times === TRIES - 1) return undefined;
      refused.set(request, times + 1);
      return TooManyRequests;
    };
    return refused;
  }

  test('with 429 is asked again until it answers, and gets every body whole', async () => {
    const { proxy, direct, store } = await throughProxy({ retryMs: 1 });
    const refused = refuseAllButTheLast(proxy);
    const long = randomBytes(9 * 1024 * 1024);
    async function* pieces(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < long.length; at += 100_000) yield long.subarray(at, at + 100_000);
    }
    const { etag } = await store.create('small', Buffer.from('small'));
    await store.createFromStream('long', pieces());
    await store.createAppend('log', Buffer.from('1'));
    await store.append('log', Buffer.from('2'), { position: 1 });
    expect((await direct.read('long')).body.equals(long)).toBe(true);
    expect((await direct.read('log')).body.toString()).toBe('12');
    expect((await store.read('small')).body.toString()).toBe('small');
    expect((await store.properties('long')).bytes).toBe(long.length);
    expect(Buffer.concat(await Array.fromAsync((await store.readStream('long')).body)).equals(long)).toBe(true);
    expect(await store.delete('small', { ifMatch: etag })).toBe(true);
    expect(new Set(refused.values())).toEqual(new Set([TRIES - 1]));
  });

  test('with 429 for ever is given up after as many tries as any other failure, in words that say so', async () => {
    const { proxy, store } = await throughProxy({ retryMs: 1 });
    for (const fault of [TooManyRequests, { ...TooManyRequests, status: 503, code: 'ServerBusy' }]) {
      let asked = 0;
      proxy.fault = () => {
        asked += 1;
        return fault;
      };
      await expect(store.read('a')).rejects.toMatchObject({
        code: 'FIRN_STORAGE_FAILED',
        details: { problem: `${fault.code} (${fault.status})` },
      });
      expect(asked).toBe(TRIES);
    }
    expect(proxy.seen).toEqual([]);
  });

  test('with 429 is not waited for once the signal says so', async () => {
    const { proxy, store } = await throughProxy({ retryMs: 3_600_000 });
    const controller = new AbortController();
    const reason = new Error('enough');
    let asked = 0;
    proxy.fault = () => {
      asked += 1;
      // Between the second try and the third the SDK waits.
      if (asked === 2) setImmediate(() => controller.abort(reason));
      return TooManyRequests;
    };
    await expect(store.read('a', { signal: controller.signal })).rejects.toBe(reason);
    expect(asked).toBe(2);
  });

  test('with 429 is asked again for its queues too', async () => {
    const swapped = (text: string) =>
      text.replace(/(Blob|Queue)(?=Endpoint=)/g, (service) => (service === 'Blob' ? 'Queue' : 'Blob'));
    const proxy = await startFaultyProxy(swapped(azuriteConnectionString()));
    cleanups.push(() => proxy.stop());
    const refused = refuseAllButTheLast(proxy);
    const queue = connectStorage({ connectionString: swapped(proxy.connectionString) }, { retryMs: 1 }).queue(
      uniqueName(),
    );
    await queue.create();
    await queue.sendMessage('hello');
    const { receivedMessageItems } = await queue.receiveMessages();
    expect(receivedMessageItems.map((item) => item.messageText)).toEqual(['hello']);
    expect([...refused.values()]).toEqual([TRIES - 1, TRIES - 1, TRIES - 1]);
  });
});
