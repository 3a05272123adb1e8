import { spawn } from 'node:child_process';
import { createHash, randomFillSync } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Azurite } from '../../src/local/azurite.ts';
import { appRoot } from '../../src/local/stack.ts';
import { startAzurite } from '../kit/azurite.ts';

const FILE_BYTES = 1024 ** 3;
/** The limit of the requirement: 400 MB. */
const PEAK_BYTES_MAX = 400e6;

let azurite: Azurite;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'firn-large-'));
  azurite = await startAzurite({ dataFolder: path.join(folder, 'azurite') });
});
afterAll(async () => {
  await azurite?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Runs the command line in a process of its own. @returns its last line of JSON, and its peak resident memory. */
async function firn(...args: string[]): Promise<{ result: Record<string, unknown>; peakBytes: number }> {
  const peakFile = path.join(folder, 'peak');
  const preload = path.join(appRoot, 'test', 'kit', 'report-peak-memory.ts');
  const child = spawn(
    process.execPath,
    ['--import', preload, path.join(appRoot, 'src', 'cli', 'firn.js'), ...args, '--json'],
    {
      env: {
        ...process.env,
        FIRN_STORAGE: azurite.connectionString,
        FIRN_PASSPHRASE: 'large',
        FIRN_TEST_PEAK_MEMORY_FILE: peakFile,
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const lines = Buffer.concat(await Array.fromAsync(child.stdout))
    .toString()
    .trim()
    .split('\n');
  expect(await ended).toBe(0);
  return { result: JSON.parse(lines.at(-1) ?? ''), peakBytes: Number(await readFile(peakFile, 'utf8')) };
}

async function digestOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: 1024 * 1024 }), hash);
  return hash.digest('hex');
}

function* noise(bytes: number): Generator<Buffer> {
  for (let done = 0; done < bytes; done += 1024 * 1024) yield randomFillSync(Buffer.allocUnsafe(1024 * 1024));
}

test('a file of 1 GiB is archived and restored, each with a peak memory below 400 MB', async () => {
  const source = path.join(folder, 'source');
  await mkdir(source);
  await pipeline(Readable.from(noise(FILE_BYTES)), createWriteStream(path.join(source, 'large')));
  await firn('init');
  const archived = await firn('archive', source, '--source', 'large');
  expect(archived.result).toMatchObject({ files: 1, bytes: FILE_BYTES, unchanged: false });
  const target = path.join(folder, 'target');
  const restored = await firn('restore', 'latest', target);
  expect(restored.result).toMatchObject({ files: 1, bytes: FILE_BYTES });
  expect(await digestOf(path.join(target, 'large'))).toBe(await digestOf(path.join(source, 'large')));
  process.stdout.write(`peak memory: archive ${archived.peakBytes}, restore ${restored.peakBytes} bytes\n`);
  expect(archived.peakBytes).toBeLessThan(PEAK_BYTES_MAX);
  expect(restored.peakBytes).toBeLessThan(PEAK_BYTES_MAX);
});
