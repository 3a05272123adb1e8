import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { keysFromMaster, plainKeys } from '../../src/sealing/keys.ts';
import { openBytes, SealedBlobs, sealBytes } from '../../src/sealing/sealed-blobs.ts';
import { intercepted } from '../journal/journal-kit.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';

const keys = keysFromMaster(Buffer.alloc(32, 5));
const name = 'filetrees/abc';

describe('sealed bytes', () => {
  it.each([keys, plainKeys])('come back as they were', async (repositoryKeys) => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 2000 }), async (body) => {
        const sealed = await sealBytes(repositoryKeys, { kind: 'filetree', name }, body);
        const opened = await openBytes(repositoryKeys, { kind: 'filetree', name }, sealed);
        expect(opened.equals(body)).toBe(true);
      }),
    );
  });

  it.each([0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (2 << 20) + 5])('come back when they are %i', async (bytes) => {
    const body = Buffer.alloc(bytes, 'pattern');
    const sealed = await sealBytes(keys, { kind: 'filetree', name }, body);
    expect((await openBytes(keys, { kind: 'filetree', name }, sealed)).equals(body)).toBe(true);
  });
});

describe('sealed blobs', () => {
  it('are created once, and what was there first stays', async () => {
    const blobs = new SealedBlobs(createMemoryBlobStore(), keys);
    const created = await blobs.create('filetree', name, Buffer.from('first'));
    expect(await blobs.create('filetree', name, Buffer.from('second'))).toBeUndefined();
    const found = await blobs.get('filetree', name);
    expect(found).toMatchObject({ etag: created?.etag, storedBytes: created?.storedBytes });
    expect(found.body.toString()).toBe('first');
  });

  it('are replaced only at the ETag that is named', async () => {
    const blobs = new SealedBlobs(createMemoryBlobStore(), keys);
    const created = await blobs.create('head', name, Buffer.from('first'));
    const replaced = await blobs.replace('head', name, Buffer.from('second'), { ifMatch: created!.etag });
    expect(replaced).toBeDefined();
    expect(await blobs.replace('head', name, Buffer.from('third'), { ifMatch: created!.etag })).toBeUndefined();
    expect(await blobs.replace('head', 'heads/none', Buffer.from('x'), { ifMatch: created!.etag })).toBeUndefined();
    expect((await blobs.get('head', name)).body.toString()).toBe('second');
  });

  it('that are missing are found to be, or asked for in vain', async () => {
    const blobs = new SealedBlobs(createMemoryBlobStore(), keys);
    expect(await blobs.find('filetree', name)).toBeUndefined();
    await expect(blobs.get('filetree', name)).rejects.toThrow(expect.objectContaining({ code: 'FIRN_BLOB_MISSING' }));
  });

  it('that were put under another name are refused', async () => {
    const store = createMemoryBlobStore();
    const blobs = new SealedBlobs(store, keys);
    await blobs.create('filetree', name, Buffer.from('body'));
    await store.create('filetrees/other', (await store.read(name)).body);
    const refused = expect.objectContaining({
      code: 'FIRN_SEAL_BROKEN',
      details: expect.objectContaining({ blob: 'filetrees/other' }),
    });
    await expect(blobs.get('filetree', 'filetrees/other')).rejects.toThrow(refused);
  });

  it.each([keys, plainKeys])(
    'that were damaged on the way are asked for once more, whatever bit it was',
    async (of) => {
      const store = createMemoryBlobStore();
      await new SealedBlobs(store, of).create('head', name, Buffer.from('body'));
      const { body: whole, properties } = await store.read(name);
      for (let bit = 0; bit < whole.length * 8; bit += 1) {
        let damaged = 0;
        const instead = async (call: string) => {
          if (call !== 'read' || damaged === damagedMax) return undefined;
          damaged += 1;
          const body = Buffer.from(whole);
          body[bit >> 3]! ^= 1 << (bit & 7);
          return { body, properties };
        };
        const blobs = new SealedBlobs(intercepted(store, { instead }), of);
        let damagedMax = 1;
        expect((await blobs.get('head', name)).body.toString()).toBe('body');
        damagedMax = 10;
        damaged = 0;
        expect(await blobs.inspect('head', name)).toMatchObject({ etag: properties.etag, error: expect.anything() });
        expect(damaged).toBe(2);
      }
    },
  );

  it('that lie in the Archive tier are reported as offline', async () => {
    const blobs = new SealedBlobs(createMemoryBlobStore(), keys);
    await blobs.create('filetree', name, Buffer.from('body'), { tier: 'Archive' });
    await expect(blobs.find('filetree', name)).rejects.toThrow(expect.objectContaining({ code: 'FIRN_BLOB_OFFLINE' }));
  });
});
