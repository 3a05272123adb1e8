import { describe, expect, test } from 'vitest';
import {
  encodeSnapshot,
  parseSnapshot,
  SKIPPED_NAMED_MAX,
  type Snapshot,
  snapshotName,
} from '../../src/snapshots/snapshot.ts';
import { hashOf } from '../kit/arbitraries.ts';
import { createTestRepository } from '../kit/repository.ts';

function snapshotOf(id: string, over: Partial<Snapshot> = {}): Snapshot {
  return {
    id: id.padEnd(16, '0'),
    source: 'src',
    time: '2026-01-02T03:04:05.678Z',
    parent: undefined,
    root: hashOf('root'),
    totals: { files: 1, folders: 2, bytes: 3 },
    changes: { added: 1, changed: 0, removed: 0 },
    stored: { newChunks: 1, newBytes: 3, storedBytes: 100 },
    batches: [{ batch: '0000000001-00000000', run: '0'.repeat(16) }],
    skipped: { count: 0, paths: [] },
    ...over,
  };
}

describe('a snapshot', () => {
  test('comes back as it was written', () => {
    const skipped = { count: 1, paths: [{ path: 'ä\n', code: 'FIRN_FILE_UNREADABLE', problem: 'no' }] };
    const snapshot = snapshotOf('ab', { parent: '1'.repeat(16), skipped });
    expect(parseSnapshot(snapshotName(snapshot), encodeSnapshot(snapshot))).toEqual(snapshot);
    expect(snapshotName(snapshot)).toBe('snapshots/20260102T030405678Z-ab00000000000000');
  });

  test('names at most a thousand skipped paths and counts all', () => {
    const paths = Array.from({ length: 1500 }, (_, n) => ({ path: String(n), code: 'X', problem: '' }));
    const snapshot = snapshotOf('ab', { skipped: { count: 1500, paths } });
    const { skipped } = parseSnapshot(snapshotName(snapshot), encodeSnapshot(snapshot));
    expect(skipped.count).toBe(1500);
    expect(skipped.paths.length).toBe(SKIPPED_NAMED_MAX);
  });

  test('under another name, or of a newer version, is refused', () => {
    const snapshot = snapshotOf('ab');
    const body = encodeSnapshot(snapshot);
    expect(() => parseSnapshot(snapshotName(snapshotOf('cd')), body)).toThrow(/not the manifest/);
    const newer = Buffer.from(body.toString().replace('"format":1', '"format":2'));
    expect(() => parseSnapshot(snapshotName(snapshot), newer)).toThrow(/version 2/);
  });
});

describe('resolving what a user typed', () => {
  test('takes an id, a unique prefix, `latest` and `latest:<source>`', async () => {
    const { snapshots } = (await createTestRepository()).repository;
    const one = snapshotOf('abc1', { time: '2026-01-01T00:00:00.000Z' });
    const two = snapshotOf('abd2', { time: '2026-01-02T00:00:00.000Z', parent: one.id });
    const other = snapshotOf('eee3', { time: '2026-01-03T00:00:00.000Z', source: 'other' });
    for (const snapshot of [one, two, other]) await snapshots.create(snapshot);
    expect((await snapshots.resolve(one.id)).id).toBe(one.id);
    expect((await snapshots.resolve('abd')).id).toBe(two.id);
    expect((await snapshots.resolve('latest')).id).toBe(other.id);
    expect((await snapshots.resolve('latest:src')).id).toBe(two.id);
    await expect(snapshots.resolve('ab')).rejects.toMatchObject({
      code: 'FIRN_SNAPSHOT_AMBIGUOUS',
      details: { candidates: `${one.id}, ${two.id}` },
    });
    for (const unknown of ['ffff', '', 'latest:nobody', 'ABC1']) {
      await expect(snapshots.resolve(unknown)).rejects.toMatchObject({ code: 'FIRN_SNAPSHOT_UNKNOWN' });
    }
  });

  test('lists what is whole and hands over what is damaged', async () => {
    const { snapshots, data } = (await createTestRepository()).repository;
    const whole = snapshotOf('aa');
    const damaged = snapshotOf('bb', { time: '2026-01-03T00:00:00.000Z' });
    for (const snapshot of [whole, damaged]) await snapshots.create(snapshot);
    const name = snapshotName(damaged);
    const { etag } = await data.store.properties(name);
    await data.store.replace(name, Buffer.from('junk'), { ifMatch: etag });
    await expect(Array.fromAsync(snapshots.list())).rejects.toMatchObject({ code: 'FIRN_SEAL_BROKEN' });
    const reported: string[] = [];
    const listed = await Array.fromAsync(snapshots.list({ onDamaged: (each) => reported.push(each.name) }));
    expect(listed.map(({ id }) => id)).toEqual([whole.id]);
    expect(reported).toEqual([name]);
  });
});

describe('what was published after a head', () => {
  const at = (day: number, id: string, parent?: string) =>
    snapshotOf(id, { time: `2026-01-0${day}T00:00:00.000Z`, parent: parent?.padEnd(16, '0') });

  async function laterThan(headId: string, snapshots: readonly Snapshot[], damaged?: Snapshot) {
    const { repository } = await createTestRepository();
    for (const each of snapshots) await repository.snapshots.create(each);
    if (damaged) {
      const name = snapshotName(damaged);
      const { etag, metadata } = await repository.data.store.properties(name);
      await repository.data.store.replace(name, Buffer.from('junk'), { ifMatch: etag, metadata });
    }
    const head = snapshots.find(({ id }) => id === headId.padEnd(16, '0'));
    if (head === undefined) throw new Error('no head');
    return (await repository.snapshots.laterThan({ snapshot: head, etag: '' }))?.id;
  }

  test('is the last that goes on from it, however far', async () => {
    const chain = [at(1, '1'), at(2, '2', '1'), at(3, '3', '2'), at(4, '4', '3')];
    expect(await laterThan('2', chain)).toBe(chain[3]?.id);
    expect(await laterThan('4', chain)).toBeUndefined();
    expect(await laterThan('1', chain, chain[2])).toBe(chain[3]?.id);
  });

  test('is not a snapshot that went on from an earlier one, nor what followed that', async () => {
    const beside = [at(3, '3', '1'), at(4, '4', '3')];
    expect(await laterThan('2', [at(1, '1'), at(2, '2', '1'), ...beside])).toBeUndefined();
    expect(await laterThan('1', [at(1, '1'), at(2, '2')])).toBeUndefined();
  });
});

test('a head moves only from where it was', async () => {
  const { snapshots } = (await createTestRepository()).repository;
  const [one, two, three] = ['1', '2', '3'].map((id) => snapshotOf(id));
  for (const snapshot of [one!, two!, three!]) await snapshots.create(snapshot);
  expect(await snapshots.moveHead(undefined, one!)).toBe(true);
  expect(await snapshots.moveHead(undefined, two!)).toBe(false);
  const head = await snapshots.readHead('src');
  expect(await snapshots.moveHead(head, two!)).toBe(true);
  expect(await snapshots.moveHead(head, three!)).toBe(false);
  expect((await snapshots.readHead('src'))?.snapshot.id).toBe(two!.id);
});
