import { describe, expect, it } from 'vitest';
import { type Containers, openRepository } from '../../src/repository.ts';
import { readSettings } from '../../src/settings.ts';
import { intercept } from '../chunks/intercept.ts';
import { temporaryFolderOf } from '../kit/local-tree.ts';
import { createTestRepository } from '../kit/repository.ts';
import { PASSPHRASE, runCli } from './cli.ts';

async function prepare() {
  const { containers } = await createTestRepository();
  const cwd = await temporaryFolderOf({ new: 'a new one\n', same: PASSPHRASE, empty: '' });
  const change = (env: string, ...more: string[]) =>
    runCli(['passphrase', '--json', ...more], { containers, cwd, env: { FIRN_PASSPHRASE: env } });
  return { containers, change };
}

async function opens(containers: Containers, passphrase: string): Promise<boolean> {
  const { settings } = readSettings({ FIRN_PASSPHRASE: passphrase });
  try {
    await openRepository(containers, settings);
    return true;
  } catch (error) {
    expect(error).toMatchObject({ code: 'FIRN_PASSPHRASE_WRONG' });
    return false;
  }
}

async function keysOf(containers: Containers): Promise<string[]> {
  return await Array.fromAsync(containers.container('firn-data').list({ prefix: 'keys/' }), ({ name }) => name);
}

describe('firn passphrase', () => {
  it('gives the repository a new passphrase and takes the old one away', async () => {
    const { containers, change } = await prepare();
    const old = await keysOf(containers);
    const { code, json } = await change(PASSPHRASE, '--new-passphrase-file', 'new');
    expect(code).toBe(0);
    const [key] = await keysOf(containers);
    expect(json).toEqual([{ repository: 'firn', key, removed: old }]);
    expect([await opens(containers, 'a new one'), await opens(containers, PASSPHRASE)]).toEqual([true, false]);
  });

  it('keeps the old one where it is told to, until it is run again without', async () => {
    const { containers, change } = await prepare();
    expect((await change(PASSPHRASE, '--new-passphrase-file', 'new', '--keep-old')).json).toMatchObject([
      { removed: [] },
    ]);
    expect([await opens(containers, 'a new one'), await opens(containers, PASSPHRASE)]).toEqual([true, true]);
    expect((await change(PASSPHRASE, '--new-passphrase-file', 'new')).json).toMatchObject([
      { key: (await keysOf(containers))[0] },
    ]);
    expect([await opens(containers, 'a new one'), await opens(containers, PASSPHRASE)]).toEqual([true, false]);
  });

  it('wraps the key anew when the new one is the old one', async () => {
    const { containers, change } = await prepare();
    const old = await keysOf(containers);
    expect((await change(PASSPHRASE, '--new-passphrase-file', 'same')).json).toMatchObject([{ removed: old }]);
    expect(await opens(containers, PASSPHRASE)).toBe(true);
  });

  it('refuses a wrong old one, an empty new one, a missing option and a repository without encryption', async () => {
    const { containers, change } = await prepare();
    expect(await change('wrong', '--new-passphrase-file', 'new')).toMatchObject({
      code: 1,
      errors: [{ error: 'FIRN_PASSPHRASE_WRONG' }],
    });
    expect(await change(PASSPHRASE, '--new-passphrase-file', 'empty')).toMatchObject({
      code: 2,
      errors: [{ error: 'FIRN_SETTING_INVALID', details: { name: '--new-passphrase-file' } }],
    });
    expect(await change(PASSPHRASE)).toMatchObject({ code: 2, errors: [{ error: 'FIRN_USAGE' }] });
    expect(await keysOf(containers)).toHaveLength(1);
    const plain = await createTestRepository({ encrypted: false });
    const cwd = await temporaryFolderOf({ new: 'a new one' });
    const options = { containers: plain.containers, cwd, env: {} };
    expect(await runCli(['passphrase', '--json', '--new-passphrase-file', 'new'], options)).toMatchObject({
      code: 2,
      errors: [{ error: 'FIRN_USAGE' }],
    });
  });

  it('leaves the old one valid where the new key does not arrive as it was sent', async () => {
    const { containers, change } = await prepare();
    const corrupting: Containers = {
      container: (name) =>
        intercept(containers.container(name), {
          create: (create, blob, body, options) => {
            const bytes = Buffer.from(body);
            const at = bytes.indexOf('"tag":"') + 8;
            bytes[at] = bytes[at] === 0x41 ? 0x42 : 0x41;
            return create(blob, bytes, options);
          },
        }),
    };
    const cwd = await temporaryFolderOf({ new: 'a new one' });
    const failed = await runCli(['passphrase', '--json', '--new-passphrase-file', 'new'], {
      containers: corrupting,
      cwd,
    });
    expect(failed).toMatchObject({ code: 1, errors: [{ error: 'FIRN_CONFIG_DAMAGED' }] });
    expect([await opens(containers, 'a new one'), await opens(containers, PASSPHRASE)]).toEqual([false, true]);
    expect((await change(PASSPHRASE, '--new-passphrase-file', 'new')).code).toBe(0);
    expect([await opens(containers, 'a new one'), await opens(containers, PASSPHRASE)]).toEqual([true, false]);
  });
});
