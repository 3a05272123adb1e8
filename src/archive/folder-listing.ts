/**
 * Names and attributes of all that lies in a folder: depth first, in the order of a filetree.
 *
 * They are asked for on this thread, one after another: a trip through the thread pool takes ten times as long. It begins at
 * once and goes on in turns with everything else, so that it costs no time of its own while something is waited for: a
 * passphrase that is turned into a key, or the filetree that all this is compared with. Links are not followed. In memory are
 * the names of the folders on the way, and the entries that are ahead.
 */
import { isUtf8 } from 'node:buffer';
import { type BigIntStats, lstatSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { problemOf } from '../errors.ts';
import { compareNames, PATH_DEPTH_MAX, pathProblem } from '../filetree/entry.ts';
import { isAbsent } from '../storage/local-files.ts';
import { type LocalAttributes, localAttributesOf } from './local-attributes.ts';

/** What is told of a file, link or folder. */
export interface ListedAttributes extends LocalAttributes {
  readonly type: 'file' | 'link' | 'folder';
  /** Of a link those of its target. */
  readonly bytes: number;
  /** The disk that it is on. */
  readonly device: number;
  /** When the file system last changed content, attributes or names of it; nanoseconds since 1970. No program sets it. */
  readonly ctime: bigint;
}

export type Listed =
  /** What is in a folder follows, up to its end. */
  | { readonly is: 'there'; readonly name: string; readonly attributes: ListedAttributes }
  /** It was there when the folder was listed. */
  | { readonly is: 'gone'; readonly name: string }
  /** It cannot be archived. */
  | { readonly is: 'refused'; readonly name: string; readonly code: string; readonly problem: string }
  /** It has no name that a filetree could have; where it would stand among the others is not said. */
  | { readonly is: 'nameless'; readonly name: string; readonly problem: string }
  /** The end of a folder; with a problem where its names could not be read. */
  | { readonly is: 'end'; readonly problem?: string };

/** Looked at ahead in all; some eight megabytes. */
const AHEAD_MAX = 65_536;
/** After so long ahead the process turns to what waits. */
const TURN_MS_MAX = 5;
/** What stands in a string for bytes that are not UTF-8; a name may also have it by itself. */
const REPLACEMENT = '\u{fffd}';

export class FolderListing {
  readonly folder: string;
  /** Before anything was looked at. */
  readonly begun: Date;
  readonly #walk: Iterator<Listed, undefined>;
  #ahead: (Listed | undefined)[] = [];
  #taken = 0;
  #goesAhead = true;

  /** Begins to look ahead. */
  constructor(folder: string, begun: Date) {
    this.folder = folder;
    this.begun = begun;
    this.#walk = walk(path.join(folder, path.sep));
    void this.#lookAhead();
  }

  /** The next entry, or end of a folder; undefined behind the end of the whole. */
  next(): Listed | undefined {
    const listed = this.#ahead[this.#taken];
    if (listed === undefined) return this.#walk.next().value;
    this.#ahead[this.#taken] = undefined;
    this.#taken += 1;
    return listed;
  }

  /** Looks at nothing more. */
  [Symbol.dispose](): void {
    this.#goesAhead = false;
  }

  async #lookAhead(): Promise<void> {
    await nextTurn();
    while (this.#goesAhead) {
      const until = performance.now() + TURN_MS_MAX;
      do {
        const { done, value } = this.#walk.next();
        if (done) return;
        this.#ahead.push(value);
        if (this.#ahead.length === AHEAD_MAX) return;
      } while (performance.now() < until);
      await nextTurn();
    }
  }
}

/** @param top ready for a path to be put behind it: `path.join` for every file is a tenth of a scan. */
function* walk(top: string): Generator<Listed, undefined> {
  const open = [openFolder(top, '')];
  for (let folder = open.at(-1); folder !== undefined; folder = open.at(-1)) {
    const name = folder.names[folder.next];
    if (name === undefined) {
      open.pop();
      yield folder.end;
      continue;
    }
    folder.next += 1;
    const listed = typeof name === 'string' ? look(top, folder.at, name, open.length) : nameless(name);
    yield listed;
    if (listed.is === 'there' && listed.attributes.type === 'folder') {
      open.push(openFolder(top, `${folder.at}${listed.name}/`));
    }
  }
}

interface OpenFolder {
  /** Its path, empty for the top, else ending with «/». */
  readonly at: string;
  /** Those that are not valid UTF-8 as bytes. */
  readonly names: readonly (string | Buffer)[];
  readonly end: Listed;
  next: number;
}

function openFolder(top: string, at: string): OpenFolder {
  try {
    return { at, names: namesIn(top + at), end: { is: 'end' }, next: 0 };
  } catch (error) {
    return { at, names: [], end: { is: 'end', problem: problemOf(error) }, next: 0 };
  }
}

/** Sorted, those that are not valid UTF-8 last. Strings are read in less time than buffers, but have one sign for all that is not. */
function namesIn(folder: string): (string | Buffer)[] {
  const names = readdirSync(folder);
  if (!names.some((name) => name.includes(REPLACEMENT))) return names.sort(compareNames);
  const raw = readdirSync(folder, { encoding: 'buffer' });
  const [valid, others] = [raw.filter(isUtf8), raw.filter((name) => !isUtf8(name))];
  return [...valid.map(String).sort(compareNames), ...others.sort(Buffer.compare)];
}

function nameless(raw: Buffer): Listed {
  return { is: 'nameless', name: raw.toString(), problem: 'its name is not valid UTF-8' };
}

/** @param depth of the names of its path. */
function look(top: string, at: string, name: string, depth: number): Listed {
  // A file system gives no name that has another problem.
  const problem = depth > PATH_DEPTH_MAX ? pathProblem(at + name) : undefined;
  if (problem) return { is: 'refused', name, code: 'FIRN_PATH_UNUSABLE', problem };
  try {
    return attributesListed(name, lstatSync(top + at + name, { bigint: true }));
  } catch (error) {
    if (isAbsent(error)) return { is: 'gone', name };
    return { is: 'refused', name, code: 'FIRN_FILE_UNREADABLE', problem: problemOf(error) };
  }
}

function attributesListed(name: string, stats: BigIntStats): Listed {
  const type = typeOf(stats);
  if (type !== undefined) {
    const { size, dev, ctimeNs: ctime } = stats;
    const attributes = { type, bytes: Number(size), device: Number(dev), ctime, ...localAttributesOf(stats) };
    return { is: 'there', name, attributes };
  }
  const problem = `it is ${specialKind(stats)}, which has no content to archive`;
  return { is: 'refused', name, code: 'FIRN_FILE_SPECIAL', problem };
}

function typeOf(stats: BigIntStats): ListedAttributes['type'] | undefined {
  if (stats.isFile()) return 'file';
  if (stats.isDirectory()) return 'folder';
  return stats.isSymbolicLink() ? 'link' : undefined;
}

function specialKind(stats: BigIntStats): string {
  if (stats.isFIFO()) return 'a pipe';
  if (stats.isSocket()) return 'a socket';
  return 'a device';
}
