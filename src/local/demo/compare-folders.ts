/**
 * Compares a restored folder with what it should hold: names, types, bytes, modes, times and targets of links. What should
 * be there is a folder, with some paths replaced or taken away. Links have no mode of their own.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readlink } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import pMap from 'p-map';
import { listTree } from './local-tree.ts';

/** A file that was changed or added. */
export interface ExpectedFile {
  readonly content: Buffer;
  /** Permission bits. */
  readonly mode: number;
  readonly mtimeMs: number;
}

/** What a changed or added path should hold; null for a path that should not be there. */
export type Expected = ReadonlyMap<string, ExpectedFile | null>;

export interface CompareOptions {
  readonly changes?: Expected;
  /** Paths that are not compared, with all below them. */
  readonly without?: ReadonlySet<string>;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (entries: number) => void;
}

export interface Comparison {
  /** Files, folders and links that should be there. */
  readonly entries: number;
  /** One sentence for each difference, in order of path. */
  readonly differences: readonly string[];
}

/** Node sets times in steps of some hundred nanoseconds. */
const MTIME_NANOSECONDS_OFF_MAX = 1000n;
const FILES_IN_FLIGHT = 16;
const READ_BYTES = 1024 * 1024;
const TYPE_BITS = 0o170000n;
const PERMISSION_BITS = 0o7777n;

export async function compareFolders(
  original: string,
  restored: string,
  { changes = new Map(), without, signal, onProgress }: CompareOptions = {},
): Promise<Comparison> {
  const wanted = new Set((await listTree(original, without)).map(({ name }) => name));
  for (const [name, change] of changes) {
    if (change === null) wanted.delete(name);
    else wanted.add(name);
  }
  const there = new Set((await listTree(restored, without)).map(({ name }) => name));
  const differences = [...there].filter((name) => !wanted.has(name)).map((name) => `${name}: it should not be there`);
  let compared = 0;
  await pMap(
    wanted,
    async (name) => {
      signal?.throwIfAborted();
      const change = changes.get(name);
      const copy = path.join(restored, name);
      const problem = !there.has(name)
        ? 'it is missing'
        : change
          ? await differenceFrom(change, copy)
          : await differenceBetween(path.join(original, name), copy);
      if (problem !== undefined) differences.push(`${name}: ${problem}`);
      compared += 1;
      onProgress?.(compared);
    },
    { concurrency: FILES_IN_FLIGHT },
  );
  return { entries: wanted.size, differences: differences.sort() };
}

async function differenceBetween(original: string, restored: string): Promise<string | undefined> {
  const [a, b] = await Promise.all([lstat(original, { bigint: true }), lstat(restored, { bigint: true })]);
  if ((a.mode & TYPE_BITS) !== (b.mode & TYPE_BITS)) return 'another type';
  const off = a.mtimeNs > b.mtimeNs ? a.mtimeNs - b.mtimeNs : b.mtimeNs - a.mtimeNs;
  if (off >= MTIME_NANOSECONDS_OFF_MAX) return `mtime ${timeOf(b.mtimeNs)} instead of ${timeOf(a.mtimeNs)}`;
  if (a.isSymbolicLink()) {
    const [wanted, found] = await Promise.all([readlink(original), readlink(restored)]);
    return wanted === found ? undefined : `a link to ${found} instead of ${wanted}`;
  }
  if (a.mode !== b.mode) return `mode ${modeOf(b.mode)} instead of ${modeOf(a.mode)}`;
  if (!a.isFile()) return undefined;
  if (a.size !== b.size) return `${b.size} bytes instead of ${a.size}`;
  return (await digestOf(original)) === (await digestOf(restored)) ? undefined : 'other content';
}

async function differenceFrom(wanted: ExpectedFile, restored: string): Promise<string | undefined> {
  const found = await lstat(restored, { bigint: true });
  if (!found.isFile()) return 'another type';
  const mode = found.mode & PERMISSION_BITS;
  if (mode !== BigInt(wanted.mode)) return `mode ${modeOf(mode)} instead of ${modeOf(BigInt(wanted.mode))}`;
  const wantedNs = BigInt(wanted.mtimeMs) * 1_000_000n;
  const off = found.mtimeNs > wantedNs ? found.mtimeNs - wantedNs : wantedNs - found.mtimeNs;
  if (off >= MTIME_NANOSECONDS_OFF_MAX) return `mtime ${timeOf(found.mtimeNs)} instead of ${timeOf(wantedNs)}`;
  const digest = createHash('sha256').update(wanted.content).digest('hex');
  return digest === (await digestOf(restored)) ? undefined : 'other content';
}

function modeOf(mode: bigint): string {
  return (mode & PERMISSION_BITS).toString(8).padStart(4, '0');
}

function timeOf(nanoseconds: bigint): string {
  return `${nanoseconds / 1_000_000_000n}.${String(nanoseconds % 1_000_000_000n).padStart(9, '0')}`;
}

async function digestOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file, { highWaterMark: READ_BYTES }), hash);
  return hash.digest('hex');
}
