/**
 * The floor: files into a container by the SDK and back, 16 at a time, with nothing else done.
 *
 *     node plain-copy.ts up|down <folder>
 */
import { mkdir, opendir } from 'node:fs/promises';
import path from 'node:path';
import { BlobServiceClient, type ContainerClient } from '@azure/storage-blob';
import pMap from 'p-map';
import { CONNECTION } from './storage.ts';

const FILES_IN_FLIGHT = 16;
const options = { blockSize: 16 * 1024 * 1024, concurrency: 2 };

async function* filesIn(folder: string): AsyncGenerator<string> {
  for await (const entry of await opendir(folder, { recursive: true })) {
    if (entry.isFile()) yield path.relative(folder, path.join(entry.parentPath, entry.name));
  }
}

async function upload(container: ContainerClient, folder: string): Promise<void> {
  await container.createIfNotExists();
  const send = async (name: string) =>
    void (await container.getBlockBlobClient(name).uploadFile(path.join(folder, name), options));
  await pMap(filesIn(folder), send, { concurrency: FILES_IN_FLIGHT });
}

async function download(container: ContainerClient, folder: string): Promise<void> {
  const fetch = async ({ name }: { name: string }) => {
    const file = path.join(folder, name);
    await mkdir(path.dirname(file), { recursive: true });
    await container.getBlobClient(name).downloadToFile(file);
  };
  await pMap(container.listBlobsFlat(), fetch, { concurrency: FILES_IN_FLIGHT });
}

const [way, folder] = process.argv.slice(2);
const container = BlobServiceClient.fromConnectionString(CONNECTION).getContainerClient('plain');
if (way === 'up' && folder) await upload(container, folder);
else if (way === 'down' && folder) await download(container, folder);
else throw new Error('node plain-copy.ts up|down <folder>');
