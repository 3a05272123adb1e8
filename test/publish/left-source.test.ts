/** A source that is left while its uploads are on their way, and rejoined: at every stage nothing is published, or all. */
import { expect, test } from 'vitest';
import { archiveBatch } from '../../src/archive/archive-batch.ts';
import { sealDueBatches } from '../../src/archive/batches.ts';
import { isSourceDue } from '../../src/publish/due.ts';
import { planPublish, wholeIndex } from '../../src/publish/plan.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import { buildFiletrees, commitSnapshot, flushShards } from '../../src/publish/steps.ts';
import { archiveAll, contentOf, createTestRepository, upload } from '../kit/repository.ts';

test('a batch that is left is not archived by a message that comes late, nor published from its receipt', async () => {
  const { repository } = await createTestRepository();
  await upload(repository, 'src/a', 'one');
  await archiveAll(repository, 'src');
  await upload(repository, 'src/b', 'two');
  const [second] = await sealDueBatches(repository, { source: 'src', force: true });
  await repository.journalOf('src').leave();
  expect((await archiveBatch(repository, second!)).outcome).toBe('retired');
  expect(await publishSource(repository, 'src')).toBeUndefined();
  expect(await isSourceDue(repository, 'src')).toBe(false);

  const back = await repository.journalOf('src').rejoin();
  expect(back.map(({ batch }) => batch)).toContain(second!.batch);
  // Their messages are gone: they are named again, as any batch without a receipt.
  for (const { batch } of back) await archiveBatch(repository, { source: 'src', batch });
  const published = await publishSource(repository, 'src');
  expect(await contentOf(repository, published!.snapshot!)).toEqual({ a: 'one', b: 'two' });
});

test('a publish that had begun when its source was left ends, and what is uploaded afterwards follows it', async () => {
  const { repository, reopen } = await createTestRepository();
  await upload(repository, 'src/a', 'one');
  await archiveAll(repository, 'src');
  const plan = (await planPublish(repository, 'src'))!;
  await repository.journalOf('src').leave();
  await flushShards(repository, plan, wholeIndex);
  const tree = await buildFiletrees(repository, plan);
  expect((await commitSnapshot(repository, plan, tree)).outcome).toBe('published');
  await upload(repository, 'src/b', 'two');
  await archiveAll(repository, 'src');
  const published = await publishSource(repository, 'src');
  expect(await contentOf(repository, published!.snapshot!)).toEqual({ a: 'one', b: 'two' });
  expect(await (await reopen()).journalOf('src').rejoin()).toEqual([]);
});
