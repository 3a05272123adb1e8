/**
 * Compares a restored folder with what it should hold: names, types, bytes, modes, times and targets of links. What should
 * be there is a folder, with some paths replaced or taken away.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';

/** What a changed or added path should hold; null for a path that should not be there. */
export type Expected = ReadonlyMap<string, { content: Buffer; mode: number; mtimeMs: number } | null>;

export interface Comparison {
  readonly files: number;
  readonly bytes: number;
  /** One sentence for each difference. */
  readonly differences: readonly string[];
}

/** Times are compared in microseconds: finer ones cannot be set. */
const NANOSECONDS_PER_MICROSECOND = 1000n;

export async function compareFolders(
  original: string,
  restored: string,
  changes: Expected = new Map(),
  onFile: () => void = () => {},
): Promise<Comparison> {
  const differences: string[] = [];
  let files = 0;
  let bytes = 0;
  const left = await pathsBelow(original);
  const right = new Set(await pathsBelow(restored));
  const wanted = new Set(left);
  for (const [name, change] of changes) {
    if (change === null) wanted.delete(name);
    else wanted.add(name);
  }
  for (const name of right) if (!wanted.has(name)) differences.push(`${name} should not be there`);
  for (const name of wanted) {
    if (!right.has(name)) {
      differences.push(`${name} is missing`);
      continue;
    }
    const change = changes.get(name);
    const there = path.join(restored, name);
    const problem = change
      ? await compareWithContent(there, change)
      : await compareEntries(path.join(original, name), there);
    if (problem) differences.push(`${name}: ${problem}`);
    files += 1;
    bytes += Number((await lstat(there)).size);
    onFile();
  }
  return { files, bytes, differences };
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
  const microseconds = (time: bigint) => time / NANOSECONDS_PER_MICROSECOND;
  if (microseconds(a.mtimeNs) !== microseconds(b.mtimeNs)) return `mtime ${b.mtimeNs} instead of ${a.mtimeNs}`;
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
