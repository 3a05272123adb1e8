/** What `firn archive` sees of a folder before the repository is open, and what becomes of it. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { beforeEach, expect, it } from 'vitest';
import { archiveAndPublish } from '../../src/cli/archive-and-publish.ts';
import type { Containers, Repository } from '../../src/repository.ts';
import { intercept } from '../chunks/intercept.ts';
import { temporaryFolderOf } from '../kit/local-tree.ts';
import { createMemoryAccount, type MemoryAccount } from '../kit/memory-blob-store.ts';
import { contentOf, createTestRepository } from '../kit/repository.ts';
import { jsonLines, runCli } from './cli.ts';

let account: MemoryAccount;
let repository: Repository;
let folder: string;

beforeEach(async () => {
  account = createMemoryAccount();
  ({ repository } = await createTestRepository({ containers: account }));
  folder = await temporaryFolderOf({ a: 'one', d: 'two' });
  await archiveAndPublish(repository, folder, 'docs');
});

it('where the head cannot be asked for, the folder is looked at when the repository is open', async () => {
  let asked = 0;
  const containers: Containers = {
    container: (name) =>
      intercept(account.container(name), {
        async properties(next, blob, options) {
          if (!blob.startsWith('heads/')) return await next(blob, options);
          asked += 1;
          throw new Error('not now');
        },
      }),
  };
  await rm(path.join(folder, 'd'));
  const { code, stdout } = await runCli(['archive', folder, '--source', 'docs', '--json'], { containers });
  expect({ code, asked }).toEqual({ code: 0, asked: 1 });
  expect(jsonLines(stdout)).toMatchObject([{ unchanged: false, removed: 1 }]);
  expect(await latest()).toEqual({ a: 'one' });
});

/** Runs `firn archive`, and something else once its key has been read; the folder has been looked at by then. */
async function archiveWhile(somethingElse: () => Promise<unknown>): Promise<Record<string, unknown> | undefined> {
  let times = 0;
  const headAsked = Promise.withResolvers<void>();
  const containers: Containers = {
    container: (name) =>
      intercept(account.container(name), {
        async properties(next, blob, options) {
          try {
            return await next(blob, options);
          } finally {
            if (blob.startsWith('heads/')) headAsked.resolve();
          }
        },
        async read(next, blob, options) {
          const answer = await next(blob, options);
          if (blob.startsWith('keys/') && times === 0) {
            times += 1;
            // Behind that nothing takes a thread: it looks at one entry in each turn at least.
            await headAsked.promise;
            for (let turns = 0; turns < 100; turns += 1) await nextTurn();
            await somethingElse();
          }
          return answer;
        },
      }),
  };
  const { code, stdout, stderr } = await runCli(['archive', folder, '--source', 'docs', '--json'], { containers });
  expect({ code, stderr, times }).toEqual({ code: 0, stderr: '', times: 1 });
  return jsonLines(stdout)[0];
}

async function latest(): Promise<Record<string, string> | undefined> {
  const head = await repository.snapshots.readHead('docs');
  return head && (await contentOf(repository, head.snapshot));
}

it('a scan begins before the repository is open, and says what was there then', async () => {
  const told = await archiveWhile(() => writeFile(path.join(folder, 'new'), 'three'));
  expect(told).toMatchObject({ unchanged: true, added: 0 });
});

it('what another archive has published meanwhile is not taken for removed: the folder is looked at anew', async () => {
  const told = await archiveWhile(async () => {
    await writeFile(path.join(folder, 'new'), 'three');
    await archiveAndPublish(repository, folder, 'docs');
  });
  expect(told).toMatchObject({ unchanged: true, removed: 0 });
  expect(await latest()).toEqual({ a: 'one', d: 'two', new: 'three' });
});

it('nor is a folder that another archive has published in the place of a file', async () => {
  const told = await archiveWhile(async () => {
    await rm(path.join(folder, 'd'));
    await mkdir(path.join(folder, 'd'));
    await writeFile(path.join(folder, 'd', 'below'), 'three');
    await archiveAndPublish(repository, folder, 'docs');
  });
  expect(told).toMatchObject({ unchanged: true, removed: 0 });
  expect(await latest()).toEqual({ a: 'one', 'd/below': 'three' });
});

it('nor is the first snapshot of all, which another archive has made', async () => {
  await account.container('firn-state').delete('heads/docs');
  for await (const { name } of account.container('firn-data').list({ prefix: 'snapshots/' })) {
    await account.container('firn-data').delete(name);
  }
  await archiveWhile(async () => {
    await writeFile(path.join(folder, 'new'), 'three');
    await archiveAndPublish(repository, folder, 'docs');
  });
  expect(await latest()).toEqual({ a: 'one', d: 'two', new: 'three' });
});
