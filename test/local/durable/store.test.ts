/** Instances on storage: what counts as saved, and what another host has changed. */
import { BlobServiceClient } from '@azure/storage-blob';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type InstanceState, newInstance } from '../../../src/local/durable/instance.ts';
import { type InstanceStore, openInstanceStore } from '../../../src/local/durable/store.ts';
import { azuriteConnectionString, uniqueName } from '../../kit/azurite.ts';
import { type FaultyProxy, startFaultyProxy } from '../../kit/faulty-proxy.ts';

let proxy: FaultyProxy;
let store: InstanceStore;
/** The same instances, with a network that does nothing to them. */
let other: InstanceStore;

beforeAll(async () => {
  proxy = await startFaultyProxy(azuriteConnectionString());
  const name = uniqueName('instances');
  const retryOptions = { maxTries: 3, retryDelayInMs: 1 };
  const open = (connectionString: string) =>
    openInstanceStore(
      BlobServiceClient.fromConnectionString(connectionString, { retryOptions }).getContainerClient(name),
    );
  store = await open(proxy.connectionString);
  other = await open(azuriteConnectionString());
});
afterAll(() => proxy.stop());

/** The next write takes effect, is answered with an error, and is repeated by the SDK. */
function loseNextAnswer(): void {
  proxy.fault = (method) => {
    if (method !== 'PUT') return undefined;
    proxy.fault = () => undefined;
    return { kind: 'instead', status: 500, code: 'InternalError' };
  };
}

function instance(id: string): InstanceState {
  return newInstance(id, 'work', 'null', 'an execution', '2026-01-01T00:00:00.000Z');
}

describe('a write whose answer is lost', () => {
  it('has created the instance', async () => {
    loseNextAnswer();
    const etag = await store.save(instance('created'), undefined);
    expect(etag).toBeDefined();
    expect(await other.load('created')).toEqual({ state: instance('created'), etag });
  });

  it('has saved the next state, and the one after that follows it', async () => {
    const first = await store.save(instance('saved'), undefined);
    loseNextAnswer();
    const started: InstanceState = { ...instance('saved'), started: true };
    const second = await store.save(started, first);
    expect(await other.load('saved')).toEqual({ state: started, etag: second });
    expect(await store.save({ ...started, runtimeStatus: 'Completed' }, second)).toBeDefined();
  });
});

describe('what another host has changed', () => {
  it('is neither created again nor replaced', async () => {
    const first = await store.save(instance('shared'), undefined);
    const theirs: InstanceState = { ...instance('shared'), started: true };
    const etag = await other.save(theirs, first);
    expect(await store.save(instance('shared'), undefined)).toBeUndefined();
    expect(await store.save({ ...instance('shared'), runtimeStatus: 'Failed' }, first)).toBeUndefined();
    expect(await store.load('shared')).toEqual({ state: theirs, etag });
  });

  it('is not brought back where it was deleted', async () => {
    const first = await store.save(instance('gone'), undefined);
    expect(await other.delete('gone')).toBe(true);
    expect(await store.save({ ...instance('gone'), started: true }, first)).toBeUndefined();
    expect(await store.load('gone')).toBeUndefined();
  });
});
