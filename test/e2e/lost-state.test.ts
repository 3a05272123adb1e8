/** The state container is lost but for its journal: what comes back from the data container alone, on Azurite. */
import path from 'node:path';
import { expect, test } from 'vitest';
import { archiveBatch } from '../../src/archive/archive-batch.ts';
import { recordUpload, sealDueBatches } from '../../src/archive/batches.ts';
import { connectFromEnvironment } from '../../src/open-from-environment.ts';
import { pseudoRandomBytes } from '../chunks/bytes.ts';
import { jsonLines, PASSPHRASE, runCli } from '../cli/cli.ts';
import { runFirnProcess } from '../cli/firn-process.ts';
import { namesOf } from '../index/repairing.ts';
import { hashOf } from '../kit/arbitraries.ts';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { describeTree, makeTree, temporaryFolder, temporaryFolderOf } from '../kit/local-tree.ts';
import { createTestRepository } from '../kit/repository.ts';

const file = (content: string | Buffer, mtime: number) =>
  ({ type: 'file', content, mode: 0o640, mtime: 1_700_000_000 + mtime }) as const;

/** Path → digest of all that a restore is to bring back: a difference is shown in few words. */
async function digestsOf(folder: string): Promise<Record<string, string>> {
  const described = Object.entries(await describeTree(folder));
  return Object.fromEntries(described.map(([name, text]) => [name, hashOf(text)]));
}

/** Writes a file with a time of its own, in whole seconds. */
async function write(folder: string, name: string, content: string): Promise<void> {
  await makeTree(folder, { [name]: file(content, content.length) });
}

test('what was archived comes back whole when the state is lost but for its journal, and publishing goes on', async () => {
  const env = {
    FIRN_STORAGE: azuriteConnectionString(),
    FIRN_REPOSITORY: uniqueName('lost'),
    FIRN_PASSPHRASE: PASSPHRASE,
  };
  /** In a process of its own. */
  const firn = async (...argv: string[]) => {
    const { code, stdout, stderr } = await runFirnProcess([...argv, '--json'], { env });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    return jsonLines(stdout);
  };
  /** The same in this process, for what leads there. */
  const cli = async (...argv: string[]) => {
    const { code, json } = await runCli([...argv, '--json'], { env, containers: undefined });
    expect(code).toBe(0);
    return json;
  };
  const { repository } = await createTestRepository({
    containers: connectFromEnvironment(env).containers,
    environment: env,
  });
  const { inbox, state } = repository;
  /** Uploads a folder; its events are recorded. */
  const upload = async (folder: string, source: string) => {
    await cli('upload', folder, '--source', source);
    for (const name of await namesOf(inbox, `${source}/`)) await recordUpload(repository, name);
  };

  const scanned = await temporaryFolderOf({
    large: file(pseudoRandomBytes(1, 5_000_000), 1),
    folder: {
      type: 'folder',
      mode: 0o750,
      mtime: 1_600_000_000,
      entries: { one: file('one', 2), two: file('two', 3) },
    },
    empty: { type: 'folder', mode: 0o700, mtime: 1_600_000_001, entries: {} },
    link: { type: 'link', target: 'folder/one', mtime: 4 },
  });
  const uploaded = await temporaryFolderOf({ a: file('first', 5), 'two as well': file('two', 6) });
  for (const content of ['first', 'second', 'third']) {
    await write(scanned, 'changing', content);
    await cli('archive', scanned, '--source', 'scanned');
  }
  for (const content of ['second', 'third']) {
    await write(uploaded, 'a', content);
    await upload(uploaded, 'uploaded');
    await cli('publish', 'uploaded');
  }
  const published = { scanned: await digestsOf(scanned), uploaded: await digestsOf(uploaded) };
  const before = await cli('snapshots');
  expect(before.map(({ source }) => source)).toEqual(['scanned', 'scanned', 'scanned', 'uploaded', 'uploaded']);
  const headOf = (source: string) => before.findLast((snapshot) => snapshot.source === source)?.id;

  // What waits, in every place that it can wait in: recorded, sealed, and archived with a receipt that is lost too.
  await write(uploaded, 'recorded', 'in the journal when the state is lost');
  await upload(uploaded, 'uploaded');
  const waiting = await temporaryFolderOf({ archived: file('archived', 7) });
  await upload(waiting, 'waiting');
  const [batch] = await sealDueBatches(repository, { source: 'waiting', force: true });
  await archiveBatch(repository, { source: 'waiting', batch: batch?.batch ?? '' });
  await write(waiting, 'sealed', 'sealed');
  await upload(waiting, 'waiting');
  await sealDueBatches(repository, { source: 'waiting', force: true });
  await write(waiting, 'recorded', 'recorded');
  await upload(waiting, 'waiting');

  const lost = (await namesOf(state.store, '')).filter((name) => !name.startsWith('journal/'));
  const folders = new Set(lost.map((name) => name.slice(0, name.indexOf('/'))));
  expect([...folders]).toEqual(expect.arrayContaining(['chunk-index', 'heads', 'receipts']));
  for (const name of lost) await state.store.delete(name);

  expect(await firn('repair-index')).toMatchObject([
    { roots: 16, shardsRemoved: 0, quarantinedCount: 0, finished: true },
  ]);
  // Heads come back with the first question for them.
  expect(await namesOf(state.store, 'heads/')).toEqual([]);
  const restored = async (run: typeof firn, snapshot: string) => {
    const to = path.join(await temporaryFolder(), 'restored');
    await run('restore', snapshot, to);
    return await digestsOf(to);
  };
  const [listed, scannedAgain, uploadedAgain] = await Promise.all([
    firn('snapshots'),
    restored(firn, 'latest:scanned'),
    restored(firn, 'latest:uploaded'),
  ]);
  expect(listed).toEqual(before);
  expect(scannedAgain).toEqual(published.scanned);
  expect(uploadedAgain).toEqual(published.uploaded);
  expect(await namesOf(state.store, 'heads/')).toEqual(['heads/scanned', 'heads/uploaded']);

  await write(scanned, 'changing', 'fourth');
  const [[scan], [publish], [first]] = await Promise.all([
    firn('archive', scanned, '--source', 'scanned'),
    cli('publish', 'uploaded'),
    cli('publish', 'waiting'),
  ]);
  expect(scan).toMatchObject({ parent: headOf('scanned'), newChunks: 1, unchanged: false });
  expect(publish).toMatchObject({ source: 'uploaded', batches: 1, unchanged: false, files: 3 });
  expect(first).toMatchObject({ source: 'waiting', batches: 3, unchanged: false, files: 3 });
  const [after, ...trees] = await Promise.all([
    cli('snapshots'),
    ...['scanned', 'uploaded', 'waiting'].map((source) => restored(cli, `latest:${source}`)),
  ]);
  expect(trees).toEqual(await Promise.all([scanned, uploaded, waiting].map(digestsOf)));
  const newest = after.filter(({ id }) => !before.some((snapshot) => snapshot.id === id));
  expect(Object.fromEntries(newest.map(({ source, parent }) => [source, parent]))).toEqual({
    scanned: headOf('scanned'),
    uploaded: headOf('uploaded'),
    waiting: null,
  });
  const [stats] = await cli('stats');
  expect(stats).toMatchObject({
    snapshots: before.length + 3,
    unreferenced: { blobs: 0 },
    waiting: { receipts: 0, batches: 0, openSources: 0, failedBatches: 0 },
  });
});
