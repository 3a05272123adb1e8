/**
 * Compares a restored folder with what it should hold: names, types, bytes, modes, times and targets of links. What should
 * be there is a folder, with some paths replaced or taken away.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import pMap from 'p-map';

/** What a changed or added path should hold; null for a path that should not be there. */
export type Expected = ReadonlyMap<string, { content: Buffer; mode: number; mtimeMs: number } | null>;

export interface Comparison {
  /** Files, folders and links that should be there. */
  readonly entries: number;
  /** One sentence for each difference. */
  readonly differences: readonly string[];
}

/** Node sets times in steps of some hundred nanoseconds. */
const MTIME_NANOSECONDS_OFF_MAX = 1000n;
const FILES_IN_FLIGHT = 16;

export async function compareFolders(
  original: string,
  restored: string,
  changes: Expected = new Map(),
): Promise<Comparison> {
  const differences: string[] = [];
  const left = await pathsBelow(original);
  const right = new Set(await pathsBelow(restored));
  const wanted = new Set(left);
  for (const [name, change] of changes) {
    if (change === null) wanted.delete(name);
    else wanted.add(name);
  }
  for (const name of right) if (!wanted.has(name)) differences.push(`${name} should not be there`);
  await pMap(
    wanted,
    async (name) => {
      if (!right.has(name)) {
        differences.push(`${name} is missing`);
        return;
      }
      const change = changes.get(name);
      const there = path.join(restored, name);
      const problem = change
        ? await compareWithContent(there, change)
        : await compareEntries(path.join(original, name), there);
      if (problem) differences.push(`${name}: ${problem}`);
    },
    { concurrency: FILES_IN_FLIGHT },
  );
  return { entries: wanted.size, differences: differences.sort() };
}

async function pathsBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)));
}

async function compareEntries(original: string, restored: string): Promise<string | undefined> {
  const [a, b] = await Promise.all([lstat(original, { bigint: true }), lstat(restored, { bigint: true })]);
  if ((a.mode & 0o170000n) !== (b.mode & 0o170000n)) return 'another type';
  if (a.isSymbolicLink())
    return (await readlink(original)) === (await readlink(restored)) ? undefined : 'another target';
  if (a.mode !== b.mode) return `mode ${b.mode.toString(8)} instead of ${a.mode.toString(8)}`;
  const off = a.mtimeNs > b.mtimeNs ? a.mtimeNs - b.mtimeNs : b.mtimeNs - a.mtimeNs;
  if (off >= MTIME_NANOSECONDS_OFF_MAX) return `mtime ${b.mtimeNs} instead of ${a.mtimeNs}`;
  if (!a.isFile()) return undefined;
  if (a.size !== b.size) return `${b.size} bytes instead of ${a.size}`;
  return (await digestOf(original)) === (await digestOf(restored)) ? undefined : 'other content';
}

async function compareWithContent(
  restored: string,
  wanted: { content: Buffer; mode: number; mtimeMs: number },
): Promise<string | undefined> {
  const stats = await lstat(restored);
  if ((stats.mode & 0o7777) !== wanted.mode) return 'another mode';
  if (Math.round(stats.mtimeMs) !== wanted.mtimeMs) return 'another mtime';
  const digest = createHash('sha256').update(wanted.content).digest('hex');
  return digest === (await digestOf(restored)) ? undefined : 'other content';
}

async function digestOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: 1024 * 1024 }), hash);
  return hash.digest('hex');
}
