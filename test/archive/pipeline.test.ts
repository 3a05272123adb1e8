import { describe, expect, test } from 'vitest';
import { runArchive } from '../../src/archive/archive-run.ts';
import type { ArchiveItem } from '../../src/archive/item.ts';
import { FirnError } from '../../src/errors.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import type { Repository } from '../../src/repository.ts';
import type { Snapshot } from '../../src/snapshots/snapshot.ts';
import { pseudoRandomBytes } from '../chunks/bytes.ts';
import { contentOf, createTestRepository } from '../kit/repository.ts';

/** Too large to be read ahead, so each is read as it is stored; stored as a chunk of its own. */
const BYTES = 5_000_000;
const content = pseudoRandomBytes(1, BYTES);

/** A file that gives something else at each opening; an error is thrown in the middle of the first half. */
function file(path: string, openings: readonly (Buffer | 'unreadable')[]): ArchiveItem {
  let opened = 0;
  return {
    path,
    op: 'put',
    bytes: BYTES,
    async open() {
      const now = openings[Math.min(opened, openings.length - 1)]!;
      opened += 1;
      return {
        type: 'file',
        attributes: {},
        bytes: BYTES,
        unchanged: async () => true,
        content: (async function* () {
          if (now === 'unreadable') {
            yield content.subarray(0, 1_000_000);
            throw new FirnError('FIRN_FILE_UNREADABLE', { path, problem: 'it went away' });
          }
          yield now;
        })(),
      };
    },
  };
}

async function archive(repository: Repository, items: ArchiveItem[]): Promise<Snapshot> {
  const run = await runArchive(repository, { source: 'src', batch: 'scan-1', kind: 'scan', base: undefined }, items);
  await run.finish();
  return (await publishSource(repository, 'src'))!.snapshot!;
}

describe.each(['file', 'fastcdc'] as const)('a run over files that do not stand still (chunking: %s)', (method) => {
  const chunking =
    method === 'file'
      ? ({ method } as const)
      : ({ method, minBytes: 65_536, averageBytes: 262_144, maxBytes: 4_194_304 } as const);

  test('stores a file whose twin turned unreadable while it was stored', async () => {
    const { repository } = await createTestRepository({ chunking });
    const snapshot = await archive(repository, [file('a', [content, 'unreadable']), file('b', [content])]);
    const files = await contentOf(repository, snapshot);
    expect(files.b).toBe(content.toString());
    if (method === 'file') {
      expect(snapshot.skipped).toMatchObject({ count: 1, paths: [{ path: 'a', code: 'FIRN_FILE_UNREADABLE' }] });
    }
  });

  test('leaves out a file that cannot be read to its end, with none of it in the snapshot', async () => {
    const { repository } = await createTestRepository({ chunking });
    const snapshot = await archive(repository, [file('a', ['unreadable']), file('b', [content])]);
    expect(Object.keys(await contentOf(repository, snapshot))).toEqual(['b']);
    expect(snapshot.skipped).toMatchObject({ count: 1, paths: [{ path: 'a', code: 'FIRN_FILE_UNREADABLE' }] });
  });
});

describe('a file that is named by one reading and stored by the next', () => {
  const other = (seed: number) => pseudoRandomBytes(seed, BYTES);

  test('is stored as it is in the end, when it comes to rest', async () => {
    const { repository } = await createTestRepository({ chunking: { method: 'file' } });
    const snapshot = await archive(repository, [file('a', [content, other(2), other(3), other(3)])]);
    expect(await contentOf(repository, snapshot)).toEqual({ a: other(3).toString() });
    expect((await repository.createIndex().statistics()).entries).toBe(1);
  });

  test('is named as changing and not stored, when it never does', async () => {
    const { repository } = await createTestRepository({ chunking: { method: 'file' } });
    const restless = file('a', [2, 3, 4, 5, 6, 7].map(other));
    const snapshot = await archive(repository, [restless, file('b', [content])]);
    expect(snapshot.skipped).toMatchObject({ count: 1, paths: [{ path: 'a', code: 'FIRN_FILE_CHANGING' }] });
    expect(await contentOf(repository, snapshot)).toEqual({ b: content.toString() });
  });
});
