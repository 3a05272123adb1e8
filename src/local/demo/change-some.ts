/** The changes between the two snapshots of the demo: made in the inbox, never in the folder of the user. */
import { randomUUID } from 'node:crypto';
import { recordInJournal } from '../../archive/batches.ts';
import type { Repository } from '../../repository.ts';
import { type BlobMetadata, isBlobFailure } from '../../storage/blob-store.ts';
import type { ExpectedFile } from './compare-folders.ts';
import { listTree } from './local-tree.ts';

const FILES_CHANGED = 4;
const ADDED_NAME = 'added – née 雪.txt';
const MTIME = '2026-01-02T03:04:05.678Z';
const MODE = 0o640;

export interface Changes {
  /** What the changed paths should hold; null for the one that was removed. */
  readonly expected: ReadonlyMap<string, ExpectedFile | null>;
  /** Of the changed and added files. */
  readonly bytes: number;
}

export interface ChangeOptions {
  readonly source: string;
  /** Paths that were not uploaded. */
  readonly without: ReadonlySet<string>;
  readonly signal: AbortSignal;
}

/** Removes one file, changes up to four, and adds one; a folder without files gets the new one only. */
export async function changeSome(
  repository: Repository,
  folder: string,
  { source, without, signal }: ChangeOptions,
): Promise<Changes> {
  const expected = new Map<string, ExpectedFile | null>();
  let bytes = 0;
  const files = (await listTree(folder, without)).filter(({ isFile, name }) => isFile && name !== ADDED_NAME);
  const [removed, ...changed] = spread(
    files.map(({ name }) => name),
    1 + FILES_CHANGED,
  );
  for (const name of [...changed, ADDED_NAME]) {
    const content = Buffer.from(`changed: ${name}\n`.repeat(40));
    await replaceUpload(
      repository,
      `${source}/${name}`,
      content,
      { mtime: MTIME, mode: `0${MODE.toString(8)}` },
      signal,
    );
    expected.set(name, { content, mode: MODE, mtimeMs: Date.parse(MTIME) });
    bytes += content.length;
  }
  if (removed !== undefined) {
    await recordInJournal(repository, source, { kind: 'removal', path: removed, nonce: randomUUID() }, { signal });
    expected.set(removed, null);
  }
  return { expected, bytes };
}

async function replaceUpload(
  { inbox }: Repository,
  name: string,
  content: Buffer,
  metadata: BlobMetadata,
  signal: AbortSignal,
): Promise<void> {
  try {
    const { etag } = await inbox.properties(name, { signal });
    await inbox.replace(name, content, { metadata, ifMatch: etag, signal });
  } catch (error) {
    if (!isBlobFailure(error, 'missing')) throw error;
    await inbox.create(name, content, { metadata, signal });
  }
}

/** Up to so many of the items, evenly spread. */
export function spread<T>(items: readonly T[], count: number): T[] {
  const step = Math.max(1, items.length / count);
  return items.filter((_, at) => Math.floor(at / step) !== Math.floor((at - 1) / step)).slice(0, count);
}
