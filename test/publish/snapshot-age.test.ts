import { expect, test } from 'vitest';
import { publishSource } from '../../src/publish/publish-source.ts';
import { findOldSnapshots } from '../../src/publish/snapshot-age.ts';
import { archiveAll, createTestRepository, upload } from '../kit/repository.ts';

const DAY_MS = 86_400_000;

async function publishedRepository(daysMax: string) {
  const { repository } = await createTestRepository({ environment: { FIRN_SNAPSHOT_AGE_DAYS_MAX: daysMax } });
  for (const source of ['docs', 'photos']) {
    await upload(repository, `${source}/a`, source);
    await archiveAll(repository, source);
    await publishSource(repository, source);
  }
  const after = (days: number) => ({ ...repository, now: () => new Date(Date.now() + days * DAY_MS + 1_000) });
  return { repository, after };
}

test('sources whose latest snapshot is as old as the setting are named, with its age; younger ones are not', async () => {
  const { after } = await publishedRepository('7');
  expect(await Array.fromAsync(findOldSnapshots(after(6.9)))).toEqual([]);
  const old = await Array.fromAsync(findOldSnapshots(after(7)));
  expect(old.map(({ code, details }) => ({ code, ...details }))).toEqual([
    { code: 'FIRN_SNAPSHOT_OLD', source: 'docs', days: 7 },
    { code: 'FIRN_SNAPSHOT_OLD', source: 'photos', days: 7 },
  ]);
});

test('a source whose snapshot cannot be read is named with its error, and does not hide the others', async () => {
  const { repository, after } = await publishedRepository('7');
  const head = await repository.snapshots.readHead('docs');
  const [name = ''] = (await repository.snapshots.names()).filter((each) => each.endsWith(head!.snapshot.id));
  await repository.data.store.delete(name);
  const found = await Array.fromAsync(findOldSnapshots(after(7)));
  expect(found.map(({ code }) => code)).toEqual(['FIRN_BLOB_MISSING', 'FIRN_SNAPSHOT_OLD']);
});

test('nothing is looked at where the setting is 0', async () => {
  const { after } = await publishedRepository('0');
  expect(await Array.fromAsync(findOldSnapshots(after(10_000)))).toEqual([]);
});
