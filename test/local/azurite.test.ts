import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { BlobServiceClient } from '@azure/storage-blob';
import { QueueServiceClient } from '@azure/storage-queue';
import { afterEach, expect, test, vi } from 'vitest';
import { startAzurite } from '../../src/local/azurite.ts';
import { type FolderLock, lockFolder, unlockFolder } from '../../src/local/folder-lock.ts';
import { isAlive } from './child-processes.ts';

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

test('blobs and queues answer as soon as it has started, and the process is gone when it has stopped', async () => {
  const azurite = await startAzurite({ blobPort: 0, queuePort: 0 });
  cleanups.push(() => azurite.stop());
  await BlobServiceClient.fromConnectionString(azurite.connectionString).createContainer('here');
  await QueueServiceClient.fromConnectionString(azurite.connectionString).createQueue('here');
  expect(isAlive(azurite.pid)).toBe(true);

  await azurite.stop();
  await azurite.stop();

  expect(isAlive(azurite.pid)).toBe(false);
  await azurite.exited;
});

test('what is stored in a folder is there after a restart', async () => {
  const dataFolder = await mkdtemp(join(tmpdir(), 'firn-azurite-'));
  cleanups.push(() => rm(dataFolder, { recursive: true, force: true }));
  {
    await using first = await startAzurite({ blobPort: 0, queuePort: 0, dataFolder });
    const container = BlobServiceClient.fromConnectionString(first.connectionString).getContainerClient('kept');
    await container.create();
    await container.getBlockBlobClient('blob').upload('still here', 10);
  }
  await using second = await startAzurite({ blobPort: 0, queuePort: 0, dataFolder });
  const container = BlobServiceClient.fromConnectionString(second.connectionString).getContainerClient('kept');
  expect((await container.getBlockBlobClient('blob').downloadToBuffer()).toString()).toBe('still here');
});

test('it waits for an earlier one that does not stay and still writes to the folder', async () => {
  const dataFolder = await mkdtemp(join(tmpdir(), 'firn-azurite-'));
  cleanups.push(() => rm(dataFolder, { recursive: true, force: true }));
  expect(lockFolder(dataFolder, 'lock', 0)).toBe(true);
  const starting = startAzurite({ blobPort: 0, queuePort: 0, dataFolder });
  await vi.waitUntil(() => !isFree(dataFolder, 'lock-stays'), { timeout: 60_000, interval: 20 });
  unlockFolder('lock');
  await using _ = await starting;
});

function isFree(folder: string, lock: FolderLock): boolean {
  const isLocked = lockFolder(folder, lock, 0);
  if (isLocked) unlockFolder(lock);
  return isLocked;
}

test.each(['blob', 'queue'] as const)(
  'a %s port that is in use is an error that names port and setting',
  async (service) => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    cleanups.push(async () => server.close());
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;

    const starting = startAzurite({ blobPort: 0, queuePort: 0, [`${service}Port`]: port });

    await expect(starting).rejects.toMatchObject({
      code: 'FIRN_PORT_IN_USE',
      details: { port, setting: `FIRN_LOCAL_${service.toUpperCase()}_PORT` },
    });
  },
);

test('it does not outlive a parent that is killed', async () => {
  const program = `
    import { startAzurite } from ${JSON.stringify(new URL('../../src/local/azurite.ts', import.meta.url).href)};
    const azurite = await startAzurite({ blobPort: 0, queuePort: 0 });
    console.log(azurite.pid);
  `;
  const parent = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  cleanups.push(async () => parent.kill('SIGKILL'));
  const [line] = await once(createInterface({ input: parent.stdout }), 'line');
  const pid = Number(line);
  expect(isAlive(pid)).toBe(true);

  parent.kill('SIGKILL');

  await vi.waitUntil(() => !isAlive(pid), { timeout: 60_000, interval: 20 });
});
