/**
 * An older version of a blob, brought back under its own name by who can write to storage. A seal is good for ever, so what
 * notices it is what other blobs say, or nothing: this is what happens with each kind.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { openRepository } from '../../src/repository.ts';
import { readSettings } from '../../src/settings.ts';
import type { Snapshot } from '../../src/snapshots/snapshot.ts';
import { type Case, casesOf, type Kind } from './one-blob.ts';
import {
  copyOf,
  createWorld,
  digestOf,
  OLD_PASSPHRASE,
  openWorld,
  type Reading,
  variants,
  visit,
  type World,
} from './small-world.ts';

let world: World;
let cases: readonly Case[];
/** As it is, and when what waits is published. */
let before: Reading;
let after: Reading;

beforeAll(async () => {
  world = await createWorld(variants[0]!);
  cases = await casesOf(world);
  const { readAll, runTimers } = visit(copyOf(world), []);
  before = await readAll();
  await runTimers();
  after = await readAll();
});

interface Replayed extends ReturnType<typeof visit> {
  readonly changed: World;
  /** What was told since the last time that this was asked. */
  readonly heard: () => string[];
  readonly label: string;
}

/** Every case of the kinds; the world is as new for each. */
async function replay(kinds: readonly Kind[], live: (replayed: Replayed) => Promise<void>): Promise<number> {
  const those = cases.filter(({ kind, way }) => kinds.includes(kind) && (way === 'replay' || way === 'revive'));
  for (const { label, change } of those) {
    const changed = copyOf(world);
    await change(changed.account);
    const told: string[] = [];
    await live({ ...visit(changed, told), changed, label, heard: () => told.splice(0) });
  }
  return those.length;
}

function chainOf({ snapshots }: Reading, source: string): Snapshot[] {
  return [...snapshots.values()].map(({ snapshot }) => snapshot).filter((each) => each.source === source);
}

describe('brought back as it was', () => {
  it('a head shows an older snapshot as the latest, until the next publish goes on from the newest', async () => {
    const count = await replay(['head'], async ({ readAll, runTimers, heard }) => {
      const shown = await readAll();
      expect(shown.snapshots).toEqual(before.snapshots);
      expect(shown.latest.photos).not.toEqual(before.latest.photos);
      await runTimers();
      const published = await readAll();
      expect(published.latest).toEqual(after.latest);
      const ids = chainOf(published, 'photos').map(({ id }) => id);
      expect(chainOf(published, 'photos').map(({ parent }) => parent)).toEqual([undefined, ...ids.slice(0, -1)]);
      expect(heard()).toEqual([]);
    });
    expect(count).toBeGreaterThan(3);
  });

  it('a head whose later snapshots were deleted too is a source rolled back, and nobody is told', async () => {
    const newest = [...before.snapshots].findLast(([, { snapshot }]) => snapshot.source === 'photos')?.[0] ?? '';
    let rolledBack = 0;
    await replay(['head'], async ({ changed, readAll, heard, label }) => {
      // The version that names the one before.
      if (!label.endsWith('moment 4')) return;
      rolledBack += 1;
      await changed.account.container('firn-data').delete(newest);
      const shown = await readAll();
      expect(chainOf(shown, 'photos')).toEqual(chainOf(before, 'photos').slice(0, -1));
      expect(shown.latest.photos).toEqual(
        [...shown.snapshots.values()].findLast(({ snapshot }) => snapshot.source === 'photos')?.files,
      );
      expect(heard()).toEqual([]);
    });
    expect(rolledBack).toBe(1);
  });

  it('a shard gives no wrong chunk: one that it lacks is told, and comes back with a repair', async () => {
    let lacking = 0;
    const count = await replay(['shard'], async ({ readAll, runTimers, repair, heard }) => {
      await readAll();
      const told = heard();
      lacking += told.length;
      expect(told.filter((code) => code !== 'FIRN_CHUNK_MISSING')).toEqual([]);
      await runTimers();
      await repair();
      heard();
      expect((await readAll()).latest).toEqual(after.latest);
      expect(heard()).toEqual([]);
    });
    expect(lacking).toBeGreaterThan(0);
    expect(count).toBeGreaterThan(lacking);
  });

  it('a receipt or a plan is not published again', async () => {
    const kinds = ['receipt', 'receipt index', 'changes', 'plan'] as const;
    const count = await replay(kinds, async ({ readAll, runTimers, heard }) => {
      await runTimers();
      const published = await readAll();
      expect(published.latest).toEqual(after.latest);
      expect(published.snapshots.size).toBe(after.snapshots.size);
      expect(heard()).toEqual([]);
    });
    expect(count).toBeGreaterThan(10);
  });

  it('a key blob lets in who knows its passphrase', async () => {
    const { settings } = readSettings({ FIRN_PASSPHRASE: OLD_PASSPHRASE });
    await expect(openRepository(copyOf(world).account, settings)).rejects.toMatchObject({
      code: 'FIRN_PASSPHRASE_WRONG',
    });
    const count = await replay(['key'], async ({ changed }) => {
      expect((await openRepository(changed.account, settings)).keys.encrypted).toBe(true);
    });
    expect(count).toBe(1);
  });

  it('a partition of the journal that was published is archived again: what its uploads are now, and its removals', async () => {
    const latest: unknown[] = [];
    await replay(['partition'], async ({ readAll, runTimers, heard, label }) => {
      if (!label.includes('back from')) return;
      await runTimers();
      const published = await readAll();
      latest.push(published.latest.photos);
      for (const [path, digest] of Object.entries(after.latest.photos ?? {})) {
        expect(published.latest.photos?.[path]).toBe(digest);
      }
      expect(heard()).toEqual([]);
    });
    // The first batch uploaded what a later one removed, and it is in the inbox still.
    const returned = { ...after.latest.photos, 'a/two': expect.any(String) };
    expect(latest).toContainEqual(returned);
    expect(latest).toContainEqual(after.latest.photos);
  });

  it('the partition that is being written loses the records since; what they announced stays in the inbox', async () => {
    let lost = 0;
    await replay(['partition'], async ({ changed, readAll, runTimers, heard, label }) => {
      if (!label.includes('as it was')) return;
      await runTimers();
      const { 'd/nine': nine, ...others } = after.latest.photos ?? {};
      expect((await readAll()).latest.photos).toEqual(others);
      const { body } = await changed.account.container('firn-inbox').read('photos/d/nine');
      expect(digestOf(body)).toBe(nine);
      expect(heard()).toEqual([]);
      lost += 1;
    });
    expect(lost).toBe(1);
  });

  it('a manifest of the journal takes up what it does not name, and tells of what it names and is gone', async () => {
    let held = 0;
    const count = await replay(['manifest'], async ({ changed, readAll, runTimers, heard }) => {
      await runTimers();
      const told = heard();
      expect(told.filter((code) => code !== 'FIRN_JOURNAL_DAMAGED')).toEqual([]);
      for (const source of told.length > 0 ? ['photos', 'docs'] : []) {
        const { journalOf } = await openWorld(changed);
        const missing = (await journalOf(source).inspect()).partitions.filter((each) => each.missing);
        for (const { batch } of missing) if (batch) await journalOf(source).forget(batch);
        held += missing.length;
      }
      await runTimers();
      expect((await readAll()).latest).toEqual(after.latest);
      expect(heard()).toEqual([]);
    });
    expect(held).toBeGreaterThan(0);
    expect(count).toBeGreaterThan(5);
  });
});
