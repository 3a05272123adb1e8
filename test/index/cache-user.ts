/**
 * A process that reads and writes a cache folder at random, for tests in which several do: `cache-user.ts <folder>
 * <bytesMax> <seed> <steps> <bytes of a file>`. Prints how often it found what it looked for, how often that was not what
 * belongs there, and the warnings.
 */
import { DiskCache } from '../../src/index/disk-cache.ts';
import { hashOf } from '../kit/arbitraries.ts';

export interface CacheUse {
  hits: number;
  wrong: number;
  readonly warnings: string[];
}

export interface CacheUser {
  readonly folder: string;
  readonly bytesMax: number;
  readonly seed: string;
  readonly steps: number;
  readonly fileBytes: number;
}

const SHARDS = 32;

/** The sealed bytes of a shard, as far as a cache can tell. */
export function bodyOf(prefix: string, etag: string, bytes: number): Buffer {
  return Buffer.alloc(bytes, hashOf(`${prefix} ${etag}`));
}

export async function useCache({ folder, bytesMax, seed, steps, fileBytes }: CacheUser): Promise<CacheUse> {
  const use: CacheUse = { hits: 0, wrong: 0, warnings: [] };
  const cache = new DiskCache({ folder, bytesMax, scope: 'one', onWarning: ({ code }) => use.warnings.push(code) });
  for (let step = 0; step < steps; step += 1) {
    const [shard = 0, version = 0, op = 0] = Buffer.from(hashOf(`${seed} ${step}`), 'hex');
    const prefix = `a0${(shard % SHARDS).toString(16).padStart(2, '0')}`;
    const etag = `version ${version % 2}`;
    const body = bodyOf(prefix, etag, fileBytes);
    if (op % 2 === 0) await cache.write(prefix, etag, body);
    else {
      const found = await cache.read(prefix, { etag, storedBytes: fileBytes });
      if (found === undefined) continue;
      use.hits += 1;
      if (!found.equals(body)) use.wrong += 1;
    }
  }
  return use;
}

if (import.meta.main) {
  const [folder = '', bytesMax, seed = '', steps, fileBytes] = process.argv.slice(2);
  const user = { folder, bytesMax: Number(bytesMax), seed, steps: Number(steps), fileBytes: Number(fileBytes) };
  process.stdout.write(JSON.stringify(await useCache(user)));
}
