/**
 * The JSON that lies in the repository, with structures that nobody writes: snapshots, heads, receipts and their changes,
 * plans, the marker of a repair, locks, what was queued, notes of scans. The repository is unencrypted, so that its seals prove nothing:
 * whoever can write there can make them.
 */
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { archiveBatch } from '../../src/archive/archive-batch.ts';
import { batchesWithoutReceipt, sealDueBatches } from '../../src/archive/batches.ts';
import { findLastScan } from '../../src/archive/last-scan.ts';
import { findReceipt, readChanges, readLocations } from '../../src/archive/receipt.ts';
import { findRepairMarker } from '../../src/index/marker.ts';
import { runRepair } from '../../src/index/repair-run.ts';
import { allRoots } from '../../src/index/root-view.ts';
import { planPublish } from '../../src/publish/plan.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import { openRepository, type Repository } from '../../src/repository.ts';
import type { SealedKind } from '../../src/sealing/frame.ts';
import { readSettings } from '../../src/settings.ts';
import { encodeSnapshot, parseSnapshot, type Snapshot } from '../../src/snapshots/snapshot.ts';
import { LOCK_PREFIX } from '../../src/storage/lock-record.ts';
import { createMemoryAccount, type MemoryAccount } from '../kit/memory-blob-store.ts';
import { archiveAll, contentOf, createTestRepository, upload } from '../kit/repository.ts';
import {
  anyEdits,
  anyHostileJson,
  edited,
  type HostileJson,
  hostileJson,
  type Outcome,
  outcomeOf,
  patient,
  runs,
  watchMemory,
} from './hostile.ts';

afterAll(watchMemory());

const { settings } = readSettings({ FIRN_LOCK_WAIT_SECONDS: '0' });
const account = createMemoryAccount();
const { repository: original } = await createTestRepository({ encrypted: false, containers: account });
const files = { 'a/one': 'first', 'a/two': 'second', three: 'third' };
for (const [name, content] of Object.entries(files)) await upload(original, `photos/${name}`, content);
await archiveAll(original, 'photos');
await publishSource(original, 'photos');
await upload(original, 'docs/one', 'first');
await archiveAll(original, 'docs');
await publishSource(original, 'docs');
await upload(original, 'photos/a/one', 'first, changed');
await archiveAll(original, 'photos');
await publishSource(original, 'photos');
await upload(original, 'photos/four', 'fourth');
await upload(original, 'photos/a/five', 'fifth');
await archiveAll(original, 'photos');
await planPublish(original, 'photos');

const names = async (prefix: string, store = original.state.store) =>
  await Array.fromAsync(store.list({ prefix }), ({ name }) => name);
const snapshots = await names('snapshots/', original.data.store);
const [plan = ''] = await names('plans/photos/');
const receiptBlobs = await names('receipts/photos/');
const [batch = ''] = receiptBlobs[0]?.split('/').slice(2) ?? [];
const blobOf = (ending: string) => receiptBlobs.find((name) => name.includes(ending)) ?? '';

/** A new process over a copy of the repository in which one blob has these bytes. */
async function openWith(of: 'data' | 'state', name: string, body: Buffer): Promise<Repository> {
  const copy = account.clone();
  const store = copy.container(`firn-${of}`);
  await store.delete(name);
  await store.create(name, body);
  return await open(copy);
}

async function open(containers: MemoryAccount): Promise<Repository> {
  return await openRepository(containers, settings, { onWarning: () => {} });
}

async function openWithSealed(of: 'data' | 'state', kind: SealedKind, name: string, body: Buffer): Promise<Repository> {
  return await openWith(of, name, await original[of].seal(kind, name, body));
}

async function jsonIn(of: 'data' | 'state', kind: SealedKind, name: string): Promise<unknown> {
  return JSON.parse((await original[of].get(kind, name)).body.toString());
}

/**
 * What timers and triggers do for a source, as often as it may take; each step ends well or with a typed error.
 * @returns the codes of the errors.
 */
async function runTimers(repository: Repository): Promise<unknown[]> {
  const outcomes: Outcome<unknown>[] = [];
  const run = async <T>(step: () => Promise<T>): Promise<T | undefined> => {
    const outcome = await outcomeOf(step);
    outcomes.push(outcome);
    return 'value' in outcome ? outcome.value : undefined;
  };
  for (let round = 0; round < 2; round += 1) {
    await run(() => sealDueBatches(repository));
    for (const each of (await run(() => batchesWithoutReceipt(repository, 'photos'))) ?? []) {
      await run(() => archiveBatch(repository, { source: 'photos', batch: each.batch }));
    }
    await run(() => publishSource(repository, 'photos'));
  }
  return outcomes.flatMap((outcome) => ('error' in outcome ? [codeOf(outcome)] : []));
}

/** Whatever can be listed can be read or refused. */
async function listAll(repository: Repository): Promise<Snapshot[]> {
  const found: Snapshot[] = [];
  await outcomeOf(async () => {
    for await (const snapshot of repository.snapshots.list({ onDamaged: () => {} })) found.push(snapshot);
  });
  for (const text of ['latest', 'latest:photos', 'latest:docs'])
    await outcomeOf(() => repository.snapshots.resolve(text));
  return found;
}

function codeOf(outcome: Outcome<unknown>): unknown {
  return 'error' in outcome && 'code' in outcome.error ? outcome.error.code : undefined;
}

const tempting = [
  ...snapshots.map((name) => JSON.stringify(name)),
  ...['"photos"', '"docs"', `"${batch}"`, `"${snapshots[0]?.slice(-16)}"`, '"scan"', '"inbox"', '"remove"', '"put"'],
  ...['"snapshots/20260101T000000000Z-0123456789abcdef"', '"config"', '"keys/"', '"snapshots/../config"'],
  ...['"a/one"', '"three"', '"zz"', '"../zz"', '"folder"', '"link"', '["00"]', '["zz"]', '"active"', '"sealed"'],
];

describe('a snapshot', () => {
  const [first = '', , last = ''] = snapshots;

  it('that makes no sense is refused, or is one that can be written again and followed', patient, async () => {
    const valid = await jsonIn('data', 'snapshot', last);
    const others = [await jsonIn('data', 'snapshot', first)];
    await fc.assert(
      fc.asyncProperty(anyHostileJson(tempting), async (hostile) => {
        const body = hostileJson(valid, hostile, others);
        const outcome = await outcomeOf(() => parseSnapshot(last, body));
        if (!('value' in outcome)) {
          expect(codeOf(outcome)).toMatch(/FIRN_BLOB_DAMAGED|NEWER/);
          return;
        }
        const snapshot = outcome.value;
        const written = encodeSnapshot(snapshot);
        expect(encodeSnapshot(parseSnapshot(last, written)).toString()).toBe(written.toString());
        expect(new Date(snapshot.time).toISOString()).toBe(snapshot.time);
        expect([undefined, 'string']).toContain(snapshot.parent === undefined ? undefined : typeof snapshot.parent);
        const { totals, changes, stored, skipped } = snapshot;
        const counts = [totals.files, totals.folders, totals.bytes, changes.added, changes.changed, changes.removed];
        for (const count of [...counts, stored.newChunks, stored.newBytes, stored.storedBytes, skipped.count]) {
          expect(Number.isSafeInteger(count) && count >= 0).toBe(true);
        }
      }),
      runs(300),
    );
  });

  it('that makes no sense stops the publishes of its source with an error, if any', patient, async () => {
    const valid = await jsonIn('data', 'snapshot', last);
    await fc.assert(
      fc.asyncProperty(anyHostileJson(tempting), async (hostile) => {
        const repository = await openWithSealed('data', 'snapshot', last, hostileJson(valid, hostile));
        await runTimers(repository);
        await listAll(repository);
      }),
      runs(25),
    );
  });

  it('of a time that there is not is refused', async () => {
    const valid = parseSnapshot(last, (await original.data.get('snapshot', last)).body);
    for (const [name, time] of [
      ['snapshots/20269999T999999999Z', '2026-99-99T99:99:99.999Z'],
      ['snapshots/20260230T000000000Z', '2026-02-30T00:00:00.000Z'],
    ] as const) {
      const outcome = await outcomeOf(() => parseSnapshot(`${name}-${valid.id}`, encodeSnapshot({ ...valid, time })));
      expect(codeOf(outcome)).toBe('FIRN_BLOB_DAMAGED');
    }
  });
});

describe('a head', () => {
  it('that makes no sense is the newest snapshot of its source', patient, async () => {
    const valid = await jsonIn('state', 'head', 'heads/photos');
    const newest = snapshots.at(-1)?.slice(-16);
    const mine = [newest, snapshots[0]?.slice(-16)];
    await fc.assert(
      fc.asyncProperty(anyHostileJson(tempting), async (hostile) => {
        const body = hostileJson(valid, hostile);
        const repository = await openWithSealed('state', 'head', 'heads/photos', body);
        const outcome = await outcomeOf(() => repository.snapshots.readHead('photos'));
        if ('value' in outcome) expect(mine).toContain(outcome.value?.snapshot.id);
        // What names a snapshot that is not there may be right: it is the snapshot that was lost.
        else expect(codeOf(outcome)).toMatch(/NEWER|BLOB_MISSING/);
      }),
      runs(150),
    );
  });

  it.each([
    ['of another source', snapshots[1]],
    ['that is no snapshot', 'config'],
    ['outside of the snapshots', 'snapshots/../config'],
    ['under no name', ''],
  ])('that names a blob %s is made anew', async (_, snapshot) => {
    const body = Buffer.from(JSON.stringify({ format: 1, snapshot }));
    const repository = await openWithSealed('state', 'head', 'heads/photos', body);
    const newest = snapshots.at(-1)?.slice(-16);
    expect((await repository.snapshots.readHead('photos'))?.snapshot.id).toBe(newest);
    expect(await repository.snapshots.resolve('latest:photos')).toMatchObject({ id: newest, source: 'photos' });
  });
});

describe('a receipt', () => {
  const receipt = blobOf('/receipt');
  const changes = blobOf('/changes-');
  const index = blobOf('/index');

  async function readReceipt({ state }: Repository): Promise<void> {
    const outcome = await outcomeOf(() => findReceipt(state, 'photos', batch));
    if (!('value' in outcome)) return expect(codeOf(outcome)).toMatch(/FIRN_RECEIPT_DAMAGED|NEWER/);
    const found = outcome.value;
    if (found === undefined) return;
    for (const read of [() => Array.fromAsync(readChanges(state, found)), () => readLocations(state, found)]) {
      const part = await outcomeOf<unknown>(read);
      if ('error' in part) expect(codeOf(part)).toMatch(/FIRN_RECEIPT_DAMAGED|NEWER/);
    }
  }

  it('that makes no sense is set aside or published, and its source goes on', patient, async () => {
    const valid = await jsonIn('state', 'receipt', receipt);
    await fc.assert(
      fc.asyncProperty(anyHostileJson(tempting), async (hostile) => {
        const body = hostileJson(valid, hostile);
        const repository = await openWithSealed('state', 'receipt', receipt, body);
        await readReceipt(repository);
        await runTimers(repository);
        await listAll(repository);
      }),
      runs(40),
    );
  });

  it('with changes that make no sense is set aside or published, and its source goes on', patient, async () => {
    const body = (await original.state.get('receipt', changes)).body;
    const lines = body.toString().split('\n').filter(Boolean);
    const values: unknown[] = lines.map((line) => JSON.parse(line));
    const anyLine: fc.Arbitrary<{ at: number; hostile: HostileJson }> = fc.record({
      at: fc.nat({ max: lines.length - 1 }),
      hostile: anyHostileJson(tempting),
    });
    await fc.assert(
      fc.asyncProperty(anyLine, fc.boolean(), async ({ at, hostile }, turned) => {
        const hostileLines = lines.map((line, n) =>
          n === at ? hostileJson(values[n], hostile, values).toString() : line,
        );
        if (turned) hostileLines.reverse();
        const text = Buffer.from(hostileLines.map((line) => `${line}\n`).join(''));
        const repository = await openWithSealed('state', 'receipt', changes, text);
        await readReceipt(repository);
        await runTimers(repository);
        for (const snapshot of await listAll(repository)) {
          await outcomeOf(async () => {
            // What the chunks of a change are was a lie, perhaps; the chunks themselves are not.
            await contentOf(repository, snapshot).catch((error) => {
              if (!String(error).includes('is not in the shards')) throw error;
            });
          });
        }
      }),
      runs(60),
    );
  });

  it('with changes that make no sense is archived again: its source is published as it is', async () => {
    const lie = { path: 'a/five', op: 'put', entry: { type: 'file', bytes: 5, content: 'x', refs: { chunks: [] } } };
    for (const line of [
      'null',
      '{}',
      '[]',
      '"x"',
      '{"path":"a","op":"x"}',
      '{"path":"../x","op":"remove"}',
      JSON.stringify(lie),
    ]) {
      const body = Buffer.from(`${line}\n{"path":"four","op":"remove"}\n`);
      const repository = await openWithSealed('state', 'receipt', changes, body);
      const refused = await outcomeOf(() => publishSource(repository, 'photos'));
      expect(codeOf(refused), line).toBe('FIRN_RECEIPT_DAMAGED');
      await runTimers(repository);
      const head = await repository.snapshots.readHead('photos');
      expect(head && (await contentOf(repository, head.snapshot))).toMatchObject({ four: 'fourth', 'a/five': 'fifth' });
    }
  });

  it('with locations that make no sense is set aside or published, and its source goes on', patient, async () => {
    const { body } = await original.state.get('receipt-index', index);
    await fc.assert(
      fc.asyncProperty(anyEdits, async (edits) => {
        const repository = await openWithSealed('state', 'receipt-index', index, edited(body, edits, [body]));
        await readReceipt(repository);
        await runTimers(repository);
        await listAll(repository);
      }),
      runs(30),
    );
  });
});

describe('a plan', () => {
  it('that makes no sense is removed or carried out, and its source goes on', patient, async () => {
    const valid = await jsonIn('state', 'plan', plan);
    await fc.assert(
      fc.asyncProperty(anyHostileJson(tempting), async (hostile) => {
        const repository = await openWithSealed('state', 'plan', plan, hostileJson(valid, hostile));
        const codes = await runTimers(repository);
        // A newer Firn may know what it means.
        if (codes.includes('FIRN_REPOSITORY_NEWER')) return;
        // With what it names or without: all that waited is in the latest snapshot by now.
        const head = await repository.snapshots.readHead('photos');
        const content = head && (await contentOf(repository, head.snapshot));
        expect(content).toEqual({ ...files, 'a/one': 'first, changed', four: 'fourth', 'a/five': 'fifth' });
      }),
      {
        ...runs(50),
        // A time that makes no name of a snapshot, and a batch that makes none of a receipt. Found by complete runs.
        examples: [
          [{ json: [{ is: 'replace', at: 6, by: '"+275760-09-13T00:00:00.000Z"', key: '' }], bytes: [] }],
          [{ json: [{ is: 'replace', at: 9, by: `"${'x'.repeat(5_000)}"`, key: '' }], bytes: [] }],
        ],
      },
    );
  });
});

describe('the marker of a repair', () => {
  it('that makes no sense stands for a repair of all roots, which can be finished', patient, async () => {
    const valid = { format: 1, started: '2026-01-01T00:00:00.000Z', owner: 'somebody', roots: ['0', 'f'] };
    const locations = await Array.fromAsync(original.createIndex().locations());
    await fc.assert(
      fc.asyncProperty(anyHostileJson(tempting), async (hostile) => {
        const repository = await openWith('state', 'repair', hostileJson(valid, hostile));
        const lost = await outcomeOf(() => repository.createIndex().lookup([locations[0]?.hash ?? '']));
        expect(codeOf(lost)).toMatch(/FIRN_REPAIR_UNFINISHED|NEWER/);
        const marker = await outcomeOf(() => findRepairMarker(repository.state.store));
        if (!('value' in marker)) return;
        const { store } = repository.state;
        for (const name of await names('chunk-index/', store)) await store.delete(name);
        const roots = marker.value?.roots;
        const repair = await outcomeOf(() => runRepair(repository, { roots }));
        expect(repair).toMatchObject({ value: { finished: true } });
        if (roots !== undefined) expect(roots.length > 0 && roots.every((root) => allRoots.includes(root))).toBe(true);
        else
          expect(await Array.fromAsync(repository.createIndex().locations())).toEqual(
            expect.arrayContaining(locations),
          );
      }),
      runs(40),
    );
  });
});

describe('a lock', () => {
  it('whose record makes no sense is taken, with a greater token, and given back', patient, async () => {
    const valid = { owner: 'a', reason: 'b', since: '2026-01-01T00:00:00Z', token: 4, lease: '0123456789abcdef' };
    await fc.assert(
      fc.asyncProperty(anyHostileJson(), async (hostile) => {
        const repository = await openWith('state', `${LOCK_PREFIX}a`, hostileJson(valid, hostile));
        const before = await outcomeOf(() => repository.locks.owner('a'));
        expect(before).toHaveProperty('value');
        const known = 'value' in before ? (before.value?.token ?? 0) : 0;
        const taken = await repository.locks.acquire('a', { reason: 'test', waitMsMax: 0 });
        expect(taken.token).toBeGreaterThan(known);
        await taken[Symbol.asyncDispose]();
        await using again = await repository.locks.acquire('a', { reason: 'test', waitMsMax: 0 });
        expect(again.token).toBeGreaterThan(taken.token);
      }),
      runs(100),
    );
  });
});

describe('what was queued', () => {
  it('and makes no sense is forgotten', patient, async () => {
    const valid = { format: 1, queued: { [batch]: '2026-01-01T00:00:00.000Z', '0000000009-00000000': '2026-01-01' } };
    await fc.assert(
      fc.asyncProperty(anyHostileJson(tempting), async (hostile) => {
        const repository = await openWith('state', 'queued/photos', hostileJson(valid, hostile));
        await upload(repository, 'photos/six', 'sixth');
        const sealed = await outcomeOf(() => sealDueBatches(repository, { source: 'photos', force: true }));
        if ('error' in sealed) expect(codeOf(sealed)).toMatch(/NEWER/);
        else expect(sealed.value).toHaveLength(1);
      }),
      runs(60),
    );
  });
});

describe('the note of a scan', () => {
  it('tells a time that is past, or nothing', patient, async () => {
    const head = (await original.snapshots.readHead('photos'))?.snapshot;
    if (head === undefined) throw new Error('there is no snapshot');
    const next = { folder: '0123456789abcdef', begun: new Date(), byCtimes: true };
    const begun = '2026-01-01T00:00:00.000Z';
    const valid = { format: 1, snapshot: head.id, folder: next.folder, begun, byCtimes: true, skipped: ['a'] };
    let told = 0;
    await fc.assert(
      fc.asyncProperty(anyHostileJson([...tempting, head.id]), async (hostile) => {
        const repository = await openWithSealed('state', 'scan', 'scans/photos', hostileJson(valid, hostile));
        const last = await findLastScan(repository.state, head, next, {});
        if (last === undefined) return;
        told += 1;
        expect(last.begun.getTime()).toBeLessThanOrEqual(next.begun.getTime());
        for (const path of last.skipped) expect(path).toBeTypeOf('string');
      }),
      { ...runs(100), examples: [[{ json: [], bytes: [] }]] },
    );
    expect(told).toBeGreaterThan(0);
  });
});
