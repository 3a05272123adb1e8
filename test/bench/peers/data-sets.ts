/**
 * The folders that are archived: noise, logs, and many small files. Made once and kept, since making them takes longer
 * than archiving them; the same seed gives the same bytes everywhere, but for the small files, which are those of
 * Firn's own `node_modules`.
 */
import { createHash } from 'node:crypto';
import { createWriteStream, existsSync } from 'node:fs';
import { copyFile, mkdir, opendir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { chooserFrom } from '../../kit/random.ts';

const MiB = 1024 * 1024;

export type SetName = 'noise' | 'logs' | 'small files';
export const setNames: readonly SetName[] = ['noise', 'logs', 'small files'];

export interface DataSet {
  readonly name: SetName;
  readonly folder: string;
  readonly files: number;
  readonly bytes: number;
}

export interface Sizes {
  readonly noiseBytes: number;
  readonly logBytes: number;
  readonly smallFiles: number;
}

export const fullSizes: Sizes = { noiseBytes: 384 * MiB, logBytes: 336 * MiB, smallFiles: 32_600 };

export async function makeDataSet(name: SetName, sizes: Sizes, under: string, nodeModules: string): Promise<DataSet> {
  const size = { noise: sizes.noiseBytes, logs: sizes.logBytes, 'small files': sizes.smallFiles }[name];
  const folder = path.join(under, `${name.replace(' ', '-')}-${size}`);
  if (!existsSync(folder)) {
    const making = `${folder}.making`;
    await rm(making, { recursive: true, force: true });
    await mkdir(making, { recursive: true });
    if (name === 'noise') await writeFileOf(path.join(making, 'noise.bin'), noise(size));
    else if (name === 'logs') await makeLogs(making, size);
    else await copyFiles(nodeModules, making, size);
    await rename(making, folder);
  }
  return { name, folder, ...(await countFiles(folder)) };
}

async function writeFileOf(file: string, pieces: Generator<Buffer>): Promise<void> {
  await pipeline(Readable.from(pieces), createWriteStream(file));
}

function* noise(bytes: number): Generator<Buffer> {
  for (let at = 0, n = 0; at < bytes; n += 1) {
    const piece = createHash('shake256', { outputLength: Math.min(MiB, bytes - at) })
      .update(`noise ${n}`)
      .digest();
    at += piece.length;
    yield piece;
  }
}

const LOG_FILES = 4;

async function makeLogs(folder: string, bytes: number): Promise<void> {
  for (let n = 0; n < LOG_FILES; n += 1) {
    await writeFileOf(path.join(folder, `server-${n}.log`), logLines(Math.floor(bytes / LOG_FILES), n));
  }
}

/** As a web server writes them: times that go on, some addresses and paths often, numbers and ids that never repeat. */
function* logLines(bytes: number, seed: number): Generator<Buffer> {
  const choose = chooserFrom(seed);
  const paths = Array.from({ length: 400 }, (_, n) => `/api/v${1 + (n % 3)}/items/${choose(1e6)}/view-${n}`);
  const agents = ['Mozilla/5.0 (X11; Linux x86_64)', 'curl/8.5.0', 'kube-probe/1.29', 'Mozilla/5.0 (Macintosh)'];
  let time = Date.UTC(2026, 0, 1);
  for (let left = bytes; left > 0; ) {
    let lines = '';
    while (lines.length < MiB) {
      time += choose(40);
      const address = `10.${choose(4)}.${choose(256)}.${choose(256)}`;
      const request = `"GET ${paths[choose(1 + choose(paths.length))]} HTTP/1.1" ${choose(20) === 0 ? 404 : 200}`;
      const id = choose(2 ** 31).toString(16) + choose(2 ** 31).toString(16);
      lines += `${new Date(time).toISOString()} ${address} ${request} ${choose(40_000)} "${agents[choose(4)]}" ${id}\n`;
    }
    const piece = Buffer.from(lines).subarray(0, left);
    left -= piece.length;
    yield piece;
  }
}

/** The first files in order of path, links left out. */
async function copyFiles(from: string, to: string, count: number): Promise<void> {
  let left = count;
  async function copyFolder(at: string): Promise<void> {
    const entries = (await Array.fromAsync(await opendir(path.join(from, at)))).toSorted((a, b) =>
      a.name < b.name ? -1 : 1,
    );
    for (const entry of entries) {
      if (left === 0) return;
      const inner = path.join(at, entry.name);
      if (entry.isDirectory()) await copyFolder(inner);
      else if (entry.isFile()) {
        // No empty folders: a container cannot have them.
        await mkdir(path.join(to, at), { recursive: true });
        await copyFile(path.join(from, inner), path.join(to, inner));
        left -= 1;
      }
    }
  }
  await copyFolder('');
}

async function countFiles(folder: string): Promise<{ files: number; bytes: number }> {
  let files = 0;
  let bytes = 0;
  for await (const entry of await opendir(folder, { recursive: true })) {
    if (!entry.isFile()) continue;
    files += 1;
    bytes += (await stat(path.join(entry.parentPath, entry.name))).size;
  }
  return { files, bytes };
}

/** Puts a small file into the folder, and takes it out again after the work. */
export async function withOneFileMore<T>({ folder }: DataSet, work: () => Promise<T>): Promise<T> {
  const file = path.join(folder, 'one-more');
  await writeFile(file, 'one more');
  try {
    return await work();
  } finally {
    await rm(file);
  }
}

/** Puts a byte into so many places of the file of noise, evenly spread, and takes them out again after the work. */
export async function withBytesInserted<T>({ folder }: DataSet, places: number, work: () => Promise<T>): Promise<T> {
  const file = path.join(folder, 'noise.bin');
  const before = await readFile(file);
  const pieces: Buffer[] = [];
  for (let place = 0, from = 0; place < places; place += 1) {
    const to = Math.floor(((place + 0.5) / places) * before.length);
    pieces.push(before.subarray(from, to), Buffer.from('!'));
    if (place === places - 1) pieces.push(before.subarray(to));
    from = to;
  }
  await writeFile(file, Buffer.concat(pieces));
  try {
    return await work();
  } finally {
    await writeFile(file, before);
  }
}
