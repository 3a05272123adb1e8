/**
 * Local files that appear whole or not at all: written under a temporary name in the same folder, synced, checked,
 * renamed, and the folder synced. A reader sees the old content or the new, also after a crash; writers of one name at
 * once do not mix, and the last rename wins.
 *
 * The temporary name is random and owes nothing to the final one, which may itself be as long as the system takes. It is
 * removed on failure; what a crash leaves behind is removed by `sweepTemporary`. Folders are not made here. Errors are
 * those of the file system, with their codes; callers know what the file was for and say so.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, link, lstat, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { abortablePieces } from './abortable.ts';

const PREFIX = '.firn-tmp-';
const temporaryName = new RegExp(`^${PREFIX.replaceAll('.', '\\.')}[0-9a-f]{16}$`);

/** A file system without hard links answers with one of these. */
const noLinkCodes = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EXDEV']);

export interface LocalWriteOptions {
  /** False: a file that is there stays, and the write fails with EEXIST. True where undefined. */
  readonly overwrite?: boolean;
  /** Permission bits, set exactly; where undefined, as the system's mask leaves them. */
  readonly mode?: number | undefined;
  /** Time of modification in seconds since 1970, in the form that `utimes` takes. */
  readonly mtimeSeconds?: number | string | undefined;
  /**
   * What must be on the disk before the write resolves. «file»: the caller syncs the folder itself, once for many
   * files. «nothing»: for what can be made again; whole or absent all the same, but a power cut may bring the old back.
   */
  readonly sync?: 'file and folder' | 'file' | 'nothing';
  /** Called when all is written and synced; when it throws, the file does not appear. */
  readonly check?: () => void | Promise<void>;
  readonly signal?: AbortSignal | undefined;
}

export async function writeBytes(path: string, bytes: Uint8Array, options: LocalWriteOptions = {}): Promise<void> {
  await appear(path, options, (file) => file.writeFile(bytes));
}

/** Writes UTF-8. */
export async function writeText(path: string, text: string, options: LocalWriteOptions = {}): Promise<void> {
  await writeBytes(path, Buffer.from(text), options);
}

/** Writes one JSON value and a line end. */
export async function writeJson(path: string, value: unknown, options: LocalWriteOptions = {}): Promise<void> {
  await writeText(path, `${JSON.stringify(value)}\n`, options);
}

/** Writes what `pieces` gives; memory holds one piece. A source that throws leaves the old file as it was. */
export async function writeStream(
  path: string,
  pieces: AsyncIterable<Uint8Array>,
  options: LocalWriteOptions = {},
): Promise<void> {
  await appear(path, options, async (file) => {
    for await (const piece of abortablePieces(pieces, options.signal)) await file.writeFile(piece);
  });
}

/** A name in this folder that nobody has, for what is made beside its final name; `sweepTemporary` knows it. */
export function temporaryPath(folder: string): string {
  return join(folder, PREFIX + randomBytes(8).toString('hex'));
}

/** Makes the names in a folder durable. */
export async function syncFolder(folder: string): Promise<void> {
  // Windows has no such thing; its renames are in the journal of the file system.
  if (process.platform === 'win32') return;
  await using handle = await open(folder, 'r');
  await handle.sync();
}

/**
 * Removes temporary files that writers left in this folder (not below it) and that nobody has touched for so long; gives
 * how many. A folder that is not there has none.
 */
export async function sweepTemporary(folder: string, olderThanMs: number, now: number = Date.now()): Promise<number> {
  let swept = 0;
  for (const name of await readNames(folder)) {
    if (!temporaryName.test(name)) continue;
    const path = join(folder, name);
    // The time of change, since a writer may set that of modification to any time.
    const changedMs = await lstat(path).then(
      (stat) => Math.floor(stat.ctimeMs),
      (error) => absent(error, undefined),
    );
    if (changedMs === undefined || now - changedMs < olderThanMs) continue;
    await rm(path, { force: true });
    swept += 1;
  }
  return swept;
}

async function appear(
  path: string,
  options: LocalWriteOptions,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  options.signal?.throwIfAborted();
  const folder = dirname(path);
  const sync = options.sync ?? 'file and folder';
  const temporary = temporaryPath(folder);
  try {
    {
      // Nobody else may read it before it has the mode that was asked for.
      await using file = await open(temporary, 'wx', options.mode === undefined ? 0o666 : 0o600);
      await write(file);
      if (options.mode !== undefined) await file.chmod(options.mode);
      if (options.mtimeSeconds !== undefined) await file.utimes(options.mtimeSeconds, options.mtimeSeconds);
      if (sync !== 'nothing') await file.sync();
    }
    await options.check?.();
    options.signal?.throwIfAborted();
    if (options.overwrite ?? true) await rename(temporary, path);
    else await renameNew(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  if (sync === 'file and folder') await syncFolder(folder);
}

/** A rename replaces what is there; a link never does. */
async function renameNew(temporary: string, path: string): Promise<void> {
  try {
    await link(temporary, path);
  } catch (error) {
    if (!noLinkCodes.has(codeOf(error))) throw error;
    // Without hard links two writers within the same instant can still both succeed.
    if (await isThere(path))
      throw Object.assign(new Error(`EEXIST: file already exists, '${path}'`), { code: 'EEXIST' });
    await rename(temporary, path);
    return;
  }
  await rm(temporary, { force: true });
}

async function isThere(path: string): Promise<boolean> {
  return await lstat(path).then(
    () => true,
    (error) => absent(error, false),
  );
}

async function readNames(folder: string): Promise<string[]> {
  return await readdir(folder).catch((error) => absent(error, []));
}

/** Whether the error says that nothing is there. */
export function isAbsent(error: unknown): boolean {
  return codeOf(error) === 'ENOENT';
}

/** `value` when the error says that nothing is there; throws any other. */
function absent<T>(error: unknown, value: T): T {
  if (isAbsent(error)) return value;
  throw error;
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}
