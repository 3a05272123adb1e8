/** Which files of a folder are read again, and which are believed to be as the last scan found them. */
import { execFile } from 'node:child_process';
import { mkdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { archiveFolder } from '../../src/archive/archive-folder.ts';
import { FolderListing } from '../../src/archive/folder-listing.ts';
import { folderTag } from '../../src/archive/last-scan.ts';
import { archiveAndPublish } from '../../src/cli/archive-and-publish.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import type { Containers, Repository } from '../../src/repository.ts';
import { SKIPPED_NAMED_MAX, type Snapshot } from '../../src/snapshots/snapshot.ts';
import { intercept } from '../chunks/intercept.ts';
import { temporaryFolder } from '../kit/local-tree.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { archiveAll, contentOf, createTestRepository, upload } from '../kit/repository.ts';

describe('a file that is written again with the same size, in the same step of the clock', () => {
  // In the future, so that no file can have been changed since, but for its time of modification, which is given.
  const FIRST_SCAN_SECONDS = Math.ceil(Date.now() / 1000) + 3600.5;
  const writeAt = async (file: string, text: string, seconds: number) => {
    await writeFile(file, text);
    await utimes(file, seconds, seconds);
  };
  /** A repository whose first scan begins in the middle of a second, and all that follows an hour later. */
  const createForScan = async () => {
    const clock = { seconds: FIRST_SCAN_SECONDS };
    const { repository } = await createTestRepository({ now: () => new Date(clock.seconds * 1000) });
    const folder = await temporaryFolder();
    const firstScan = async () => {
      await archiveAndPublish(repository, folder, 'test');
      clock.seconds += 3600;
    };
    return { repository, folder, firstScan };
  };

  it.each([
    ['in whole seconds, just before the scan', FIRST_SCAN_SECONDS - 0.5],
    ['in whole seconds, before it by less than two', FIRST_SCAN_SECONDS - 1.5],
    ['in fractions, just before it', FIRST_SCAN_SECONDS - 0.01],
    ['while it runs', FIRST_SCAN_SECONDS + 0.25],
  ])('%s, is read again, and its new content is archived', async (_, seconds) => {
    const { repository, folder, firstScan } = await createForScan();
    await writeAt(path.join(folder, 'a'), 'one', seconds);
    await firstScan();
    await writeAt(path.join(folder, 'a'), 'two', seconds);
    const { snapshot } = await archiveAndPublish(repository, folder, 'test');
    expect(await contentOf(repository, snapshot)).toEqual({ a: 'two' });
  });

  it('is read again also where uploads were published in between', async () => {
    const { repository, folder, firstScan } = await createForScan();
    const seconds = FIRST_SCAN_SECONDS + 0.25;
    await writeAt(path.join(folder, 'a'), 'one', seconds);
    await firstScan();
    await writeAt(path.join(folder, 'a'), 'two', seconds);
    for (const name of ['b', 'c']) {
      await upload(repository, `test/${name}`, name);
      await archiveAll(repository, 'test');
      expect((await publishSource(repository, 'test'))?.outcome).toBe('published');
    }
    const { snapshot } = await archiveAndPublish(repository, folder, 'test');
    expect(await contentOf(repository, snapshot)).toEqual({ a: 'two' });
  });

  it('is not asked for where its time is past by more than such a step', async () => {
    const { repository, folder, firstScan } = await createForScan();
    await writeAt(path.join(folder, 'a'), 'one', FIRST_SCAN_SECONDS - 2.5);
    await writeAt(path.join(folder, 'b'), 'one', FIRST_SCAN_SECONDS - 0.03);
    await firstScan();
    const { outcome } = await archiveAndPublish(repository, folder, 'test');
    expect(outcome.totals.files).toBe(0);
    expect(outcome.scan.unchangedFiles).toBe(2);
  });
});

describe('a file that is changed while size, time and mode stay what they are', () => {
  const LONG_AGO_SECONDS = Date.UTC(2020, 0, 1) / 1000;
  const HOUR_MS = 3_600_000;
  const writeAsBefore = async (folder: string, name: string, text: string) => {
    await writeFile(path.join(folder, name), text);
    await utimes(path.join(folder, name), LONG_AGO_SECONDS, LONG_AGO_SECONDS);
  };
  /** Two files, archived while the clock showed this much more than it does. */
  const createScanned = async (aheadMs: number, { containers }: { containers?: Containers } = {}) => {
    const clock = { aheadMs };
    const now = () => new Date(Date.now() + clock.aheadMs);
    const { repository } = await createTestRepository(containers ? { containers, now } : { now });
    const folder = await temporaryFolder();
    await writeAsBefore(folder, 'a', 'one');
    await writeAsBefore(folder, 'b', 'two');
    const { snapshot } = await archiveAndPublish(repository, folder, 'test');
    return { repository, folder, snapshot, clock };
  };
  /** How many of the two files a scan has read, where it found nothing new. */
  const readOf = async (repository: Repository, folder: string): Promise<number> => {
    const { unchanged, outcome } = await archiveAndPublish(repository, folder, 'test');
    expect(unchanged).toBe(true);
    expect(outcome.totals.files + outcome.scan.unchangedFiles).toBe(2);
    return outcome.totals.files;
  };

  it.each([
    ['written, and its time put back', (folder: string) => writeAsBefore(folder, 'a', 'new')],
    [
      'replaced by one of before the scan',
      async (folder: string, other: string) => await rename(path.join(other, 'a'), path.join(folder, 'a')),
    ],
  ])('is archived: %s', async (_, change) => {
    const other = await temporaryFolder();
    await writeAsBefore(other, 'a', 'new');
    const { repository, folder } = await createScanned(0);
    await change(folder, other);
    const { snapshot } = await archiveAndPublish(repository, folder, 'test');
    expect(snapshot.changes).toEqual({ added: 0, changed: 1, removed: 0 });
    expect(await contentOf(repository, snapshot)).toEqual({ a: 'new', b: 'two' });
  });

  it('is not read where the user says that its file system touches files by itself', async () => {
    const { repository, folder } = await createScanned(0);
    await writeAsBefore(folder, 'a', 'new');
    const { unchanged, outcome } = await archiveAndPublish(repository, folder, 'test', { ignoreCtime: true });
    expect(unchanged).toBe(true);
    expect(outcome.totals.files).toBe(0);
  });

  it('is read once, and not by every scan that follows, where its content is what it was', async () => {
    const { repository, folder, snapshot, clock } = await createScanned(-HOUR_MS);
    clock.aheadMs = HOUR_MS;
    expect(await readOf(repository, folder)).toBe(2);
    expect(await readOf(repository, folder)).toBe(0);
    // Nobody looked at what came after that scan began.
    clock.aheadMs = 3 * HOUR_MS;
    await writeFile(path.join(folder, 'a'), 'three');
    const changed = await archiveAndPublish(repository, folder, 'test');
    expect(changed).toMatchObject({ unchanged: false, snapshot: { parent: snapshot.id } });
    expect(await readOf(repository, folder)).toBe(0);
  });

  /** It would do. */
  const anyNote = {
    format: 1,
    snapshot: 'of the head',
    folder: 'this folder',
    begun: new Date(Date.now() + HOUR_MS / 2),
    byCtimes: true,
    skipped: [],
  };
  const noteOf = async (note: unknown, { keys }: Repository, { id }: Snapshot, folder: string) =>
    Buffer.from(
      JSON.stringify(note)
        .replace('of the head', id)
        .replace('this folder', await folderTag(keys, folder)),
    );

  it.each([
    ['is damaged', (sealed: Buffer) => Buffer.concat([sealed.subarray(0, -1), Buffer.of((sealed.at(-1) ?? 0) ^ 1)])],
    ['is cut short', (sealed: Buffer) => sealed.subarray(0, 10)],
    ['was written for another snapshot', { ...anyNote, snapshot: '0123456789abcdef' }],
    ['was written for another folder', { ...anyNote, folder: '0123456789abcdef' }],
    ['rested on mtimes', { ...anyNote, byCtimes: false }],
    ['does not say what it rested on', { ...anyNote, byCtimes: 1 }],
    ['is of a newer Firn', { ...anyNote, format: 2 }],
    ['names no time', { ...anyNote, begun: 'yesterday' }],
    ['does not say what was skipped', { ...anyNote, skipped: undefined }],
    ['has no paths for what was skipped', { ...anyNote, skipped: [null] }],
    ['is no JSON object', []],
  ])('is read again where the note of the scan that read it %s, which is replaced then', async (_, note) => {
    const { repository, folder, snapshot, clock } = await createScanned(-HOUR_MS);
    clock.aheadMs = HOUR_MS;
    expect(await readOf(repository, folder)).toBe(2);
    const { state } = repository;
    const { body, properties } = await state.store.read('scans/test');
    const ifMatch = properties.etag;
    if (typeof note === 'function') await state.store.replace('scans/test', note(Buffer.from(body)), { ifMatch });
    else {
      const body = await noteOf(note, repository, snapshot, folder);
      await state.replace('scan', 'scans/test', body, { ifMatch });
    }
    expect(await readOf(repository, folder)).toBe(2);
    expect(await readOf(repository, folder)).toBe(0);
  });

  it('is not read where the note is one that Firn might have written', async () => {
    const { repository, folder, snapshot, clock } = await createScanned(-HOUR_MS);
    const body = await noteOf(anyNote, repository, snapshot, folder);
    await repository.state.create('scan', 'scans/test', body);
    clock.aheadMs = HOUR_MS;
    expect(await readOf(repository, folder)).toBe(0);
  });

  it('is read by each scan where no note can be left, and nothing fails for that', async () => {
    const account = createMemoryAccount();
    const containers: Containers = {
      container: (name) =>
        intercept(account.container(name), {
          create: async (next, blob, ...rest) => {
            if (blob === 'scans/test') throw new Error('not today');
            return await next(blob, ...rest);
          },
        }),
    };
    const { repository, folder, clock } = await createScanned(-HOUR_MS, { containers });
    clock.aheadMs = HOUR_MS;
    expect(await readOf(repository, folder)).toBe(2);
    expect(await readOf(repository, folder)).toBe(2);
  });

  it.each([
    ['it has found nothing else', 'two'],
    ['it has published what else it found', 'changed'],
  ])('is archived though a scan before has rested on mtimes, where %s', async (_, text) => {
    const { repository, folder, clock } = await createScanned(-HOUR_MS);
    // Later than that scan: it is read by the next in any case.
    await writeFile(path.join(folder, 'b'), 'two');
    await archiveAndPublish(repository, folder, 'test');
    await writeAsBefore(folder, 'a', 'new');
    if (text !== 'two') await writeFile(path.join(folder, 'b'), text);
    clock.aheadMs = HOUR_MS;
    const rested = await archiveAndPublish(repository, folder, 'test', { ignoreCtime: true });
    expect(rested).toMatchObject({ unchanged: text === 'two', outcome: { totals: { files: 1 } } });
    const { snapshot } = await archiveAndPublish(repository, folder, 'test');
    expect(await contentOf(repository, snapshot)).toEqual({ a: 'new', b: text });
  });

  it.each([
    ['a scan before had a clock that was ahead', 24 * HOUR_MS],
    ['the tree comes from uploads', undefined],
  ])('is archived where %s', async (_, aheadMs) => {
    const { repository, folder, clock } = await createScanned(aheadMs ?? 0);
    if (aheadMs === undefined) {
      const mode = ((await stat(path.join(folder, 'a'))).mode & 0o7777).toString(8);
      for (const [name, text] of Object.entries({ a: 'one', b: 'two' })) {
        await upload(repository, `uploaded/${name}`, text, {
          mtime: new Date(LONG_AGO_SECONDS * 1000).toISOString(),
          mode,
        });
      }
      await archiveAll(repository, 'uploaded');
      await publishSource(repository, 'uploaded');
    }
    clock.aheadMs = 0;
    await writeAsBefore(folder, 'a', 'new');
    const { snapshot } = await archiveAndPublish(repository, folder, aheadMs === undefined ? 'uploaded' : 'test');
    expect(snapshot.changes).toEqual({ added: 0, changed: 1, removed: 0 });
    expect(await contentOf(repository, snapshot)).toEqual({ a: 'new', b: 'two' });
  });

  it.each([
    ['a file, and found nothing else', 'a', false, 0],
    ['its folder, and found nothing else', 'd', false, 0],
    ['more than a snapshot names, and found nothing else', 'z', false, SKIPPED_NAMED_MAX],
    ['a file, and was published', 'a', true, 0],
    ['its folder, and was published', 'd', true, 0],
    ['more than a snapshot names, and was published', 'z', true, SKIPPED_NAMED_MAX],
  ])('is archived when it can be read again, where a scan skipped %s', async (_, skipped, published, others) => {
    const { repository, folder, clock } = await createScanned(-HOUR_MS);
    await mkdir(path.join(folder, 'd'));
    for (const name of ['d/c', 'z']) await writeAsBefore(folder, name, 'one');
    await archiveAndPublish(repository, folder, 'test');
    const away = path.join(await temporaryFolder(), 'away');
    await rename(path.join(folder, skipped), away);
    const pipes = [skipped, ...Array.from({ length: others }, (_, n) => `pipe ${n}`)];
    await promisify(execFile)('mkfifo', pipes, { cwd: folder });
    if (published) await writeFile(path.join(folder, 'b'), 'changed');
    clock.aheadMs = HOUR_MS;
    const without = await archiveAndPublish(repository, folder, 'test');
    expect(without.unchanged).toBe(!published);
    expect(without.outcome.skipped.count).toBe(pipes.length);
    const again = await archiveAndPublish(repository, folder, 'test');
    // What is skipped by every scan, such as the pipes themselves, does not make each read all the rest.
    expect(again.outcome.totals.files).toBe(others > 0 ? without.outcome.totals.files : 0);
    for (const pipe of pipes) await rm(path.join(folder, pipe));
    await rename(away, path.join(folder, skipped));
    const file = skipped === 'd' ? 'd/c' : skipped;
    await writeAsBefore(folder, file, 'new');
    clock.aheadMs = 2 * HOUR_MS;
    const { snapshot } = await archiveAndPublish(repository, folder, 'test');
    expect(snapshot.changes).toEqual({ added: 0, changed: 1, removed: 0 });
    expect(await contentOf(repository, snapshot)).toMatchObject({ [file]: 'new' });
  });

  it('is archived though another folder was, to the same source, in which it has not changed', async () => {
    const { repository, folder, clock } = await createScanned(-2 * HOUR_MS);
    const other = await temporaryFolder();
    for (const name of ['a', 'b']) await writeAsBefore(other, name, name === 'a' ? 'one' : 'two');
    await writeAsBefore(folder, 'a', 'new');
    clock.aheadMs = HOUR_MS;
    expect(await readOf(repository, other)).toBe(2);
    const { snapshot } = await archiveAndPublish(repository, folder, 'test');
    expect(await contentOf(repository, snapshot)).toEqual({ a: 'new', b: 'two' });
    await writeFile(path.join(other, 'b'), 'other');
    await writeAsBefore(folder, 'a', 'old');
    clock.aheadMs = 2 * HOUR_MS;
    const others = await archiveAndPublish(repository, other, 'test');
    expect(await contentOf(repository, others.snapshot)).toEqual({ a: 'one', b: 'other' });
    const own = await archiveAndPublish(repository, folder, 'test');
    expect(await contentOf(repository, own.snapshot)).toEqual({ a: 'old', b: 'two' });
  });

  it('is archived when it is back, where it was gone before a scan had read it', async () => {
    const { repository, folder, clock } = await createScanned(-HOUR_MS);
    await writeAsBefore(folder, 'a', 'new');
    const away = path.join(await temporaryFolder(), 'away');
    clock.aheadMs = HOUR_MS;
    const begun = {
      takeListing: async () => {
        const listing = new FolderListing(folder, repository.now());
        // All is listed by then.
        for (let turns = 0; turns < 20; turns += 1) await nextTurn();
        await rename(path.join(folder, 'a'), away);
        return listing;
      },
    };
    const without = await archiveAndPublish(repository, folder, 'test', { begun });
    expect(await contentOf(repository, without.snapshot)).toEqual({ b: 'two' });
    await rename(away, path.join(folder, 'a'));
    clock.aheadMs = 2 * HOUR_MS;
    const { snapshot } = await archiveAndPublish(repository, folder, 'test');
    expect(await contentOf(repository, snapshot)).toEqual({ a: 'new', b: 'two' });
  });

  it('counts as looked at when every file was read, whatever else was asked for', async () => {
    const { repository, folder, clock } = await createScanned(-HOUR_MS);
    clock.aheadMs = HOUR_MS;
    await archiveAndPublish(repository, folder, 'test', { rehash: true, ignoreCtime: true });
    expect(await readOf(repository, folder)).toBe(0);
  });

  it('is archived, like any other change, though an earlier scan of the same snapshot died with a receipt of no difference', async () => {
    const { repository, folder, snapshot, clock } = await createScanned(-HOUR_MS);
    clock.aheadMs = HOUR_MS;
    using listing = new FolderListing(folder, repository.now());
    expect(await archiveFolder(repository, listing, 'test', snapshot)).toMatchObject({ totals: { files: 2 } });
    await writeAsBefore(folder, 'a', 'new');
    await writeFile(path.join(folder, 'c'), 'added');
    clock.aheadMs = 2 * HOUR_MS;
    const later = await archiveAndPublish(repository, folder, 'test');
    expect(later.unchanged).toBe(false);
    expect(await contentOf(repository, later.snapshot)).toEqual({ a: 'new', b: 'two', c: 'added' });
  });
});
