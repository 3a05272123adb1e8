import { describe, expect, it } from 'vitest';
import { recordInJournal, sealDueBatches } from '../../src/archive/batches.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { upload } from '../kit/repository.ts';
import { createCli, runCli } from './cli.ts';

async function prepare() {
  const made = await createCli();
  const { repository } = made;
  for (const name of ['a', 'b', 'c']) await upload(repository, `photos/${name}`, name.repeat(100));
  await sealDueBatches(repository, { source: 'photos', force: true });
  await upload(repository, 'photos/d', 'four');
  await recordInJournal(repository, 'photos', { kind: 'removal', path: 'old', nonce: '1' });
  await upload(repository, 'docs/a', 'document');
  return made;
}

describe('firn journal', () => {
  it('tells of each source what waits, without the passphrase', async () => {
    const { containers } = await prepare();
    const { code, json } = await runCli(['journal', '--json'], { containers, env: {} });
    expect(code).toBe(0);
    expect(json).toMatchObject([
      { source: 'docs', uploads: { count: 1, bytes: 8 }, removals: 0 },
      { source: 'photos', uploads: { count: 4, bytes: 304 }, removals: 1, corruptCount: 0, setAside: 0 },
    ]);
    const { stdout } = await runCli(['journal'], { containers, env: {} });
    expect(stdout).toMatch(/^SOURCE +PARTITIONS +BATCHES +UPLOADS +BYTES/);
    expect(stdout).toMatch(/photos +2 +1 +4 +304 B/);
  });

  it('shows the partitions of one source, and what was appended to them', async () => {
    const { cli } = await prepare();
    const { code, json } = await cli('journal', 'photos', '--json');
    expect(code).toBe(0);
    expect(json).toHaveLength(1);
    expect(json[0]?.partitions).toMatchObject([
      { state: 'sealed', records: 3, uploadBytes: 300, blocks: 4, filterBytes: expect.any(Number), missing: false },
      { state: 'active', records: 2, uploadBytes: 4, sealedAt: null, filterBytes: null },
    ]);
    const { stdout } = await cli('journal', 'photos');
    expect(stdout).toMatch(/Waiting +4 uploads, 304 B; 1 removal/);
    expect(stdout).toMatch(/\d{10}-[0-9a-f]{8} +sealed/);
  });

  it('names damaged places, and counts what was set aside', async () => {
    const { cli, repository } = await prepare();
    const { store } = repository.state;
    await store.append(`journal/photos/${await activeOf(cli)}`, Buffer.from('no record'));
    const { json } = await cli('journal', 'photos', '--json');
    expect(json[0]).toMatchObject({ corruptCount: 1, corrupt: [{ bytes: 9 }] });
    expect((await cli('journal', 'photos')).stdout).toMatch(/: 9 bytes from \d+/);
    // Nobody knows which uploads it was about.
    expect((await cli('publish', 'photos')).code).toBe(3);
    expect((await cli('journal', 'photos', '--json')).json[0]).toMatchObject({ setAside: 1, uploads: { count: 0 } });
  });

  it('gives up what waits of a source that is finished, keeps what comes later, and takes it back', async () => {
    const { cli, repository } = await prepare();
    const left = await cli('journal', 'photos', '--leave', '--json');
    expect(left).toMatchObject({ code: 0, json: [{ uploads: { count: 0 }, removals: 0 }] });
    await upload(repository, 'photos/later', 'later');
    expect((await cli('journal', 'photos', '--json')).json).toMatchObject([{ uploads: { count: 1 } }]);
    const back = await cli('journal', 'photos', '--rejoin', '--json');
    expect(back).toMatchObject({ code: 0, json: [{ uploads: { count: 5 }, removals: 1 }] });
  });

  it('lets a source go on without a batch that is lost, and only without such a one', async () => {
    const { cli, repository } = await prepare();
    const { partitions } = (await cli('journal', 'photos', '--json')).json[0] as { partitions: { batch: string }[] };
    const [first] = partitions;
    expect(await cli('journal', 'photos', '--forget', first!.batch, '--json')).toMatchObject({
      code: 2,
      errors: [{ error: 'FIRN_USAGE' }],
    });
    await repository.state.store.delete(`journal/photos/${first!.batch}`);
    expect((await cli('journal', 'photos')).stdout).toMatch(/sealed, lost/);
    expect(await cli('publish', 'photos', '--json')).toMatchObject({
      code: 1,
      errors: [{ error: 'FIRN_JOURNAL_DAMAGED', advice: expect.stringContaining(`--forget ${first!.batch}`) }],
    });
    expect((await cli('journal', 'photos', '--forget', first!.batch, '--json')).json).toMatchObject([
      { setAside: 1, uploads: { count: 1 } },
    ]);
    expect(await cli('publish', 'photos', '--json')).toMatchObject({ code: 0, json: [{ files: 1 }] });
    expect((await cli('stats', '--json')).json).toMatchObject([{ setAside: 1 }]);
    expect((await cli('stats')).stdout).toMatch(/Set aside +1 damaged piece of journals/);
  });

  it('says that nothing waits, and what is wrong with the words', async () => {
    const { cli } = await createCli();
    expect(await cli('journal')).toMatchObject({ code: 0, stdout: '' });
    expect((await cli('journal')).stderr).toContain('no journals');
    expect((await cli('journal', 'nobody')).stderr).toContain('nobody');
    for (const argv of [
      ['--leave'],
      ['--rejoin'],
      ['photos', '--leave', '--rejoin'],
      ['--forget', 'x'],
      ['not/a/source'],
    ]) {
      expect((await cli('journal', ...argv)).code, argv.join(' ')).toBe(2);
    }
    const missing = await runCli(['journal', '--json'], {
      containers: { container: (name) => createMemoryAccount().container(name, { exists: false }) },
      env: {},
    });
    expect(missing).toMatchObject({ code: 1, errors: [{ error: 'FIRN_REPOSITORY_MISSING' }] });
  });
});

async function activeOf(cli: (...argv: string[]) => Promise<{ json: Record<string, unknown>[] }>): Promise<string> {
  const { json } = await cli('journal', 'photos', '--json');
  const partitions = json[0]?.partitions as { state: string; blob: string }[];
  return partitions.find(({ state }) => state === 'active')?.blob ?? '';
}
