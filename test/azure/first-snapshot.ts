/**
 * What a new installation must show, from the outside: `node test/azure/first-snapshot.ts` after `azd up`, as the operator.
 * It uploads three files, waits for the snapshot that the functions make of them, restores and compares it; and it tries what
 * must be refused. Each line says what was expected; it ends with 0 when all of it came.
 *
 * It takes what it needs from the environment (`azd env get-values`): FIRN_STORAGE__blobServiceUri, FIRN_REPOSITORY,
 * FIRN_PASSPHRASE, FUNCTION_APP_URL. With FIRN_STORAGE, as `npm start` prints it, it runs against the local stack, and
 * leaves out what only Azure can refuse.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { uploadFolder } from '../../src/archive/upload-folder.ts';
import { compareFolders } from '../../src/local/demo/compare-folders.ts';
import { waitForSnapshot, waitUntilRecorded } from '../../src/local/demo/watch.ts';
import { openFromEnvironment } from '../../src/open-from-environment.ts';
import { restoreTree } from '../../src/restore/restore-tree.ts';

let failures = 0;

async function expectThat(expected: string, look: () => Promise<boolean>): Promise<void> {
  let seen: string;
  try {
    seen = (await look()) ? 'ok' : 'NOT SO';
  } catch (error) {
    seen = `FAILED: ${error instanceof Error ? error.message : String(error)}`;
  }
  if (seen !== 'ok') failures += 1;
  process.stdout.write(`${seen.padEnd(8)} ${expected}\n`);
}

async function refused(url: string, init: RequestInit, statuses: readonly number[]): Promise<boolean> {
  const { status } = await fetch(url, init);
  return statuses.includes(status);
}

const folder = await mkdtemp(path.join(tmpdir(), 'firn-azure-'));
const [from, to] = [path.join(folder, 'from'), path.join(folder, 'to')];
try {
  await mkdir(path.join(from, 'folder'), { recursive: true });
  await writeFile(path.join(from, 'a'), 'one');
  await writeFile(path.join(from, 'empty'), '');
  await writeFile(path.join(from, 'folder', 'b'), Buffer.alloc(9 * 1024 ** 2, 'two '));

  const { repository, settings, containers } = await openFromEnvironment(process.env);
  const source = `check-${Date.now()}`;
  let uploads = 0;
  await expectThat('three files are uploaded to the inbox, with their folders', async () => {
    const { files, folders } = await uploadFolder(repository.inbox, source, from, { uploadsInFlightMax: 4 });
    uploads = files + folders;
    return files === 3;
  });
  await expectThat('their events reach the functions, which record them', async () => {
    await waitUntilRecorded(repository, source, uploads, {});
    return uploads > 0;
  });
  await expectThat('the functions make a snapshot of them, without being asked', async () => {
    const { totals } = await waitForSnapshot(repository, source, undefined, {});
    return totals.files === 3;
  });
  await expectThat('it is restored, every byte, mode and time', async () => {
    const snapshot = (await repository.snapshots.readHead(source))?.snapshot;
    if (snapshot === undefined) return false;
    await restoreTree(repository, snapshot, to, {});
    const { differences } = await compareFolders(from, to);
    return differences.length === 0;
  });

  const isAzure = containers.url.startsWith('https://');
  if (isAzure) {
    await expectThat('nobody lists the data container without signing in', () =>
      refused(`${containers.url}${settings.repository}-data?restype=container&comp=list`, {}, [401, 403, 404, 409]),
    );
    const app = process.env.FUNCTION_APP_URL ?? '';
    for (const route of ['repository', 'repair-index', `publish/${source}`]) {
      await expectThat(`POST /api/${route} without a key is refused`, () =>
        refused(`${app}/api/${route}`, { method: 'POST' }, [401]),
      );
    }
  }
} finally {
  await rm(folder, { recursive: true, force: true });
}
process.stdout.write(failures === 0 ? 'All as expected.\n' : `${failures} not as expected.\n`);
process.exitCode = failures === 0 ? 0 : 1;
