import { describe, expect, test } from 'vitest';
import { connectFromEnvironment } from '../../src/open-from-environment.ts';
import { deleteAll, namesOf } from '../index/repairing.ts';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { temporaryFolderOf } from '../kit/local-tree.ts';
import { createCli, PASSPHRASE, runCli } from './cli.ts';

describe('firn repair-index', () => {
  test('brings back a deleted index on Azurite, reports as data, and what was archived is restored', async () => {
    const name = uniqueName();
    const env = { FIRN_STORAGE: azuriteConnectionString(), FIRN_REPOSITORY: name, FIRN_PASSPHRASE: PASSPHRASE };
    const { containers } = connectFromEnvironment(env);
    const firn = (...argv: string[]) => runCli(argv, { env, containers });
    const folder = await temporaryFolderOf({ a: 'one', folder: { type: 'folder', entries: { b: 'two' } } });
    expect(await firn('init')).toMatchObject({ code: 0 });
    expect(await firn('archive', folder, '--source', 'docs')).toMatchObject({ code: 0 });
    const state = containers.container(`${name}-state`);
    // Two, unless the keys of this repository lead both chunks to one root.
    const shards = await namesOf(state, 'chunk-index/');
    await deleteAll(state, 'chunk-index/');
    await containers.container(`${name}-data`).create('chunks/readme', Buffer.from('not ours'));
    expect(await firn('cat', 'latest', 'a')).toMatchObject({ code: 1 });
    const { code, json, errors } = await firn('repair-index', '--json');
    expect(code).toBe(0);
    expect(json).toEqual([
      {
        repository: name,
        roots: 16,
        listed: 3,
        entries: 2,
        shardsWritten: shards.length,
        shardsRemoved: 0,
        passes: 1,
        quarantinedCount: 1,
        quarantined: [{ blob: 'chunks/readme', reason: 'it is no chunk of Firn' }],
        finished: true,
      },
    ]);
    expect(errors).toEqual([{ warning: null, message: expect.stringContaining('chunks/readme was set aside') }]);
    expect(await firn('cat', 'latest', 'a')).toMatchObject({ code: 0, stdout: 'one' });
    expect(await firn('cat', 'latest', 'folder/b')).toMatchObject({ code: 0, stdout: 'two' });
    expect(await namesOf(state, 'repair')).toEqual([]);
  });

  test('repairs one root, says what it did, and refuses what is no root', async () => {
    const { cli } = await createCli();
    const folder = await temporaryFolderOf({ a: 'one' });
    await cli('archive', folder, '--source', 'docs');
    expect(await cli('repair-index', '--root', 'A')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^1 root repaired from 2 blobs/),
    });
    for (const root of ['aa', '10', 'g']) {
      expect(await cli('repair-index', '--root', root, '--json')).toMatchObject({
        code: 2,
        errors: [{ error: 'FIRN_USAGE' }],
      });
    }
  });
});
