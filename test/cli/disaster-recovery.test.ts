/** docs/operations.md, «Disaster recovery»: a new machine with nothing but a copy of the data container and the passphrase. */
import { BlobServiceClient } from '@azure/storage-blob';
import { expect, test } from 'vitest';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { describeTree, temporaryFolder, temporaryFolderOf } from '../kit/local-tree.ts';
import { PASSPHRASE, runCli } from './cli.ts';

/** As AzCopy does: every blob with its bytes, metadata and tier. */
async function copyContainer(from: string, to: string): Promise<number> {
  const account = BlobServiceClient.fromConnectionString(azuriteConnectionString());
  const source = account.getContainerClient(from);
  const target = account.getContainerClient(to);
  await target.create();
  let copied = 0;
  for await (const blob of source.listBlobsFlat({ includeMetadata: true })) {
    const body = await source.getBlobClient(blob.name).downloadToBuffer();
    const { accessTier: tier } = blob.properties;
    await target
      .getBlockBlobClient(blob.name)
      .uploadData(body, { ...(blob.metadata && { metadata: blob.metadata }), ...(tier && { tier }) });
    copied += 1;
  }
  return copied;
}

test('with only the data container and the passphrase, every snapshot is restored and the archive goes on', async () => {
  const firnIn =
    (FIRN_REPOSITORY: string) =>
    (...argv: string[]) => {
      const env = { FIRN_STORAGE: azuriteConnectionString(), FIRN_REPOSITORY, FIRN_PASSPHRASE: PASSPHRASE };
      return runCli(argv, { env, containers: undefined });
    };
  const [lost, found] = [uniqueName(), uniqueName()];
  const before = firnIn(lost);
  const file = (content: string) => ({ type: 'file', content, mtime: 1_100_000_000 }) as const;
  const folder = { type: 'folder', mtime: 1_200_000_000, entries: { b: file('two') } } as const;
  const first = await temporaryFolderOf({ a: file('one'), folder });
  const second = await temporaryFolderOf({ a: file('one, changed'), c: file('three') });
  await before('init');
  await before('archive', first, '--source', 'docs');
  await before('archive', second, '--source', 'docs');
  const snapshots = (await before('snapshots', '--json')).json;
  expect(snapshots).toHaveLength(2);

  expect(await copyContainer(`${lost}-data`, `${found}-data`)).toBeGreaterThan(6);
  const after = firnIn(found);
  expect(await after('repair-index')).toMatchObject({ code: 0 });
  expect((await after('snapshots', '--json')).json).toEqual(snapshots);
  for (const [at, tree] of [first, second].entries()) {
    const target = await temporaryFolder();
    expect(await after('restore', String(snapshots[at]?.id), target)).toMatchObject({ code: 0 });
    expect(await describeTree(target)).toEqual(await describeTree(tree));
  }

  // No snapshot is made of what has not changed, and what has changed follows.
  expect(await after('archive', second, '--source', 'docs')).toMatchObject({ code: 0 });
  expect((await after('snapshots', '--json')).json).toEqual(snapshots);
  expect(await after('archive', first, '--source', 'docs')).toMatchObject({ code: 0 });
  expect((await after('snapshots', '--json')).json.at(-1)).toMatchObject({ parent: snapshots[1]?.id });
});
