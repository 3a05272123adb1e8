/**
 * A folder of files that is held to a number of bytes; what was used least recently goes first.
 *
 * The folder itself is the only account of it. A file's name ends in its size, so that one listing tells how full the
 * folder is, and its time of modification is when it was used last. Processes can share it without knowing of each other:
 * who adds a file lists the folder afterwards, so whoever comes last sees everything, and when all have ended the folder
 * is within its limit. Meanwhile it is over it by the files that are just being written, and no more.
 *
 * Files may vanish at any time. Names of another form are somebody else's: neither counted nor touched.
 */
import { open, readdir, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import pMap from 'p-map';
import { isAbsent, writeBytes } from '../storage/local-files.ts';

/** Made room for at a time, as a part of the limit: the times of all files are asked for once for many that are added. */
const ROOM_PART = 1 / 8;
const FILES_AT_ONCE = 16;

interface KeptFile {
  readonly name: string;
  readonly bytes: number;
}

export interface UsedFile extends KeptFile {
  /** When it was used last, in milliseconds since 1970. */
  readonly usedMs: number;
}

/** The name of a file of this size. */
export function sizedName(name: string, bytes: number): string {
  return `${name}.${bytes}`;
}

function parseSizedName(name: string): KeptFile | undefined {
  const bytes = /\.(\d{1,15})$/.exec(name)?.[1];
  return bytes === undefined ? undefined : { name, bytes: Number(bytes) };
}

/**
 * Which files are to go, so that an eighth of the limit is free: those that were used before all that stay. The one used
 * last stays as long as it fits at all. Pure.
 */
export function chooseEvicted(files: readonly UsedFile[], bytesMax: number): readonly UsedFile[] {
  const latestFirst = files.toSorted((a, b) => b.usedMs - a.usedMs);
  const target = bytesMax * (1 - ROOM_PART);
  let kept = 0;
  const firstOut = latestFirst.findIndex(({ bytes }, at) => {
    kept += bytes;
    return kept > (at === 0 ? bytesMax : target);
  });
  return firstOut < 0 ? [] : latestFirst.slice(firstOut);
}

/** Reads a file and marks it as used; undefined when it is not there. */
export async function readUsed(file: string, nowMs: number): Promise<Buffer | undefined> {
  try {
    await using handle = await open(file, 'r');
    const bytes = await handle.readFile();
    await handle.utimes(nowMs / 1000, nowMs / 1000);
    return bytes;
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

/** Writes a file whose name is of `sizedName`. It is whole or not there; `holdFolder` has to follow. */
export async function writeUsed(file: string, bytes: Uint8Array, nowMs: number): Promise<void> {
  await writeBytes(file, bytes, { sync: 'nothing', mtimeSeconds: nowMs / 1000 });
}

/** Removes the files that are stale, and so many others that the rest is within the limit. */
export async function holdFolder(
  folder: string,
  bytesMax: number,
  isStale: (name: string) => boolean = () => false,
): Promise<void> {
  const names = await readdir(folder).catch((error: unknown) => {
    if (isAbsent(error)) return [];
    throw error;
  });
  const files: KeptFile[] = [];
  for (const name of names) {
    const file = parseSizedName(name);
    if (file === undefined) continue;
    if (isStale(name)) await rm(path.join(folder, name), { force: true });
    else files.push(file);
  }
  if (files.reduce((total, { bytes }) => total + bytes, 0) <= bytesMax) return;
  const used = await pMap(files, (file) => withUse(folder, file), { concurrency: FILES_AT_ONCE });
  const evicted = chooseEvicted(
    used.filter((file) => file !== undefined),
    bytesMax,
  );
  for (const { name } of evicted) await rm(path.join(folder, name), { force: true });
}

/** Undefined when it vanished. */
async function withUse(folder: string, file: KeptFile): Promise<UsedFile | undefined> {
  try {
    const { mtimeMs } = await stat(path.join(folder, file.name));
    return { ...file, usedMs: mtimeMs };
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}
