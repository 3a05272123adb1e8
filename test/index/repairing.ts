/** Repositories whose chunk index is broken and brought back. */
import { publishSource } from '../../src/publish/publish-source.ts';
import type { Repository } from '../../src/repository.ts';
import type { Snapshot } from '../../src/snapshots/snapshot.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { archiveAll, upload } from '../kit/repository.ts';

export async function publishFiles(
  repository: Repository,
  source: string,
  files: Record<string, string | Buffer>,
): Promise<Snapshot> {
  for (const [path, content] of Object.entries(files)) await upload(repository, `${source}/${path}`, content);
  await archiveAll(repository, source);
  const outcome = await publishSource(repository, source);
  if (outcome?.outcome !== 'published') throw new Error('nothing was published');
  return outcome.snapshot;
}

export async function namesOf(store: BlobStore, prefix: string): Promise<string[]> {
  return (await Array.fromAsync(store.list({ prefix }))).map(({ name }) => name);
}

export async function deleteAll(store: BlobStore, prefix: string): Promise<void> {
  for (const name of await namesOf(store, prefix)) await store.delete(name);
}

/** All entries of the index as a fresh instance reads them. */
export async function entriesOf(repository: Repository): Promise<string[]> {
  const lines: string[] = [];
  for await (const location of repository.createIndex().locations()) lines.push(JSON.stringify(location));
  return lines.sort();
}

type Method = (...args: never[]) => unknown;

/** The store of a process that dies at its n-th request: before it has an effect, or after. */
export function mortal(store: BlobStore, death: { left: number; when: 'before' | 'after' }): BlobStore {
  const die = () => {
    throw new Error('the process is dead');
  };
  const step = () => {
    death.left -= 1;
    if (death.left < 0 || (death.left === 0 && death.when === 'before')) die();
  };
  return new Proxy(store, {
    get(target, key) {
      const method = Reflect.get(target, key) as Method | string;
      if (typeof method !== 'function') return method;
      if (key === 'list') {
        return (...args: never[]) => {
          step();
          if (death.left <= 0) die();
          return method.apply(target, args);
        };
      }
      return async (...args: never[]) => {
        step();
        const result = await method.apply(target, args);
        if (death.left <= 0) die();
        return result;
      };
    },
  });
}
