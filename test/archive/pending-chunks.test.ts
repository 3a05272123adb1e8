import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PendingChunks } from '../../src/archive/pending-chunks.ts';
import { deleteReceipt, ReceiptWriter } from '../../src/archive/receipt.ts';
import { plainKeys } from '../../src/sealing/keys.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import { intercept } from '../chunks/intercept.ts';
import { hashOf, locationOf } from '../kit/arbitraries.ts';
import { createCountedStore } from '../kit/counted-store.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';

const totals = { files: 0, bytes: 0, newChunks: 0, knownChunks: 0, newBytes: 0, storedBytes: 0, gone: 0 };

/** Receipts that wait, each with chunks of its own, and what reads them. */
function createWaiting(entriesMax = 1_000, onRead: (blob: string) => Promise<void> = async () => {}) {
  const { store: counted, takeTraffic } = createCountedStore(createMemoryAccount().container('state'));
  const store = intercept(counted, {
    async read(next, blob, options) {
      await onRead(blob);
      return await next(blob, options);
    },
  });
  const state = new SealedBlobs(store, plainKeys);
  const pending = new PendingChunks(state, entriesMax);
  const hashes = (batch: string, chunks: number) => Array.from({ length: chunks }, (_, n) => hashOf(`${batch} ${n}`));
  return {
    pending,
    async wait(batch: string, chunks: number): Promise<void> {
      const writer = new ReceiptWriter(state, { source: 'src', batch, kind: 'inbox', base: undefined });
      const locations = hashes(batch, chunks).map((hash) => locationOf(hash));
      await writer.finish({ time: new Date(0).toISOString(), totals }, locations);
    },
    retire: (batch: string) => deleteReceipt(state, 'src', batch),
    /** How many chunks of a batch a new lookup finds; the reading it takes is told by `reads`. */
    async found(batch: string, chunks: number): Promise<number> {
      const tables = await pending.tables();
      return hashes(batch, chunks).filter((hash) => tables.some((table) => table.find(hash) !== undefined)).length;
    },
    reads: () => takeTraffic().reads,
  };
}

test('every chunk of every receipt that waits is found, in few tables, and none of those that are gone', async () => {
  const anyStep = fc.record({ batch: fc.nat(30), chunks: fc.nat(40) });
  await fc.assert(
    fc.asyncProperty(fc.array(anyStep, { maxLength: 30 }), async (steps) => {
      const { pending, wait, retire, found } = createWaiting(10_000);
      const there = new Map<string, number>();
      const ever = new Set<string>();
      for (const { batch: number, chunks } of steps) {
        const batch = String(number).padStart(4, '0');
        // A number comes once: a batch that was retired does not come back.
        if (there.delete(batch)) await retire(batch);
        else if (!ever.has(batch)) {
          await wait(batch, chunks);
          there.set(batch, chunks);
        }
        ever.add(batch);
        const tables = await pending.tables();
        const counts = tables.map(({ count }) => count);
        expect(counts.every((count, at) => at === 0 || (counts[at - 1] ?? 0) > 2 * count)).toBe(true);
        for (const each of ever) expect(await found(each, 40)).toBe(there.get(each) ?? 0);
      }
    }),
    { numRuns: 20 },
  );
});

test('a receipt is read once, however many lookups come while it waits', async () => {
  const { wait, found, reads } = createWaiting();
  for (const batch of ['01', '02', '03']) await wait(batch, 5);
  reads();
  expect(await found('03', 5)).toBe(5);
  expect(reads()).toBe(6);
  await wait('04', 5);
  reads();
  expect(await found('04', 5)).toBe(5);
  expect(reads()).toBe(2);
  expect(await found('01', 5)).toBe(5);
  expect(reads()).toBe(0);
});

test('of lookups at the same moment one reads, and both find', async () => {
  const { wait, found, reads } = createWaiting();
  await wait('01', 5);
  reads();
  expect(await Promise.all([found('01', 5), found('01', 5)])).toEqual([5, 5]);
  expect(reads()).toBe(2);
});

test('a receipt that does not fit is left out until others are gone', async () => {
  const { wait, retire, found } = createWaiting(10);
  await wait('01', 8);
  await wait('02', 5);
  await wait('03', 2);
  expect([await found('01', 8), await found('02', 5), await found('03', 2)]).toEqual([8, 0, 2]);
  await retire('01');
  expect([await found('01', 8), await found('02', 5), await found('03', 2)]).toEqual([0, 5, 2]);
});

test('a lookup that fails leaves nothing half read for the next', async () => {
  const { pending, wait, found } = createWaiting();
  await wait('01', 5);
  const cancelled = new AbortController();
  const lookup = pending.tables({ signal: cancelled.signal });
  cancelled.abort(new Error('enough'));
  await expect(lookup).rejects.toThrow();
  expect(await found('01', 5)).toBe(5);
});

test('a lookup fails only when all its reading has ended, so that the next counts no receipt a second time', async () => {
  const [begun, slow] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let failing = true;
  const { pending, wait, found } = createWaiting(15, async (blob) => {
    if (!failing) return;
    if (blob.endsWith('01/receipt')) throw new Error('the storage is away');
    if (!blob.endsWith('/index')) return;
    begun.resolve();
    await slow.promise;
  });
  await wait('01', 5);
  await wait('02', 5);
  let ended = false;
  const first = pending.tables().finally(() => {
    ended = true;
  });
  const refused = expect(first).rejects.toThrow('the storage is away');
  await begun.promise;
  failing = false;
  await wait('03', 5);
  expect(ended).toBe(false);
  const last = found('03', 5);
  slow.resolve();
  await refused;
  expect(await last).toBe(5);
});

test('a lookup that is cancelled does not wait for the one before it', async () => {
  const [begun, slow] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const { pending, wait, found } = createWaiting(10, async () => {
    begun.resolve();
    await slow.promise;
  });
  await wait('01', 5);
  const first = found('01', 5);
  await begun.promise;
  await expect(pending.tables({ signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
  slow.resolve();
  expect(await first).toBe(5);
  expect(await found('01', 5)).toBe(5);
});
