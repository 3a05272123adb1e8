import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { changePassphrase, type KeyRing, openMasterKey } from '../../src/sealing/key-ring.ts';
import { wrapMasterKey } from '../../src/sealing/master-key.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { deathsOf, Life, mortalStore, ProcessDied } from '../kit/mortal.ts';
import { cheapScrypt as scryptCost } from '../kit/repository.ts';

const master = Buffer.alloc(32, 5);
const passphrases = ['one', 'two', 'three'];

async function createRing(data: BlobStore = createMemoryBlobStore()): Promise<KeyRing> {
  const key = await wrapMasterKey('id', master, 'one', scryptCost);
  await data.create(key.name, key.body);
  return { data, repository: 'firn', repositoryId: 'id' };
}

async function opening(ring: KeyRing): Promise<string[]> {
  const opened: string[] = [];
  for (const passphrase of passphrases) {
    const key = await openMasterKey(ring, passphrase).catch(() => undefined);
    if (key?.equals(master)) opened.push(passphrase);
  }
  return opened;
}

describe('changes of a passphrase at the same moment', () => {
  it('leave a passphrase that opens the repository, in whatever order their requests come', async () => {
    const change = fc.record({ from: fc.constantFrom(...passphrases), to: fc.constantFrom(...passphrases) });
    const property = fc.asyncProperty(
      fc.scheduler(),
      fc.array(change, { minLength: 2, maxLength: 4 }),
      async (s, all) => {
        const ring = await createRing();
        const data = new Proxy(ring.data, {
          get(store, key, receiver) {
            const method: unknown = Reflect.get(store, key, receiver);
            if (typeof method !== 'function' || key === 'list') return method;
            return (...args: unknown[]) => s.schedule(Promise.resolve()).then(() => Reflect.apply(method, store, args));
          },
        });
        const changes = all.map((each) => changePassphrase({ ...ring, data }, each, { scryptCost }));
        await s.waitFor(Promise.allSettled(changes));
        expect(await opening(ring)).not.toEqual([]);
      },
    );
    await fc.assert(property, { numRuns: 60 });
  });
});

describe('a change of the passphrase that dies at any request', () => {
  it('leaves the old or the new one, and is finished by the next', async () => {
    const change = { from: 'one', to: 'two' };
    const begin = async (life: Life) => {
      const ring = await createRing();
      await changePassphrase({ ...ring, data: mortalStore(ring.data, life) }, change, { scryptCost }).catch((error) => {
        expect(error).toBeInstanceOf(ProcessDied);
      });
      return ring;
    };
    const whole = new Life();
    await begin(whole);
    const deaths = deathsOf(whole);
    expect(deaths.length).toBeGreaterThan(6);
    for (const death of deaths) {
      const ring = await begin(new Life(death));
      const opened = await opening(ring);
      expect(opened, JSON.stringify(death)).not.toEqual([]);
      if (opened.includes('one')) await changePassphrase(ring, change, { scryptCost });
      expect(await opening(ring)).toEqual(['two']);
      expect(await Array.fromAsync(ring.data.list({ prefix: 'keys/' }))).toHaveLength(1);
    }
  });
});
