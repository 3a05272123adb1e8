import { expect, test } from 'vitest';
import { allEnded } from '../../src/storage/all-ended.ts';

test('several things at once give their values, in their order', async () => {
  expect(await allEnded([Promise.resolve('a'), 2, Promise.resolve(undefined)])).toEqual(['a', 2, undefined]);
});

test('the first that fails is told when the others have ended too', async () => {
  const slow = Promise.withResolvers<void>();
  const all = allEnded([slow.promise, Promise.reject(new Error('one')), Promise.reject(new Error('two'))]);
  let told = false;
  all.catch(() => {
    told = true;
  });
  await new Promise(setImmediate);
  expect(told).toBe(false);
  slow.resolve();
  await expect(all).rejects.toThrow('one');
});
