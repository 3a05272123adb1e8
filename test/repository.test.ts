import { describe, expect, test } from 'vitest';
import {
  type Containers,
  changeRepositoryPassphrase,
  createRepository,
  openOrCreateRepository,
  openRepository,
} from '../src/repository.ts';
import { parseConfig } from '../src/sealing/config.ts';
import { wrapMasterKey } from '../src/sealing/master-key.ts';
import { readSettings } from '../src/settings.ts';
import type { BlobStore } from '../src/storage/blob-store.ts';
import { hooked } from './index/index-kit.ts';
import { createMemoryAccount } from './kit/memory-blob-store.ts';
import { cheapScrypt, createTestRepository } from './kit/repository.ts';

const withPassphrase = (passphrase?: string) =>
  readSettings(passphrase === undefined ? {} : { FIRN_PASSPHRASE: passphrase }).settings;

async function change(store: BlobStore, name: string, how: (body: string) => string): Promise<void> {
  const { body, properties } = await store.read(name);
  await store.replace(name, Buffer.from(how(body.toString())), { ifMatch: properties.etag });
}

describe('createRepository', () => {
  test('makes the containers, a config that tells no secret, and one key', async () => {
    const { containers, repository } = await createTestRepository();
    const names = (await Array.fromAsync(repository.data.store.list())).map(({ name }) => name);
    expect(names).toEqual(['config', expect.stringMatching(/^keys\/[0-9a-f]{16}$/)]);
    const config = (await containers.container('firn-data').read('config')).body.toString();
    expect(JSON.parse(config)).toMatchObject({ format: 1, encryption: 'aes-256-gcm', thinChunks: 'packed' });
    expect(await Array.fromAsync(containers.container('firn-inbox').list())).toEqual([]);
    expect(await Array.fromAsync(containers.container('firn-state').list())).toEqual([]);
  });

  test('refuses to make a repository where there is one', async () => {
    const { containers } = await createTestRepository();
    await expect(createTestRepository({ containers })).rejects.toMatchObject({ code: 'FIRN_REPOSITORY_EXISTS' });
    await expect(createTestRepository({ containers, encrypted: false })).rejects.toMatchObject({
      code: 'FIRN_REPOSITORY_EXISTS',
    });
  });

  test('refuses to make new keys where a config was lost: they would open nothing of what is there', async () => {
    for (const left of ['snapshots/20260101T000000000Z-0123456789abcdef', 'chunks/00']) {
      const containers = createMemoryAccount();
      const data = containers.container('firn-data');
      await data.createContainer();
      await data.create(left, Buffer.from('x'));
      await expect(createTestRepository({ containers })).rejects.toMatchObject({
        code: 'FIRN_CONFIG_DAMAGED',
        message: expect.stringContaining(left),
      });
    }
  });

  test('of two that open or create at the same moment both have the same repository, and one made it', async () => {
    const containers = createMemoryAccount();
    const settings = withPassphrase('x');
    const both = await Promise.all([1, 2].map(() => openOrCreateRepository(containers, settings)));
    expect(both.map(({ created }) => created).sort()).toEqual([false, true]);
    expect(both[0]?.repository.config.id).toBe(both[1]?.repository.config.id);
  });

  test('of two at the same moment one succeeds, and what it made can be opened', async () => {
    const containers = createMemoryAccount();
    const results = await Promise.allSettled([1, 2].map(() => createTestRepository({ containers })));
    const [made, ...others] = results.filter((result) => result.status === 'fulfilled');
    expect(others).toEqual([]);
    expect(results.find((result) => result.status === 'rejected')?.reason).toMatchObject({
      code: 'FIRN_REPOSITORY_EXISTS',
    });
    expect((await made!.value.reopen()).config.id).toBe(made!.value.repository.config.id);
  });

  test('wants a passphrase for an encrypted repository and none for a plain one', async () => {
    const containers = createMemoryAccount();
    await expect(createRepository(containers, withPassphrase(), { encrypted: true })).rejects.toMatchObject({
      code: 'FIRN_REPOSITORY_ENCRYPTED',
    });
    await expect(createRepository(containers, withPassphrase('x'), { encrypted: false })).rejects.toMatchObject({
      code: 'FIRN_USAGE',
    });
  });
});

describe('openRepository', () => {
  test('says which repository is missing, and where', async () => {
    await expect(openRepository(createMemoryAccount(), withPassphrase('x'))).rejects.toMatchObject({
      code: 'FIRN_REPOSITORY_MISSING',
      details: { repository: 'firn', url: expect.stringContaining('firn-data') },
    });
  });

  test('opens with any passphrase that wraps the key, in any Unicode form, and with no other', async () => {
    const containers = createMemoryAccount();
    const repository = await createRepository(containers, withPassphrase('caf\u00e9'), {
      encrypted: true,
      scryptCost: cheapScrypt,
    });
    expect((await openRepository(containers, withPassphrase('cafe\u0301'))).keys.hash(Buffer.from('x'))).toBe(
      repository.keys.hash(Buffer.from('x')),
    );
    await expect(openRepository(containers, withPassphrase('cafe'))).rejects.toMatchObject({
      code: 'FIRN_PASSPHRASE_WRONG',
    });
    await expect(openRepository(containers, withPassphrase())).rejects.toMatchObject({
      code: 'FIRN_REPOSITORY_ENCRYPTED',
    });
    const foreign = await wrapMasterKey('another repository', Buffer.alloc(32), 'cafe', cheapScrypt);
    await containers.container('firn-data').create(foreign.name, foreign.body);
    await expect(openRepository(containers, withPassphrase('cafe'))).rejects.toMatchObject({
      code: 'FIRN_PASSPHRASE_WRONG',
    });
  });

  test('refuses a newer format by its version', async () => {
    const { containers, reopen } = await createTestRepository();
    await change(containers.container('firn-data'), 'config', (body) => body.replace('"format": 1', '"format": 2'));
    await expect(reopen()).rejects.toMatchObject({ code: 'FIRN_REPOSITORY_NEWER', details: { version: 2 } });
  });

  test.each([
    ['thinChunks', (body: string) => body.replace('packed', 'blob')],
    ['chunking', (body: string) => body.replace('524288', '1048576')],
    ['id', (body: string) => body.replace(/"id": "./, '"id": "!')],
    ['tag', (body: string) => body.replace(/"tag": ".{64}/, `"tag": "${'0'.repeat(64)}`)],
    ['tag', (body: string) => body.replace(/"tag": ".{64}/, '"tag": "')],
  ])('notices a config whose %s was changed', async (_field, how) => {
    const { containers, reopen } = await createTestRepository();
    await change(containers.container('firn-data'), 'config', how);
    await expect(reopen()).rejects.toMatchObject({
      code: expect.stringMatching(/FIRN_CONFIG_DAMAGED|FIRN_PASSPHRASE_WRONG/),
    });
  });

  test('is not talked out of encryption by a config that says there is none', async () => {
    const { containers, reopen } = await createTestRepository();
    const plain = await createTestRepository({ encrypted: false });
    const { body } = await plain.containers.container('firn-data').read('config');
    await change(containers.container('firn-data'), 'config', () => body.toString());
    await expect(reopen()).rejects.toMatchObject({ code: 'FIRN_REPOSITORY_PLAIN' });
  });

  test.each(['', 'null', '[]', '{}', '{"format":0}', '{"format":"1"}', '{"format":1}', '\u0000'])(
    'answers a config of %j with a typed error',
    async (config) => {
      const { containers, reopen } = await createTestRepository();
      await change(containers.container('firn-data'), 'config', () => config);
      await expect(reopen()).rejects.toMatchObject({ code: expect.stringMatching(/^FIRN_(BLOB|CONFIG)_DAMAGED$/) });
    },
  );

  test.each(['"n":1', '"n":3', '"n":16777216', '"r":100000000', '"p":100000'])(
    'refuses a key whose derivation asks for %s before it costs anything',
    async (cost) => {
      const { containers, reopen } = await createTestRepository();
      const data = containers.container('firn-data');
      const [key] = await Array.fromAsync(data.list({ prefix: 'keys/' }));
      const [name] = cost.split(':');
      await change(data, key!.name, (body) => body.replace(new RegExp(`${name}:\\d+`), cost));
      await expect(reopen()).rejects.toMatchObject({
        code: expect.stringMatching(/^FIRN_(CONFIG_DAMAGED|PASSPHRASE_WRONG)$/),
      });
    },
  );

  test('an unencrypted repository works without a passphrase', async () => {
    const { reopen } = await createTestRepository({ encrypted: false });
    expect((await reopen()).keys.encrypted).toBe(false);
    const { containers } = await createTestRepository({
      encrypted: false,
      thinChunks: 'blob',
      chunking: { method: 'file' },
    });
    const { body } = await containers.container('firn-data').read('config');
    expect(parseConfig(body).config).toMatchObject({ thinChunks: 'blob', chunking: { method: 'file' } });
  });
});

test('a passphrase that was changed while the repository is opened opens it', async () => {
  const account = createMemoryAccount();
  const { repository } = await createTestRepository({ containers: account });
  const { settings } = repository;
  const to = 'another correct horse battery staple';
  let changes = 0;
  const before = async (call: string, name: string) => {
    if (call !== 'read' || name !== 'config' || changes > 0) return;
    changes += 1;
    await changeRepositoryPassphrase(account, settings, { to, keepOld: false }, { scryptCost: cheapScrypt });
  };
  const containers: Containers = { container: (name) => hooked(account.container(name), { before }) };
  await openRepository(containers, { ...settings, passphrase: to });
  expect(changes).toBe(1);
});

test('a damaged key does not keep out the passphrase of another', async () => {
  const { containers, reopen } = await createTestRepository();
  await containers.container('firn-data').create('keys/0000000000000000', Buffer.from('junk'));
  expect((await reopen()).keys.encrypted).toBe(true);
});
