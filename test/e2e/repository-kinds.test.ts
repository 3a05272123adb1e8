import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { pseudoRandomBytes } from '../chunks/bytes.ts';
import { type CliRun, PASSPHRASE, runCli } from '../cli/cli.ts';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { describeTree, temporaryFolder, temporaryFolderOf } from '../kit/local-tree.ts';

/** The command line over Azurite, in this process; every call is a new opening of the repository. */
function cliOf(repository: string, passphrase: string | undefined): (...argv: string[]) => Promise<CliRun> {
  const env = { FIRN_STORAGE: azuriteConnectionString(), FIRN_REPOSITORY: repository, FIRN_PASSPHRASE: passphrase };
  return (...argv) => runCli(argv, { env, containers: undefined });
}

const file = (seed: number, bytes: number, mtime: number) =>
  ({ type: 'file', content: pseudoRandomBytes(seed, bytes), mode: 0o640, mtime }) as const;

describe('every kind of repository, from init to restore on Azurite', () => {
  test.each([
    ['--thin-chunks packed', '--chunking fastcdc'],
    ['--thin-chunks blob', '--chunking fastcdc'],
    ['--thin-chunks packed', '--chunking file'],
    ['--thin-chunks blob', '--chunking file'],
    ['--thin-chunks blob', '--chunking file --no-encryption'],
  ])('%s %s', async (thin, chunking) => {
    const cli = cliOf(uniqueName('kind'), chunking.includes('--no-encryption') ? undefined : PASSPHRASE);
    expect((await cli('init', ...thin.split(' '), ...chunking.split(' '))).code).toBe(0);
    const folder = await temporaryFolderOf({
      empty: file(0, 0, 1),
      small: file(1, 10, 1_000_000_000),
      'small again': file(1, 10, 1_500_000_000),
      folder: {
        type: 'folder',
        mode: 0o750,
        mtime: 1_200_000_000,
        entries: { 'as large as a few chunks': file(2, 3_000_000, 3), large: file(3, 6_000_000, 4) },
      },
      'empty folder': { type: 'folder', mode: 0o700, mtime: 1_300_000_000, entries: {} },
      link: { type: 'link', target: 'folder/large', mtime: 5 },
    });
    const [archived] = (await cli('archive', folder, '--source', 'docs', '--json')).json;
    expect(archived).toMatchObject({ files: 6, bytes: 9_000_020, unchanged: false });
    const to = path.join(await temporaryFolder(), 'restored');
    expect((await cli('restore', 'latest', to)).code).toBe(0);
    expect(await describeTree(to)).toEqual(await describeTree(folder));
    // What was restored has nothing that the archive does not.
    expect((await cli('archive', to, '--source', 'docs', '--rehash', '--json')).json).toMatchObject([
      { unchanged: true, newChunks: 0, storedBytes: 0, snapshot: archived?.snapshot },
    ]);
    const [stats] = (await cli('stats', '--json')).json;
    expect(stats).toMatchObject({ snapshots: 1, unreferenced: { blobs: 0 } });
    const wholeFiles = chunking.includes('--chunking file');
    // Whole files: one bundle of the two small contents, one large chunk.
    if (wholeFiles) expect(stats).toMatchObject({ chunks: { large: { blobs: 1 } }, index: { entries: 3 } });
    const { thin: pointers, tar } = Object(stats?.chunks);
    if (thin.endsWith('packed')) expect(pointers.blobs).toBe(tar.blobs);
    else expect(pointers.blobs).toBeGreaterThan(tar.blobs);
  });
});
