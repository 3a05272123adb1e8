import { describe, expect, it } from 'vitest';
import type { Containers } from '../../src/repository.ts';
import { intercept } from '../chunks/intercept.ts';
import { temporaryFolderOf } from '../kit/local-tree.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { createCli, PASSPHRASE, runCli } from './cli.ts';

describe('firn init', () => {
  it('creates an encrypted repository that only its passphrase opens', async () => {
    const containers = createMemoryAccount();
    const created = await runCli(['init', '--json'], { containers });
    expect(created).toMatchObject({ code: 0, stderr: '' });
    expect(created.json).toEqual([
      {
        repository: 'firn',
        id: expect.any(String),
        encrypted: true,
        chunking: 'fastcdc',
        thinChunks: 'packed',
        url: 'memory:firn-data',
      },
    ]);
    expect(await runCli(['snapshots'], { containers })).toMatchObject({ code: 0 });

    const wrong = await runCli(['snapshots', '--json'], { containers, env: { FIRN_PASSPHRASE: 'wrong' } });
    expect(wrong).toMatchObject({ code: 1, errors: [{ error: 'FIRN_PASSPHRASE_WRONG' }] });
    const none = await runCli(['snapshots', '--json'], { containers, env: {} });
    expect(none).toMatchObject({ code: 1, errors: [{ error: 'FIRN_REPOSITORY_ENCRYPTED' }] });
    const again = await runCli(['init', '--json'], { containers });
    expect(again).toMatchObject({ code: 1, errors: [{ error: 'FIRN_REPOSITORY_EXISTS' }] });
  });

  it('takes the passphrase from a file, without the newline at its end', async () => {
    const folder = await temporaryFolderOf({ secret: `${PASSPHRASE}\n`, empty: '\n' });
    const containers = createMemoryAccount();
    const options = { containers, env: {}, cwd: folder };
    expect(await runCli(['init', '--passphrase-file', 'secret'], options)).toMatchObject({ code: 0 });
    expect(await runCli(['snapshots'], { containers })).toMatchObject({ code: 0 });
    for (const file of ['empty', 'missing']) {
      const { code, errors } = await runCli(['snapshots', '--json', '--passphrase-file', file], options);
      expect(code).toBe(2);
      expect(errors).toMatchObject([{ error: 'FIRN_SETTING_INVALID', details: { name: '--passphrase-file' } }]);
    }
  });

  it('wants a passphrase, unless the repository is not to be encrypted', async () => {
    const containers = createMemoryAccount();
    const none = await runCli(['init'], { containers, env: {} });
    expect(none).toMatchObject({ code: 2 });
    expect(none.stderr).toContain('--no-encryption');
    expect(await runCli(['init', '--no-encryption'], { containers })).toMatchObject({ code: 2 });
    const plain = await runCli(
      ['init', '--no-encryption', '--chunking', 'file', '--thin-chunks', 'blob', '--repository', 'photos', '--json'],
      { containers, env: {} },
    );
    expect(plain).toMatchObject({
      code: 0,
      json: [{ repository: 'photos', encrypted: false, chunking: 'file', thinChunks: 'blob' }],
    });
    const unneeded = await runCli(['ls', '--json'], {
      containers,
      env: { FIRN_REPOSITORY: 'photos', FIRN_PASSPHRASE: 'x' },
    });
    expect(unneeded).toMatchObject({ code: 1, errors: [{ error: 'FIRN_REPOSITORY_PLAIN' }] });
  });
});

describe('a repository that cannot be opened', () => {
  it('is named where it is not there', async () => {
    const { code, errors } = await runCli(['ls', '--json']);
    expect(code).toBe(1);
    expect(errors).toMatchObject([
      {
        error: 'FIRN_REPOSITORY_MISSING',
        message: 'There is no repository firn at memory:firn-data.',
        advice: expect.stringContaining('firn init'),
      },
    ]);
  });

  it('is refused when it has a newer format', async () => {
    const { containers, repository, cli } = await createCli();
    const { store } = repository.data;
    const { body, properties } = await store.read('config');
    const newer = body.toString().replace('"format": 1', '"format": 2');
    expect(newer).not.toBe(body.toString());
    await store.replace('config', Buffer.from(newer), { ifMatch: properties.etag });
    expect(containers).toBeDefined();
    expect(await cli('ls', '--json')).toMatchObject({ code: 1, errors: [{ error: 'FIRN_REPOSITORY_NEWER' }] });
  });

  it('warns of a setting that was moved to its limit, and refuses one that cannot be read', async () => {
    const { containers } = await createCli();
    const env = { FIRN_PASSPHRASE: PASSPHRASE, FIRN_FILES_IN_FLIGHT_MAX: '0' };
    const warned = await runCli(['snapshots'], { containers, env });
    expect(warned.code).toBe(0);
    expect(warned.stderr).toContain('warning: FIRN_FILES_IN_FLIGHT_MAX is 0; 1 is used');
    const refused = await runCli(['snapshots'], { containers, env: { ...env, FIRN_FILES_IN_FLIGHT_MAX: 'many' } });
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('FIRN_FILES_IN_FLIGHT_MAX');
  });
});

describe('an error nobody thought of', () => {
  it('is told as one, with exit code 1', async () => {
    const account = createMemoryAccount();
    const containers: Containers = {
      container: (name) =>
        intercept(account.container(name), {
          read: async () => {
            throw new TypeError('x is not a function');
          },
        }),
    };
    const { code, errors } = await runCli(['ls', '--json'], { containers });
    expect(code).toBe(1);
    expect(errors).toMatchObject([{ error: 'FIRN_INTERNAL', message: expect.stringContaining('x is not a function') }]);
  });
});
