import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { openJournal } from '../../src/journal/journal.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { connectStorage } from '../../src/storage/connect.ts';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { allPaths, numberOf, partitionBlobs, settings, upload } from './journal-kit.ts';

/** The calls of a process that is now faster, now slower than the others. */
function unsteady(store: BlobStore): BlobStore {
  return new Proxy(store, {
    get(target, key, receiver) {
      const method: unknown = Reflect.get(target, key, receiver);
      if (typeof method !== 'function' || key === 'list' || key === 'listFolders') return method;
      return async (...args: unknown[]) => {
        for (let turns = Math.floor(Math.random() * 4); turns > 0; turns -= 1) await setImmediate();
        const result: unknown = await Reflect.apply(method, target, args);
        for (let turns = Math.floor(Math.random() * 4); turns > 0; turns -= 1) await setImmediate();
        return result;
      };
    },
  });
}

/** Several processes append to one journal while others seal it; then all is looked at. */
async function race(state: BlobStore, options: { writers: number; records: number; sealers: number }): Promise<void> {
  const open = () => openJournal(unsteady(state), 'photos', { ...settings, recordsMax: 7 });
  const told: string[] = [];
  let writing = options.writers;
  const write = async (writer: number) => {
    const journal = open();
    for (let at = 0; at < options.records; at += 3) {
      const batchOfCalls = [at, at + 1, at + 2].map((each) => journal.append([upload(`${writer}/${each}`, each)]));
      for (const { sealed } of await Promise.all(batchOfCalls)) told.push(...sealed);
    }
    writing -= 1;
  };
  const seal = async () => {
    const journal = open();
    while (writing > 0) told.push(...(await journal.sealDue({ force: true })).map(({ batch }) => batch));
  };
  await Promise.all([
    ...Array.from({ length: options.writers }, (_, writer) => write(writer)),
    ...Array.from({ length: options.sealers }, seal),
  ]);

  const journal = openJournal(state, 'photos', settings);
  const paths = await allPaths(journal);
  for (let writer = 0; writer < options.writers; writer += 1) {
    const own = paths.filter((path) => path.startsWith(`${writer}/`));
    expect(own).toEqual(Array.from({ length: options.records }, (_, at) => `${writer}/${at}`));
  }
  const batches = await journal.batches();
  expect(new Set(told).size).toBe(told.length);
  const names = batches.map(({ batch }) => batch);
  expect(new Set(names.map(numberOf)).size).toBe(names.length);
  for (const batch of told) expect(names).toContain(batch);
  expect(names.length - told.length).toBeLessThanOrEqual(1);
  for (const { batch, records, uploadBytes } of batches) {
    const read = await Array.fromAsync(journal.read(batch));
    expect(records).toBe(read.length);
    expect(uploadBytes).toBe(read.reduce((sum, record) => sum + (record.kind === 'upload' ? record.bytes : 0), 0));
  }
  expect(await partitionBlobs(state, 'photos')).toHaveLength(batches.length);
}

describe('processes that append and seal at the same time', () => {
  it('lose nothing, keep the order of each, and name each batch once', async () => {
    for (let round = 0; round < 15; round += 1) {
      await race(createMemoryBlobStore(), { writers: 3, records: 30, sealers: round % 3 });
    }
  });

  it('do so on the service itself', async () => {
    const storage = connectStorage({ connectionString: azuriteConnectionString() });
    const state = storage.container(uniqueName('journal'));
    await state.createContainer();
    try {
      await race(state, { writers: 3, records: 60, sealers: 1 });
    } finally {
      await state.deleteContainer();
    }
  });
});
