import { describe, expect, it } from 'vitest';
import { publishSource } from '../../src/publish/publish-source.ts';
import { pseudoRandomBytes } from '../chunks/bytes.ts';
import { temporaryFolderOf } from '../kit/local-tree.ts';
import { archiveAll, upload } from '../kit/repository.ts';
import { createCli, idPattern } from './cli.ts';

describe('firn publish', () => {
  it('seals, archives and publishes what waits in the inbox of a source', async () => {
    const { cli, repository } = await createCli();
    await upload(repository, 'docs/a', 'one');
    await upload(repository, 'docs/b/c', 'two');
    await upload(repository, 'other/x', 'elsewhere');
    const { code, json } = await cli('publish', 'docs', '--json');
    expect(code).toBe(0);
    const [first] = json;
    expect(json).toEqual([
      {
        source: 'docs',
        batches: 1,
        published: [first?.snapshot],
        unchanged: false,
        snapshot: expect.stringMatching(idPattern),
        files: 2,
        bytes: 6,
      },
    ]);
    expect((await cli('ls', 'latest:docs', '--json')).json.map((line) => line.path)).toEqual(['a', 'b', 'b/c']);
    const again = await cli('publish', 'docs', '--json');
    expect(again).toMatchObject({
      code: 0,
      json: [{ batches: 0, published: [], unchanged: true, snapshot: first?.snapshot }],
    });
    expect((await cli('snapshots', '--json')).json).toHaveLength(1);
  });

  it('publishes a batch that was archived before and whose publish never came', async () => {
    const { cli, repository } = await createCli();
    await upload(repository, 'docs/a', 'one');
    await archiveAll(repository, 'docs');
    await upload(repository, 'docs/a', 'two');
    expect(await cli('publish', 'docs')).toMatchObject({ code: 0 });
    expect(await cli('cat', 'latest:docs', 'a')).toMatchObject({ stdout: 'two' });
  });

  it('says of a source that nobody knows that it has nothing, so that a mistyped name is seen', async () => {
    const { cli, repository } = await createCli();
    const unknown = {
      code: 0,
      stdout: expect.stringContaining('dcos has no snapshot, and no upload of it is recorded'),
    };
    expect(await cli('publish', 'dcos')).toMatchObject(unknown);
    await upload(repository, 'docs/a', 'one');
    await cli('publish', 'docs');
    expect(await cli('publish', 'docs')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('docs is as it was'),
    });
  });

  it('refuses what cannot be a source', async () => {
    const { cli } = await createCli();
    expect(await cli('publish', '../x', '--json')).toMatchObject({
      code: 2,
      errors: [{ error: 'FIRN_SOURCE_NAME_INVALID' }],
    });
  });
});

describe('firn remove', () => {
  it('leaves a file and a folder out of the next snapshot, and keeps them in the earlier one', async () => {
    const { cli, repository } = await createCli();
    for (const at of ['a', 'b', 'folder/c', 'folder/d']) await upload(repository, `docs/${at}`, at);
    await cli('publish', 'docs');
    const before = (await repository.snapshots.resolve('latest')).id;
    const removed = await cli('remove', 'docs', 'a', '/folder/', 'nothing', '--json');
    expect(removed.code).toBe(0);
    expect(removed.json).toEqual([
      { source: 'docs', path: 'a', inLatest: true },
      { source: 'docs', path: 'folder', inLatest: true },
      { source: 'docs', path: 'nothing', inLatest: false },
    ]);
    expect(removed.errors).toMatchObject([{ path: 'nothing' }]);
    // Not before the publish.
    expect((await cli('ls', 'latest', '--json')).json).toHaveLength(5);
    await cli('publish', 'docs');
    expect((await cli('ls', 'latest', '--json')).json.map((line) => line.path)).toEqual(['b']);
    expect((await cli('ls', before, '--json')).json).toHaveLength(5);
  });

  it('says when it takes effect, and refuses paths that cannot be', async () => {
    const { cli } = await createCli();
    const { code, stderr } = await cli('remove', 'docs', 'a');
    expect(code).toBe(0);
    expect(stderr).toContain('firn publish docs');
    expect(await cli('remove', 'docs', '../a', '--json')).toMatchObject({ errors: [{ error: 'FIRN_PATH_UNUSABLE' }] });
    expect(await cli('remove', 'docs', '/', '--json')).toMatchObject({ errors: [{ error: 'FIRN_PATH_UNUSABLE' }] });
  });
});

describe('firn stats', () => {
  it('counts what is there, what is unreferenced and what waits', async () => {
    const { cli, repository } = await createCli({ chunking: { method: 'file' } });
    const folder = await temporaryFolderOf({
      small: 'one',
      other: 'two',
      large: { type: 'file', content: pseudoRandomBytes(1, 5_000_000) },
    });
    await cli('archive', folder, '--source', 'docs');
    const empty = { blobs: 0, storedBytes: 0 };
    const { code, json } = await cli('stats', '--json');
    expect(code).toBe(0);
    expect(json).toMatchObject([
      {
        repository: 'firn',
        snapshots: 1,
        sources: ['docs'],
        chunks: {
          blobs: 3,
          large: { blobs: 1, rawBytes: 5_000_000 },
          tar: { blobs: 1, rawBytes: expect.any(Number) },
          thin: { blobs: 1, rawBytes: 0 },
        },
        index: { entries: 3, storedBytes: expect.any(Number) },
        unreferenced: empty,
        waiting: { receipts: 0, batches: 0, openSources: 0, failedBatches: 0 },
      },
    ]);
    // Archived and not published: the receipt points at it.
    await upload(repository, 'site/new', pseudoRandomBytes(2, 4_500_000));
    expect((await cli('stats', '--json')).json).toMatchObject([{ waiting: { openSources: 1, receipts: 0 } }]);
    await archiveAll(repository, 'site');
    expect((await cli('stats', '--json')).json).toMatchObject([
      {
        index: { entries: 3 },
        chunks: { large: { blobs: 2 } },
        unreferenced: empty,
        waiting: { receipts: 1, openSources: 0 },
      },
    ]);
    // Without the receipt nobody does.
    for await (const { name } of repository.state.store.list({ prefix: 'receipts/' }))
      await repository.state.store.delete(name);
    const [orphaned] = (await cli('stats', '--json')).json;
    expect(orphaned).toMatchObject({ unreferenced: { blobs: 1 }, waiting: { receipts: 0, batches: 1 } });
    expect(Object(orphaned?.unreferenced).storedBytes).toBeGreaterThan(4_500_000);
    expect((await cli('stats')).stdout).toMatch(/^Unreferenced +1 blob, 4\.29 MiB$/m);
  });

  it('shows as unreferenced what two batches with the same content stored at the same moment', async () => {
    const { cli, repository } = await createCli();
    const content = pseudoRandomBytes(1, 10_000);
    await upload(repository, 'one/a', content);
    await upload(repository, 'two/a', content);
    await upload(repository, 'two/b', 'and another');
    // Both look for the chunk before either has stored it.
    await Promise.all(['one', 'two'].map((source) => archiveAll(repository, source)));
    expect((await cli('stats', '--json')).json).toMatchObject([
      { chunks: { tar: { blobs: 2 } }, unreferenced: { blobs: 0 }, waiting: { receipts: 2 } },
    ]);
    await publishSource(repository, 'two');
    await publishSource(repository, 'one');
    const [stats] = (await cli('stats', '--json')).json;
    expect(stats).toMatchObject({ snapshots: 2, index: { entries: 2 }, unreferenced: { blobs: 1 } });
    expect(Object(stats?.unreferenced).storedBytes).toBeGreaterThan(10_000);
    expect((await cli('cat', 'latest:one', 'a')).stdoutBytes.equals(content)).toBe(true);
  });
});
