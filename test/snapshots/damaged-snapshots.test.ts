/** A snapshot whose manifest is damaged stops its own source at most, and only where it may be the latest. */
import { describe, expect, test } from 'vitest';
import { publishSource } from '../../src/publish/publish-source.ts';
import type { OpenOptions, Repository } from '../../src/repository.ts';
import { openRepository } from '../../src/repository.ts';
import { encodeSnapshot, type Snapshot, snapshotName } from '../../src/snapshots/snapshot.ts';
import { archiveAll, createTestRepository, upload } from '../kit/repository.ts';

/** Snapshots of these sources, one after another, each a day after the one before. */
async function published(...sources: string[]) {
  const { repository, containers } = await createTestRepository();
  let day = 0;
  const snapshots: Snapshot[] = [];
  for (const source of sources) {
    day += 1;
    const now = () => new Date(Date.UTC(2026, 0, day));
    snapshots.push(await publish({ ...repository, now }, source, `content ${day}`));
  }
  const open = async (options?: OpenOptions) => await openRepository(containers, repository.settings, options);
  return { repository, snapshots, open };
}

async function publish(repository: Repository, source: string, content: string): Promise<Snapshot> {
  await upload(repository, `${source}/${content}`, content);
  await archiveAll(repository, source);
  const { snapshot } = (await publishSource(repository, source)) ?? {};
  if (snapshot === undefined) throw new Error('nothing was published');
  return snapshot;
}

/** @param age `old`: as a Firn wrote it that did not say the source in the metadata. */
async function damage({ data }: Repository, snapshot: Snapshot, age: 'new' | 'old'): Promise<void> {
  const name = snapshotName(snapshot);
  const { metadata } = await data.store.properties(name);
  await data.store.delete(name);
  await data.store.create(name, encodeSnapshot(snapshot), age === 'new' ? { metadata } : {});
}

describe('a damaged snapshot of another source', () => {
  test('does not hinder a publish, a new source, or a head that is lost', async () => {
    const { repository, snapshots, open } = await published('a', 'b');
    const [a, b] = snapshots;
    await damage(repository, b!, 'new');
    await repository.state.store.delete('heads/b');
    await repository.state.store.delete('heads/a');
    const fresh = await open();
    expect((await fresh.snapshots.resolve('latest:a')).id).toBe(a!.id);
    expect((await publish(fresh, 'a', 'more')).parent).toBe(a!.id);
    expect((await publish(fresh, 'c', 'first')).parent).toBeUndefined();
    await expect(fresh.snapshots.readHead('b')).rejects.toMatchObject({ code: 'FIRN_SEAL_BROKEN' });
  });

  test.each([
    ['next snapshot', 1],
    ['head', 2],
  ])('that does not say its source is known by the %s that names it', async (_, at) => {
    const { repository, snapshots, open } = await published('a', 'b', 'b');
    await damage(repository, snapshots[at]!, 'old');
    if (at === 1) await repository.state.store.delete('heads/b');
    await repository.state.store.delete('heads/a');
    const fresh = await open();
    expect((await fresh.snapshots.resolve('latest:a')).id).toBe(snapshots[0]!.id);
    expect((await publish(fresh, 'a', 'more')).parent).toBe(snapshots[0]!.id);
  });
});

describe('a damaged snapshot of no known source', () => {
  test('is told and passed over where there is a head, and may be the latest where there is none', async () => {
    const { repository, snapshots, open } = await published('a', 'b');
    await damage(repository, snapshots[1]!, 'old');
    await repository.state.store.delete('heads/b');
    const told: string[] = [];
    const fresh = await open({ onWarning: ({ code }) => told.push(code) });
    expect((await publish(fresh, 'a', 'more')).parent).toBe(snapshots[0]!.id);
    expect(told).toEqual(['FIRN_SEAL_BROKEN']);
    await repository.state.store.delete('heads/b');
    await expect(fresh.snapshots.readHead('b')).rejects.toMatchObject({ code: 'FIRN_SEAL_BROKEN' });
  });
});

test('a source does not go on without its own damaged snapshot that is newer than its head', async () => {
  const { repository, snapshots, open } = await published('a', 'a');
  const [one, two] = snapshots;
  const head = await repository.snapshots.readHead('a');
  await repository.snapshots.moveHead(head, one!);
  await damage(repository, two!, 'new');
  await expect(publish(await open(), 'a', 'more')).rejects.toMatchObject({ code: 'FIRN_SEAL_BROKEN' });
});

test('in an encrypted repository the metadata of a snapshot does not show its source', async () => {
  const { repository } = await published('holidays');
  const [name] = await repository.snapshots.names();
  const { metadata } = await repository.data.store.properties(name!);
  expect(metadata).toEqual({ firn_source: expect.stringMatching(/^[0-9a-f]{64}$/) });
  expect(metadata.firn_source).toBe(repository.keys.hash(Buffer.from('source\0holidays')));
});
