import { beforeEach, describe, expect, test } from 'vitest';
import {
  type ArchivedChange,
  deleteReceipt,
  findReceipt,
  ReceiptWriter,
  readChanges,
} from '../../src/archive/receipt.ts';
import { plainKeys } from '../../src/sealing/keys.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { type Hooks, hooked } from '../index/index-kit.ts';
import { hashOf, locationOf } from '../kit/arbitraries.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';

const subject = { source: 'src', batch: '0001', kind: 'inbox', base: undefined } as const;
const totals = { files: 0, bytes: 0, newChunks: 0, knownChunks: 0, newBytes: 0, storedBytes: 0, gone: 0 };
const done = { time: '2026-01-01T00:00:00.000Z', totals };

/** Removals of long paths: some 2,300 fill a part. */
const changes: readonly ArchivedChange[] = Array.from({ length: 9_000 }, (_, n) => ({
  path: `${'long'.repeat(20)}/${String(n).padStart(6, '0')}`,
  op: 'remove',
}));

let store: BlobStore;
let calls: string[];
beforeEach(() => {
  store = createMemoryBlobStore();
  calls = [];
});

/** `before` is asked with the last segment of the name. */
function stateWith(before: (call: string, last: string) => Promise<void> | void): SealedBlobs {
  const hooks: Hooks = {
    async before(call, name) {
      const last = name.split('/').at(-1) ?? '';
      calls.push(`${call} ${last}`);
      await before(call, last);
    },
  };
  return new SealedBlobs(hooked(store, hooks), plainKeys);
}

async function names(): Promise<string[]> {
  return (await Array.fromAsync(store.list())).map(({ name }) => name);
}

describe('the writer of a receipt', () => {
  test('takes changes while a part is written, and begins the next part when that one is there', async () => {
    const held = Promise.withResolvers<void>();
    const writer = new ReceiptWriter(
      stateWith((call, last) => (call === 'create' && last === 'changes-000000' ? held.promise : undefined)),
      subject,
    );
    let taken = 0;
    const adding = (async () => {
      for (const change of changes) {
        await writer.addChange(change);
        taken += 1;
      }
    })();
    await expect.poll(() => taken).toBeGreaterThan(4_000);
    await expect.poll(() => calls).toEqual(['create changes-000000']);
    expect(taken).toBeLessThan(changes.length);
    held.resolve();
    await adding;
    const receipt = await writer.finish(done, []);
    expect(receipt).toMatchObject({ changes: changes.length, changesParts: 4 });
    const state = new SealedBlobs(store, plainKeys);
    expect(await Array.fromAsync(readChanges(state, receipt))).toEqual(changes);
  });

  test('fails when a part of it could not be written, whoever notices, and leaves nothing when it is given up', async () => {
    for (const part of ['changes-000001', 'changes-000003', 'index']) {
      const state = stateWith((call, last) => {
        if (call === 'create' && last === part) throw new Error('full');
      });
      const writer = new ReceiptWriter(state, subject);
      const writing = (async () => {
        for (const change of changes) await writer.addChange(change);
        return await writer.finish(done, [locationOf(hashOf('one'))]);
      })();
      await expect(writing, part).rejects.toThrow('full');
      await writer.discard();
      expect(await names(), part).toEqual([]);
    }
  });

  test('asks for nothing when nothing was written of what is given up', async () => {
    const writer = new ReceiptWriter(
      stateWith(() => undefined),
      subject,
    );
    await writer.addChange({ path: 'a', op: 'remove' });
    await writer.discard();
    expect(calls).toEqual([]);
  });
});

describe('a receipt', () => {
  async function written(): Promise<void> {
    const writer = new ReceiptWriter(new SealedBlobs(store, plainKeys), subject);
    for (const change of changes) await writer.addChange(change);
    await writer.finish(done, []);
  }

  test('is read a part ahead of who takes its changes, and no further', async () => {
    await written();
    const state = stateWith(() => undefined);
    const receipt = await findReceipt(state, subject.source, subject.batch);
    if (receipt === undefined) throw new Error('there is no receipt');
    const reading = readChanges(state, receipt);
    await reading.next();
    await expect.poll(() => calls).toEqual(['read receipt', 'read changes-000000', 'read changes-000001']);
    await reading.return(undefined);
    expect(calls.length).toBe(3);
  });

  test('that claims any number of parts is damaged where the first is missing', async () => {
    await written();
    const state = new SealedBlobs(store, plainKeys);
    const receipt = await findReceipt(state, subject.source, subject.batch);
    if (receipt === undefined) throw new Error('there is no receipt');
    for (const changesParts of [receipt.changesParts + 1, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
      const reading = Array.fromAsync(readChanges(state, { ...receipt, changesParts }));
      await expect(reading).rejects.toMatchObject({ code: 'FIRN_RECEIPT_DAMAGED' });
    }
  });

  test('goes after its parts, so that it is found where a deletion died', async () => {
    await written();
    let deleted = 0;
    const dying = stateWith((call) => {
      if (call !== 'delete') return;
      deleted += 1;
      if (deleted === 3) throw new Error('died');
    });
    await expect(deleteReceipt(dying, subject.source, subject.batch)).rejects.toThrow('died');
    expect(await names()).toContain(`receipts/${subject.source}/${subject.batch}/receipt`);
    await deleteReceipt(new SealedBlobs(store, plainKeys), subject.source, subject.batch);
    expect(await names()).toEqual([]);
  });
});
