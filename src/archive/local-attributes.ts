/** What a file system tells of a file, link or folder, and what a filetree keeps of it. Pure. */
import type { BigIntStats } from 'node:fs';
import type { EntryAttributes } from '../filetree/entry.ts';
import { nanosecondsOfTime, timeOfNanoseconds } from '../filetree/time.ts';

export interface LocalAttributes {
  /** Nanoseconds since 1970. */
  readonly mtime: bigint;
  /** Permission bits, 0 to 0o7777. */
  readonly mode: number;
}

export function localAttributesOf({ mtimeNs, mode }: BigIntStats): LocalAttributes {
  return { mtime: mtimeNs, mode: Number(mode) & 0o7777 };
}

export function storedAttributes({ mtime, mode }: LocalAttributes): EntryAttributes {
  return { mtime: timeOfNanoseconds(mtime), mode };
}

/** So far off may a time be that was restored: Node sets times in steps of some hundred nanoseconds. */
const MTIME_NANOSECONDS_OFF_MAX = 1000n;

function isSameTime(nanoseconds: bigint, time: string | undefined): boolean {
  if (time === undefined) return timeOfNanoseconds(nanoseconds) === undefined;
  const off = nanoseconds - nanosecondsOfTime(time);
  return -MTIME_NANOSECONDS_OFF_MAX < off && off < MTIME_NANOSECONDS_OFF_MAX;
}

/** Says whether a filetree has kept these. */
export function hasAttributes(local: LocalAttributes, { mtime, mode }: EntryAttributes): boolean {
  return local.mode === mode && isSameTime(local.mtime, mtime);
}
