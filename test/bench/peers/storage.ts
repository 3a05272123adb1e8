/**
 * An Azurite for one run, on disk, with its log of requests. It is met on port 10000, because restic's backend knows the
 * account of the emulator only there; where it is to be far away, through a relay.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { BlobServiceClient } from '@azure/storage-blob';
import { AZURITE_BLOB_PORT } from '../../../src/local/azurite.ts';
import { cpuSecondsOf } from './measured-process.ts';

export const CONNECTION =
  `DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;` +
  `AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;` +
  `BlobEndpoint=http://127.0.0.1:${AZURITE_BLOB_PORT}/devstoreaccount1;` +
  `QueueEndpoint=http://127.0.0.1:10001/devstoreaccount1;`;

const READY_MS_MAX = 30_000;
/** Of an Azurite that has a relay before it. */
const FAR_PORT = AZURITE_BLOB_PORT + 1_000;

export interface Storage {
  /** Bytes of all blobs of all containers. */
  storedBytes(): Promise<number>;
  /** Requests since the last time it was asked. */
  requests(): Promise<number>;
  /** CPU of Azurite since it began. */
  cpuSeconds(): number;
  stop(): Promise<void>;
}

/** @param eachWayMs how long what is sent is on its way; 0 for no relay. */
export async function startStorage(folder: string, eachWayMs: number): Promise<Storage> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const logFile = path.join(folder, 'requests.log');
  const log = await open(logFile, 'w');
  const child = fork(
    createRequire(import.meta.url).resolve('azurite/dist/src/azurite.js'),
    [
      ...['--location', path.join(folder, 'data'), '--blobPort', String(eachWayMs > 0 ? FAR_PORT : AZURITE_BLOB_PORT)],
      ...['--tablePort', '0', '--disableTelemetry', '--skipApiVersionCheck'],
    ],
    { execArgv: [], stdio: ['ignore', log.fd, log.fd, 'ipc'] },
  );
  await log.close();
  await ready(child, logFile);
  const relay = eachWayMs > 0 ? await startRelay(eachWayMs) : undefined;
  let counted = 0;
  return {
    async storedBytes() {
      let bytes = 0;
      const service = BlobServiceClient.fromConnectionString(CONNECTION);
      for await (const { name } of service.listContainers()) {
        for await (const blob of service.getContainerClient(name).listBlobsFlat()) {
          bytes += blob.properties.contentLength ?? 0;
        }
      }
      return bytes;
    },
    async requests() {
      const before = counted;
      counted = (await readFile(logFile, 'latin1')).split(' HTTP/1.1" ').length - 1;
      return counted - before;
    },
    cpuSeconds: () => cpuSecondsOf(child.pid),
    async stop() {
      for (const each of [child, relay]) {
        each?.kill('SIGKILL');
        if (each?.exitCode === null && each.signalCode === null) await once(each, 'exit');
      }
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function startRelay(eachWayMs: number): Promise<ChildProcess> {
  const program = fileURLToPath(new URL('relay.ts', import.meta.url));
  const relay = fork(program, [AZURITE_BLOB_PORT, FAR_PORT, eachWayMs].map(String));
  await once(relay, 'message');
  return relay;
}

async function ready(child: ChildProcess, logFile: string): Promise<void> {
  const end = performance.now() + READY_MS_MAX;
  while (!/Blob service is successfully listening/.test(await readFile(logFile, 'utf8'))) {
    if (child.exitCode !== null || performance.now() > end) throw new Error(await readFile(logFile, 'utf8'));
    await delay(20);
  }
}
