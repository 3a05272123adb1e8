/** How often an archive of a folder asks the storage: on a distant one, each time is a wait. */
import { beforeEach, expect, test, vi } from 'vitest';
import { archiveAndPublish } from '../../src/cli/archive-and-publish.ts';
import type { Containers, Repository } from '../../src/repository.ts';
import { hooked } from '../index/index-kit.ts';
import { type LocalNode, makeTree, temporaryFolderOf } from '../kit/local-tree.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { createTestRepository } from '../kit/repository.ts';

const FILES = 40;

let folder: string;
let calls: string[];
let reopen: () => Promise<Repository>;

/** Older than any scan. */
function file(content: string): LocalNode {
  return { type: 'file', content, mtime: 1_700_000_000 };
}

const addOneMore = () => makeTree(folder, { 'one more': file('one more') });

beforeEach(async () => {
  // After a second whether a repair runs is asked again.
  vi.spyOn(performance, 'now').mockReturnValue(0);
  const names = Array.from({ length: FILES }, (_, n) => String(n));
  folder = await temporaryFolderOf(Object.fromEntries(names.map((name) => [name, file(`the content of ${name}`)])));
  const account = createMemoryAccount();
  const containers: Containers = {
    container: (name) =>
      hooked(account.container(name), { before: (call, blob) => void calls.push(`${call} ${blob}`) }),
  };
  calls = [];
  // So late that the files are as old as their times say.
  ({ reopen } = await createTestRepository({ containers, now: () => new Date(Date.now() + 3_600_000) }));
});

/** As a command does it: nothing is in memory. */
async function archive(): Promise<readonly string[]> {
  calls = [];
  await archiveAndPublish(await reopen(), folder, 'docs');
  return calls;
}

/** Without what grows with the content: roots of the index, chunk blobs, nodes of filetrees. */
function besideContent(all: readonly string[]): string[] {
  return all.filter((call) => !/ (chunk-index|chunks|thin|filetrees)\/./.test(call));
}

test('a folder that is as it was is found so with eight requests', async () => {
  await archive();
  expect((await archive()).length).toBeLessThanOrEqual(8);
});

test('whatever is archived, some forty requests find, plan, publish and retire it', async () => {
  expect(besideContent(await archive()).length).toBeLessThanOrEqual(40);
  await addOneMore();
  expect(besideContent(await archive()).length).toBeLessThanOrEqual(40);
});

test('a manifest is read once, and that of the new snapshot never', async () => {
  await archive();
  await addOneMore();
  const reads = (await archive()).filter((call) => call.startsWith('read snapshots/'));
  expect(reads.length).toBe(1);
});

test('what a scan found is published without a look at the journal', async () => {
  const first = await archive();
  await addOneMore();
  const second = await archive();
  expect([...first, ...second].filter((call) => call.includes(' journal/'))).toEqual([]);
});

test('receipts are read once by who plans with them', async () => {
  await archive();
  await addOneMore();
  const all = await archive();
  expect(all.filter((call) => call.startsWith('read receipts/')).length).toBe(3);
  // Two are looked for before there is one, and whether that still stands before it is carried out.
  expect(all.filter((call) => call.startsWith('read plans/')).length).toBe(3);
});
