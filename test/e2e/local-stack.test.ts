/** The demo and the staying stack, as users run them. */
import { spawn } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { publishNow, waitForSnapshot, waitUntilRecorded } from '../../src/local/demo/watch.ts';
import { startStack } from '../../src/local/stack.ts';
import { openFromEnvironment } from '../../src/open-from-environment.ts';
import { describeTree, temporaryFolder, temporaryFolderOf } from '../kit/local-tree.ts';
import { contentOf } from '../kit/repository.ts';

const demo = fileURLToPath(new URL('../../src/local/demo/demo.ts', import.meta.url));

async function runDemo(folder: string, work: string): Promise<{ code: number | null; output: string }> {
  const child = spawn(process.execPath, [demo, folder], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, TMPDIR: work },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, output };
}

test('the demo archives, changes, publishes again, restores and compares a folder, and leaves nothing behind', async () => {
  const work = await temporaryFolder();
  const folder = await temporaryFolderOf({
    a: 'one',
    b: 'two',
    empty: '',
    link: { type: 'link', target: 'a' },
    folder: { type: 'folder', mode: 0o700, entries: { c: 'three', d: 'four', 'née 雪': 'five', e: 'six' } },
    'empty folder': { type: 'folder', entries: {} },
  });
  const before = await describeTree(folder);
  const { code, output } = await runDemo(folder, work);
  expect(output).toMatch(/compare the first .* all equal[\s\S]*compare the second .* all equal/);
  expect(code, output).toBe(0);
  expect(await readdir(work)).toEqual([]);
  expect(await describeTree(folder)).toEqual(before);
});

test('a folder that does not exist ends the demo with wrong usage, and nothing is left behind', async () => {
  const work = await temporaryFolder();
  const { code, output } = await runDemo(path.join(work, 'missing'), work);
  expect(output).toContain('does not exist');
  expect(code).toBe(2);
  expect(await readdir(work)).toEqual([]);
});

test('a stack that is stopped and started again has its repository, and goes on with what was uploaded', async () => {
  const options = { folder: await temporaryFolder(), blobPort: 0, queuePort: 0, httpPort: 0 };
  const first = await startStack(options);
  try {
    expect(first.created).toBe(true);
    const { repository } = await openFromEnvironment(first.environment);
    await repository.inbox.create('docs/a', Buffer.from('one'));
    await waitUntilRecorded(repository, 'docs', 1, {});
  } finally {
    await first.stop();
  }
  const second = await startStack(options);
  try {
    expect(second.created).toBe(false);
    const { repository } = await openFromEnvironment(second.environment);
    await publishNow(second.hostUrl, 'docs');
    const snapshot = await waitForSnapshot(repository, 'docs', undefined, {});
    expect(await contentOf(repository, snapshot)).toEqual({ a: 'one' });
  } finally {
    await second.stop();
  }
});
