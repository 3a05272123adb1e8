/**
 * Every blob of a small encrypted repository, changed in every way (`one-blob.ts`), and then read, gone on with, and repaired.
 * `npm run test:crash` tries every case; the normal run every so many of them. What comes of an older version under its own
 * name is in `replay.test.ts` more exactly.
 */
import assert from 'node:assert/strict';
import { afterAll, describe, expect, it } from 'vitest';
import { findEntry } from '../../src/filetree/walk.ts';
import { isComplete } from '../crash/complete.ts';
import { testSeed } from '../kit/random.ts';
import { patient, watchMemory } from './hostile.ts';
import { type Case, casesOf, type Kind } from './one-blob.ts';
import { copyOf, createWorld, openWorld, type Reading, variants, visit, type World } from './small-world.ts';

const STRIDE = isComplete ? 1 : 199;
const FIRST = (testSeed ?? 0) % STRIDE;

/** All of it can be made anew, or its work be done again. */
function isHealed(kind: Kind): boolean {
  return !['config', 'key', 'chunk', 'thin', 'filetree', 'snapshot', 'partition', 'manifest'].includes(kind);
}

/** The journal has no key: who may write to the state container may record and forget. Only chance is found out. */
function isBelieved({ kind, way }: Case): boolean {
  return kind === 'manifest' || (kind === 'partition' && way !== 'flip');
}

/** Goes on with a changed world, and checks at every step what must hold. @returns what somebody was told. */
async function liveThrough(world: World, one: Case, before: Reading, after: Reading): Promise<string[]> {
  const told: string[] = [];
  const changed = copyOf(world);
  await one.change(changed.account);
  const { attempt, readAll, runTimers, repair } = visit(changed, told);
  const uploads = await uploadsOf(changed);

  async function check(): Promise<Reading> {
    const reading = await readAll();
    for (const [name, { snapshot, files }] of reading.snapshots) {
      const original = before.snapshots.get(name);
      if (original) assert.deepEqual(snapshot, original.snapshot);
      for (const [path, digest] of Object.entries(files)) {
        if (original) assert.equal(digest, original.files[path], `${name} ${path}`);
        const known = world.versions.get(`${snapshot.source}/${path}`);
        assert(known?.has(digest), `${snapshot.source}/${path} has a content that it never had`);
      }
      if (original && told.length === 0) assert.deepEqual(files, original.files);
    }
    // Nothing but its successor's `parent` tells of a snapshot that is gone.
    const isGone = (name: string) => !reading.snapshots.has(name) && one.label !== `${name}: gone`;
    const missing = [...before.snapshots.keys()].filter(isGone);
    if (told.length === 0) assert.deepEqual(missing, []);
    return reading;
  }
  await check();
  await runTimers();
  const published = await check();
  if (told.length === 0 && !isBelieved(one)) assert.deepEqual(published.latest, after.latest);
  // Whatever was told: an upload leaves the inbox only for a snapshot that holds it.
  const left = await uploadsOf(changed);
  const consumed = [...uploads].filter(([name]) => !left.has(name));
  const repository = consumed.length === 0 ? undefined : await attempt(() => openWorld(changed));
  for (const [name, content] of repository ? consumed : []) {
    const [source = '', ...path] = name.split('/');
    const held = await attempt(async () => {
      const root = (await repository?.snapshots.readHead(source))?.snapshot.root;
      const { file } = (root && repository && (await findEntry(repository.filetrees, root, path.join('/')))) || {};
      return file?.type === 'file' && file.content === repository?.keys.hash(content);
    });
    assert(held !== false, `${name} left the inbox, and the snapshot does not hold it`);
  }
  await repair();
  await runTimers();
  const repaired = await check();
  if (isHealed(one.kind) || (told.length === 0 && !isBelieved(one))) {
    assert.deepEqual(repaired.latest, after.latest, `told: ${told.join()}`);
  }
  return told;
}

async function uploadsOf({ account }: World): Promise<Map<string, Buffer>> {
  const inbox = account.container('firn-inbox');
  const names = await Array.fromAsync(inbox.list(), ({ name }) => name);
  return new Map(await Promise.all(names.map(async (name) => [name, (await inbox.read(name)).body] as const)));
}

afterAll(watchMemory());

describe.each(variants)('an encrypted repository ($name)', (variant) => {
  it('of which one blob was changed gives the right content, or says that it cannot', patient, async () => {
    const world = await createWorld(variant);
    const whole = copyOf(world);
    const told: string[] = [];
    const { readAll, runTimers } = visit(whole, told);
    const before = await readAll();
    await runTimers();
    const after = await readAll();
    expect(told).toEqual([]);
    const cases = (await casesOf(world)).filter((_, at) => at % STRIDE === FIRST);
    const count = { tried: 0, unnoticed: 0 };
    const failures: string[] = [];
    for (const one of cases) {
      try {
        const heard = await liveThrough(world, one, before, after);
        count.tried += 1;
        if (heard.length === 0) count.unnoticed += 1;
      } catch (error) {
        failures.push(`${one.way} ${one.label}: ${error instanceof Error ? error.message : error}`);
      }
    }
    process.stdout.write(`${variant.name}: ${count.tried} changes, ${count.unnoticed} of them without effect\n`);
    expect(failures).toEqual([]);
  });
});
