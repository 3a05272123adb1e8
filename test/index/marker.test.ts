import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  findRepairMarker,
  REPAIR_MARKER,
  RepairGate,
  type RepairMarker,
  removeRepairMarker,
  takeRepairMarker,
} from '../../src/index/marker.ts';
import { type BlobStore, BlobStoreError } from '../../src/storage/blob-store.ts';
import { encodeCheckedJson } from '../../src/storage/json-blob.ts';
import { createMemoryAccount, createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { hooked, watched } from './index-kit.ts';

const all: RepairMarker = { started: '2026-01-02T03:04:05.000Z', owner: 'me', roots: undefined };
const some = (...roots: string[]): RepairMarker => ({ ...all, owner: 'the other', roots });

describe('the marker of a repair', () => {
  test('says since when, by whom and of which roots, in plain JSON', async () => {
    const store = createMemoryBlobStore();
    await takeRepairMarker(store, some('0', 'f'));
    const { body } = await store.read(REPAIR_MARKER);
    expect(JSON.parse(body.toString())).toMatchObject({
      format: 1,
      started: '2026-01-02T03:04:05.000Z',
      owner: 'the other',
      roots: ['0', 'f'],
    });
    expect(await findRepairMarker(store)).toMatchObject(some('0', 'f'));
    await takeRepairMarker(store, all);
    expect(JSON.parse((await store.read(REPAIR_MARKER)).body.toString())).toMatchObject({ roots: null });
    expect(await findRepairMarker(store)).toMatchObject(all);
  });

  test.each<[string, RepairMarker, RepairMarker, boolean]>([
    ['of all roots, by one of all', all, all, true],
    ['of all roots, by one of some', all, some('a'), false],
    ['of some roots, by one of all', some('a', 'b'), all, true],
    ['of the same roots', some('a', 'b'), some('b', 'a'), true],
    ['of some roots, by one of more', some('a'), some('a', 'b'), true],
    ['of some roots, by one of fewer', some('a', 'b'), some('b'), false],
    ['of other roots', some('a'), some('b'), false],
  ])('%s: it is taken over when all its roots are repaired, and then it is not its first owner’s', async (...row) => {
    const [, standing, taking, isTaken] = row;
    const store = createMemoryBlobStore();
    const first = await takeRepairMarker(store, standing);
    expect(first.isNew).toBe(true);
    const taken = takeRepairMarker(store, taking);
    if (isTaken) {
      expect(await taken).toMatchObject({ ...taking, isNew: false });
      expect(await removeRepairMarker(store, first)).toBe(false);
      expect(await removeRepairMarker(store, await taken)).toBe(true);
    } else {
      await expect(taken).rejects.toMatchObject({
        code: 'FIRN_REPAIR_UNFINISHED',
        retryable: true,
        details: { started: standing.started, owner: standing.owner },
      });
      expect(await removeRepairMarker(store, first)).toBe(true);
    }
    expect(await findRepairMarker(store)).toBeUndefined();
  });

  test.each([
    'nonsense',
    '',
    '{}',
    '{"format":1,"roots":["a",7]}',
    '{"format":1,"roots":"a"}',
    '{"format":1,"roots":["ab"]}',
  ])('%j counts as one of all roots, and is taken over by such a repair alone', async (body) => {
    const store = createMemoryBlobStore();
    await store.create(REPAIR_MARKER, Buffer.from(body));
    expect(await findRepairMarker(store)).toMatchObject({
      started: 'an unknown time',
      owner: 'unknown',
      roots: undefined,
    });
    await expect(takeRepairMarker(store, some('a'))).rejects.toMatchObject({ code: 'FIRN_REPAIR_UNFINISHED' });
    expect(await removeRepairMarker(store, await takeRepairMarker(store, all))).toBe(true);
  });

  test.each([
    ['create', true],
    ['replace', false],
  ] as const)('is known again when the answer to its %s was lost', async (lost, isNew) => {
    const store = createMemoryBlobStore();
    if (!isNew) await takeRepairMarker(store, some('a'));
    let answers = 0;
    // The request is repeated, and meets what the first one did.
    const losing = hooked(store, {
      after: (call, name) => {
        if (call === lost && answers++ === 0) throw new BlobStoreError(lost === 'create' ? 'exists' : 'changed', name);
      },
    });
    const taken = await takeRepairMarker(losing, all);
    expect({ isNew: taken.isNew, answers }).toEqual({ isNew, answers: 1 });
    expect(await removeRepairMarker(store, taken)).toBe(true);
    expect(await findRepairMarker(store)).toBeUndefined();
  });

  test('with any flipped bit is the marker of a repair of no fewer roots, and never of a newer Firn', async () => {
    const account = createMemoryAccount();
    const store = account.container('state');
    await takeRepairMarker(store, some('a', 'b'));
    const { body } = await store.read(REPAIR_MARKER);
    for (let bit = 0; bit < body.length * 8; bit += 1) {
      const flipped = Buffer.from(body);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      account.overwrite('state', REPAIR_MARKER, flipped);
      const { roots } = (await findRepairMarker(store))!;
      if (roots !== undefined) expect(roots).toEqual(['a', 'b']);
    }
    // As an older Firn wrote it: without a checksum, and so in no newer format.
    for (const older of ['{"format":3}', '{"format":1,"roots":["a"]}']) {
      account.overwrite('state', REPAIR_MARKER, Buffer.from(older));
      expect((await findRepairMarker(store))?.roots).toEqual(older.includes('roots') ? ['a'] : undefined);
    }
  });

  test('of a newer Firn is refused with that code, and stays', async () => {
    const store = createMemoryBlobStore();
    const newer = encodeCheckedJson({ format: 2 });
    await store.create(REPAIR_MARKER, newer);
    await expect(findRepairMarker(store)).rejects.toMatchObject({ code: 'FIRN_REPOSITORY_NEWER' });
    await expect(takeRepairMarker(store, all)).rejects.toMatchObject({ code: 'FIRN_REPOSITORY_NEWER' });
    expect((await store.read(REPAIR_MARKER)).body).toEqual(newer);
  });

  test('is taken when others take and remove it at the same moment, but not for ever', async () => {
    /** Others do this before each of so many writes. */
    const contended = (store: BlobStore, rounds: number) => {
      let left = rounds;
      return hooked(store, {
        before: async (call) => {
          if ((call !== 'create' && call !== 'replace') || left === 0) return;
          left -= 1;
          const standing = await findRepairMarker(store);
          if (standing === undefined) await takeRepairMarker(store, some('a'));
          else await removeRepairMarker(store, standing);
        },
      });
    };
    const store = createMemoryBlobStore();
    const taken = await takeRepairMarker(contended(store, 19), all);
    expect(await removeRepairMarker(store, taken)).toBe(true);
    await expect(takeRepairMarker(contended(store, 20), all)).rejects.toMatchObject({
      code: 'FIRN_INDEX_CONTENDED',
      details: { shard: REPAIR_MARKER, tries: 20 },
    });
  });
});

describe('the gate of sessions that look often', () => {
  afterEach(() => vi.restoreAllMocks());

  test('looks at most once a second, sees a marker within one, and never takes a refusal for good', async () => {
    let now = 5_000;
    vi.spyOn(performance, 'now').mockImplementation(() => now);
    const { store, calls } = watched(createMemoryBlobStore());
    const gate = new RepairGate(store);
    for (const at of [5_000, 5_001, 5_999]) {
      now = at;
      await gate.check();
    }
    expect(calls).toEqual([`read ${REPAIR_MARKER}`]);
    const marker = await takeRepairMarker(store, all);
    calls.length = 0;
    for (const at of [6_000, 6_001]) {
      now = at;
      await expect(gate.check()).rejects.toMatchObject({ code: 'FIRN_REPAIR_UNFINISHED' });
    }
    expect(calls).toHaveLength(2);
    await removeRepairMarker(store, marker);
    await gate.check();
  });

  test('looks once for all that ask at the same moment, and again for who asks a second after a look began', async () => {
    let now = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => now);
    const { store, calls } = watched(createMemoryBlobStore());
    const gate = new RepairGate(store);
    await Promise.all([gate.check(), gate.check(), gate.check()]);
    expect(calls).toHaveLength(1);
    now += 1_000;
    const early = gate.check();
    now += 1_000;
    await Promise.all([early, gate.check()]);
    expect(calls).toHaveLength(3);
  });

  test('counts from before it asked: what a slow answer says is no fresher than its question', async () => {
    let now = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => now);
    const { store, calls } = watched(createMemoryBlobStore());
    const slow = hooked(store, {
      refused: () => {
        now += 900;
      },
    });
    const gate = new RepairGate(slow);
    await gate.check();
    now += 100;
    await gate.check();
    expect(calls).toHaveLength(2);
  });
});
