import { execFile } from 'node:child_process';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { LOCATION_BYTES } from '../../src/chunks/location.ts';
import { chooseEvicted, type UsedFile } from '../../src/index/bounded-folder.ts';
import { CACHE_PARTS, DiskCache } from '../../src/index/disk-cache.ts';
import { hexDigits } from '../../src/index/root-view.ts';
import { SHARD_ENTRIES_MAX } from '../../src/index/shard.ts';
import { numberSettings } from '../../src/settings.ts';
import { temporaryPath } from '../../src/storage/local-files.ts';
import { temporaryFolder } from '../kit/local-tree.ts';
import { bodyOf, type CacheUse, useCache } from './cache-user.ts';

/** What `mkdir` says, one call after another, before it makes a folder. */
const refusals = vi.hoisted((): string[] => []);

vi.mock('node:fs/promises', async (original) => {
  const fs = await original<typeof import('node:fs/promises')>();
  return {
    ...fs,
    async mkdir(...args: Parameters<typeof mkdir>) {
      const code = refusals.pop();
      if (code !== undefined) throw Object.assign(new Error(code), { code });
      return await fs.mkdir(...args);
    },
  };
});

const run = promisify(execFile);
const cacheUser = fileURLToPath(new URL('cache-user.ts', import.meta.url));

/** Names of the files, wherever they lie below the folder. */
async function namesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map(({ name }) => name);
}

/** What the names say is what the files have: the tests of reading hold that. */
async function bytesIn(folder: string): Promise<number> {
  return (await namesIn(folder)).reduce((total, name) => total + Number(name.split('.').at(-1)), 0);
}

describe('what goes from a folder over its limit', () => {
  const anyFiles = fc.uniqueArray(
    fc.record({ name: fc.string(), bytes: fc.nat(400), usedMs: fc.nat(1000) }) satisfies fc.Arbitrary<UsedFile>,
    { selector: ({ usedMs }) => usedMs },
  );

  test('was used before all that stays, and makes room; what was used last stays as long as it fits', () => {
    fc.assert(
      fc.property(anyFiles, fc.integer({ min: 1, max: 1000 }), (files, bytesMax) => {
        const evicted = new Set(chooseEvicted(files, bytesMax));
        const kept = files.filter((file) => !evicted.has(file));
        const total = kept.reduce((sum, { bytes }) => sum + bytes, 0);
        expect(total).toBeLessThanOrEqual(kept.length <= 1 ? bytesMax : (bytesMax * 7) / 8);
        const firstKept = Math.min(...kept.map(({ usedMs }) => usedMs));
        const lastOut = Math.max(...[...evicted].map(({ usedMs }) => usedMs));
        expect(firstKept).toBeGreaterThan(lastOut);
        const latest = files.toSorted((a, b) => b.usedMs - a.usedMs)[0];
        if (latest !== undefined && latest.bytes <= bytesMax) expect(kept).toContain(latest);
        // No more goes than has to.
        const next = [...evicted].toSorted((a, b) => b.usedMs - a.usedMs)[0];
        if (next !== undefined && kept.length > 0) expect(total + next.bytes).toBeGreaterThan((bytesMax * 7) / 8);
      }),
    );
  });
});

describe('a cache folder', () => {
  const anyStep = fc.record({
    op: fc.constantFrom('write', 'write', 'read', 'read', 'remove'),
    scope: fc.constantFrom(0, 1),
    shard: fc.nat(7),
    version: fc.nat(1),
    bytes: fc.constantFrom(1, 150, 300, 300, 500, 1100),
  });

  test('is never above its limit after a write, keeps what was used last, and gives nothing but what was written', async () => {
    const partBytesMax = 1000;
    await fc.assert(
      fc.asyncProperty(fc.array(anyStep, { minLength: 10, maxLength: 40 }), async (steps) => {
        const folder = await temporaryFolder();
        let clock = 0;
        const caches = ['one', 'two'].map(
          (scope) => new DiskCache({ folder, bytesMax: CACHE_PARTS * partBytesMax, scope, now: () => (clock += 1) }),
        );
        const used = new Map<string, number>();
        for (const { op, scope, shard, version, bytes } of steps) {
          const cache = caches[scope]!;
          const prefix = `a0${shard}`;
          const body = bodyOf(`${scope} ${prefix}`, `${version}`, bytes);
          const name = `${scope} ${prefix} ${version} ${bytes}`;
          const versions = [...used.keys()].filter((each) => each.startsWith(`${scope} ${prefix} `));
          if (op === 'remove') await cache.remove(prefix);
          else if (op === 'write') await cache.write(prefix, `${version}`, body);
          else {
            // Mostly what was written, whether or not it is still there.
            const [, , etag = `${version}`, size = bytes] = versions[0]?.split(' ') ?? [];
            const found = await cache.read(prefix, { etag, storedBytes: Number(size) });
            const written = bodyOf(`${scope} ${prefix}`, etag, Number(size));
            expect(found === undefined || found.equals(written)).toBe(true);
            if (found !== undefined) used.set(versions[0] ?? name, clock);
          }
          if (op !== 'read') for (const each of versions) used.delete(each);
          if (op === 'write' && bytes <= partBytesMax) {
            expect((await cache.read(prefix, { etag: `${version}`, storedBytes: bytes }))?.equals(body)).toBe(true);
            used.set(name, clock);
          }
          expect(await bytesIn(folder)).toBeLessThanOrEqual(partBytesMax);
        }
        // What is there now, from the one used least recently on, was used after everything that went.
        const last = [...used].toSorted(([, a], [, b]) => b - a);
        const there: boolean[] = [];
        for (const [name] of last) {
          const [scope = '', prefix = '', etag = '', bytes] = name.split(' ');
          const found = await caches[Number(scope)]!.read(prefix, { etag, storedBytes: Number(bytes) });
          there.push(found !== undefined);
        }
        expect(there).toEqual(there.toSorted((a, b) => Number(b) - Number(a)));
      }),
      { numRuns: 25 },
    );
  });

  test('holds its limit over all roots and repositories', async () => {
    const folder = await temporaryFolder();
    const parts = [...hexDigits, ...hexDigits.flatMap((digit) => hexDigits.map((next) => digit + next))];
    for (const scope of ['one', 'two', 'three']) {
      const cache = new DiskCache({ folder, bytesMax: CACHE_PARTS * 250, scope });
      await Promise.all(parts.map((prefix) => cache.write(prefix, '1', Buffer.alloc(100))));
    }
    expect(await namesIn(folder)).toHaveLength(2 * CACHE_PARTS);
  });

  test('that is as small as may be has room for the largest shard in each part', () => {
    const sealedBytesMax = SHARD_ENTRIES_MAX * LOCATION_BYTES + 1024;
    expect(numberSettings.cacheFolderBytesMax.min / CACHE_PARTS).toBeGreaterThan(sealedBytesMax);
  });

  test('has a folder for the first two digits of a shard, so that a write looks at a 256th of the files', async () => {
    const folder = await temporaryFolder();
    const cache = new DiskCache({ folder, bytesMax: CACHE_PARTS * 1000, scope: 'one' });
    for (const prefix of ['a', 'a0', 'a00', 'a01f', 'a1', 'b1c2']) await cache.write(prefix, '1', Buffer.alloc(10));
    const parts = (await readdir(path.join(folder, 'chunk-index'))).sort();
    expect(parts).toEqual(['a', 'a0', 'a1', 'b1']);
    const counts = await Promise.all(
      parts.map(async (part) => (await namesIn(path.join(folder, 'chunk-index', part))).length),
    );
    expect(counts).toEqual([1, 3, 1, 1]);
  });

  test('keeps a limit that was lowered, from the first use on, even when it is only read', async () => {
    const folder = await temporaryFolder();
    const write = new DiskCache({ folder, bytesMax: CACHE_PARTS * 1000, scope: 'one' });
    for (let n = 0; n < 10; n += 1) await write.write(`a0${n}`, '1', Buffer.alloc(100));
    const read = new DiskCache({ folder, bytesMax: CACHE_PARTS * 400, scope: 'one' });
    await read.read('a00', { etag: '1', storedBytes: 100 });
    expect(await bytesIn(folder)).toBeLessThanOrEqual(400);
  });

  test('loses the temporary files of writers that died, but not those of writers at work, nor files of others', async () => {
    const folder = await temporaryFolder();
    const root = path.join(folder, 'chunk-index', 'a');
    await mkdir(root, { recursive: true });
    const temporary = temporaryPath(root);
    await writeFile(temporary, 'left');
    await writeFile(path.join(root, 'a note'), 'mine');
    const options = { folder, bytesMax: CACHE_PARTS * 100, scope: 'one' };
    await new DiskCache(options).write('a', '1', Buffer.alloc(90));
    expect(await readdir(root)).toContain(path.basename(temporary));
    const later = Date.now() + 2 * 60 * 60 * 1000;
    await new DiskCache({ ...options, now: () => later }).read('a', { etag: '1', storedBytes: 90 });
    expect((await readdir(root)).sort()).toEqual(['a note', expect.stringMatching(/^a\..*\.90$/)]);
  });

  test('is shared by processes that read, write and make room at once', async () => {
    const folder = await temporaryFolder();
    const bytesMax = CACHE_PARTS * 200_000;
    const user = { folder, bytesMax, steps: 400, fileBytes: 9_000 };
    const others = ['a', 'b'].map(async (seed): Promise<CacheUse> => {
      const args = [cacheUser, folder, String(bytesMax), seed, String(user.steps), String(user.fileBytes)];
      return JSON.parse((await run(process.execPath, args)).stdout) as CacheUse;
    });
    const uses = await Promise.all([...others, ...['c', 'd', 'e'].map((seed) => useCache({ ...user, seed }))]);
    for (const use of uses) {
      expect(use).toMatchObject({ wrong: 0, warnings: [] });
      expect(use.hits).toBeGreaterThan(0);
    }
    expect(await bytesIn(folder)).toBeLessThanOrEqual(200_000);
    expect((await namesIn(folder)).every((name) => name.startsWith('a'))).toBe(true);
  });

  test('may be deleted again and again while it is used', async () => {
    const folder = await temporaryFolder();
    let done = false;
    const using = Promise.all(
      ['a', 'b', 'c'].map((seed) =>
        useCache({ folder, bytesMax: CACHE_PARTS * 200_000, seed, steps: 200, fileBytes: 2_000 }),
      ),
    ).finally(() => {
      done = true;
    });
    let deleted = 0;
    for (; !done; deleted += 1) {
      await rm(path.join(folder, 'chunk-index'), { recursive: true, force: true }).catch((error) => {
        // A file came into it meanwhile.
        if (error.code !== 'ENOTEMPTY') throw error;
      });
    }
    expect(deleted).toBeGreaterThan(5);
    for (const use of await using) expect(use).toMatchObject({ wrong: 0, warnings: [] });
  });

  test('may be deleted each time it is made, a few times in a row', async () => {
    const folder = await temporaryFolder();
    const warnings: string[] = [];
    const cache = new DiskCache({
      folder,
      bytesMax: CACHE_PARTS * 1000,
      scope: 'one',
      onWarning: ({ code }) => warnings.push(code),
    });
    refusals.push('ENOTDIR', 'ENOTDIR', 'ENOTDIR', 'ENOTDIR', 'ENOTDIR');
    await cache.write('a', '1', Buffer.alloc(10));
    expect(refusals).toEqual([]);
    expect(warnings).toEqual([]);
    expect(await namesIn(folder)).toHaveLength(1);
  });

  test.runIf(process.platform !== 'win32')('on a disk that is full is given up once, and nothing is left', async () => {
    const folder = await temporaryFolder();
    // No file may have more than 4 blocks of 512 or 1,024 bytes: the system refuses the write, as on a full disk.
    const limited = ['-c', 'ulimit -f 4 && exec "$@"', 'sh', process.execPath];
    const args = [...limited, cacheUser, folder, String(CACHE_PARTS * 200_000), 'a', '100', '9000'];
    const use = JSON.parse((await run('sh', args)).stdout) as CacheUse;
    expect(use).toEqual({ hits: 0, wrong: 0, warnings: ['FIRN_CACHE_UNUSABLE'] });
    expect(await namesIn(folder)).toEqual([]);
  });
});
