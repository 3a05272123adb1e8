/** Tables of chunk locations, the metadata of chunk blobs, and readers of chunks and shards that are told wrong places. */
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { parseChunkBlob, thinBlobName } from '../../src/chunks/chunk-blobs.ts';
import { createChunkReader, READ_BYTES_MAX } from '../../src/chunks/chunk-reader.ts';
import { type ChunkLocation, LocationTable } from '../../src/chunks/location.ts';
import { ChunkIndex } from '../../src/index/chunk-index.ts';
import { repairIndex } from '../../src/index/repair.ts';
import { plainKeys } from '../../src/sealing/keys.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import type { BlobMetadata, BlobStore } from '../../src/storage/blob-store.ts';
import { writeChunks } from '../chunks/writing.ts';
import { hashOf, locationOf } from '../kit/arbitraries.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { anyEdits, edited, outcomeOf, patient, runs, watchMemory } from './hostile.ts';

afterAll(watchMemory());

const NUMBERS = ['0', '1', '-1', '1.5', '1e3', '', ' ', '0x10', '007', '٣', 'NaN', '4294967295', '4294967296'].concat([
  '99999999',
  '16777216',
  '999999999999999',
  '9007199254740993',
  '1:1',
  '1:1,1:1',
  ',',
  ':',
  '5:100',
]);

function indexOver(state: BlobStore): ChunkIndex {
  return new ChunkIndex(new SealedBlobs(state, plainKeys), { cacheBytesMax: 1024 * 1024, shardEntriesMax: 4 });
}

/** Writes over a blob as nobody could who keeps to the rules. */
async function overwrite(store: BlobStore, name: string, body: Buffer, metadata: BlobMetadata = {}): Promise<void> {
  await store.delete(name);
  await store.create(name, body, { metadata });
}

describe('a table of chunk locations', () => {
  const tables = [0, 1, 2, 9].map((count) =>
    LocationTable.of(Array.from({ length: count }, (_, n) => locationOf(hashOf(`${count} ${n}`), n * 1000))),
  );
  const bytesOfTables = tables.map(({ bytes }) => bytes);

  it('that was changed is one whose entries can be found and written again, or is refused', patient, async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: tables.length - 1 }), anyEdits, async (at, edits) => {
        const valid = bytesOfTables[at] ?? Buffer.alloc(0);
        const outcome = await outcomeOf(() => LocationTable.from('a table', edited(valid, edits, bytesOfTables)));
        if (!('value' in outcome)) {
          expect(outcome.error).toMatchObject({ code: expect.stringMatching(/FIRN_BLOB_DAMAGED|NEWER/) });
          return;
        }
        const table = outcome.value;
        const locations = [...table.locations()];
        expect(locations).toHaveLength(table.count);
        for (const [n, location] of locations.entries()) {
          expect(location.hash > (locations[n - 1]?.hash ?? '')).toBe(true);
          expect(table.find(location.hash)).toEqual(location);
          const { frameOffset, frameBytes, rawBytes, offsetInFrame } = location;
          for (const each of [frameOffset, frameBytes, rawBytes, offsetInFrame]) {
            expect(Number.isSafeInteger(each) && each >= 0).toBe(true);
          }
        }
        expect([...LocationTable.of(locations).locations()]).toEqual(locations);
        expect([...table.locationsUnder('')]).toEqual(locations);
      }),
      runs(300),
    );
  });
});

/** Chunks of all kinds in a small repository: large ones, bundled ones, and pointers in both forms. */
async function createChunks(thinChunks: 'packed' | 'blob') {
  const account = createMemoryAccount();
  const chunks = [100, 600, 3000, 9000, 40, 12_000, 2000].map((bytes, n) => Buffer.alloc(bytes, `chunk ${n} `));
  const data = account.container('data');
  const { locations } = await writeChunks(data, chunks, { thinChunks, tarStoredBytesTarget: 1024 }, plainKeys);
  const blobs = await Array.fromAsync(data.list());
  const index = indexOver(account.container('state'));
  index.record(locations);
  await index.flush();
  return { account, chunks, locations, blobs };
}

const kinds = ['packed', 'blob'] as const;
const repositories = await Promise.all(
  kinds.map(async (thinChunks) => ({ thinChunks, ...(await createChunks(thinChunks)) })),
);

/** Reads as a restore does. */
async function readChunk(store: BlobStore, location: ChunkLocation): Promise<Buffer> {
  const reader = createChunkReader(store, plainKeys, { cacheBytesMax: 0 });
  if (location.rawBytes <= READ_BYTES_MAX) return await reader.read(location);
  return Buffer.concat(await Array.fromAsync(reader.stream(location)));
}

async function checkReadable(data: BlobStore, state: BlobStore, chunks: readonly Buffer[]): Promise<number> {
  let read = 0;
  for (const chunk of chunks) {
    const hash = plainKeys.hash(chunk);
    const outcome = await outcomeOf(async () => {
      const location = (await indexOver(state).lookup([hash])).get(hash)?.location;
      return location && (await readChunk(data, location));
    });
    if (!('value' in outcome) || outcome.value === undefined) continue;
    expect(outcome.value.equals(chunk)).toBe(true);
    read += 1;
  }
  return read;
}

describe.each(repositories)(
  'chunk blobs ($thinChunks pointers)',
  ({ thinChunks, account, chunks, locations, blobs }) => {
    it('are read in full from a place that was made up, or the place is refused', patient, async () => {
      const tempting = [0, 1, 511, 512, 4096, READ_BYTES_MAX, READ_BYTES_MAX + 1, 2 ** 32, Number.MAX_SAFE_INTEGER];
      const number = fc.oneof(fc.constantFrom(...tempting), fc.nat({ max: 20_000 }), fc.maxSafeNat());
      const lie: fc.Arbitrary<Partial<ChunkLocation>> = fc.record(
        {
          hash: fc.constantFrom(...locations.map(({ hash }) => hash)),
          blob: fc.constantFrom(...locations.map(({ blob }) => blob), hashOf('nothing')),
          kind: fc.constantFrom('large', 'tar'),
          frameOffset: number,
          frameBytes: number,
          offsetInFrame: number,
          rawBytes: number,
        },
        { requiredKeys: [] },
      );
      await fc.assert(
        fc.asyncProperty(fc.constantFrom(...locations), lie, async (location, lies) => {
          const told = { ...location, ...lies };
          const outcome = await outcomeOf(() => readChunk(account.container('data'), told));
          if ('value' in outcome) expect(plainKeys.hash(outcome.value)).toBe(told.hash);
        }),
        runs(300),
      );
    });

    const anyMetadata = fc.array(
      fc.record({
        at: fc.nat({ max: 20 }),
        value: fc.oneof(
          fc.constant(undefined),
          fc.constantFrom(...NUMBERS, 'large', 'tar', 'thin', 'Hot', 'Archive', 'f'.repeat(64), hashOf('x')),
          fc.constantFrom(...blobs.flatMap(({ metadata }) => Object.values(metadata))),
        ),
      }),
      { minLength: 1, maxLength: 3 },
    );
    const withChanges = (metadata: BlobMetadata, changes: readonly { at: number; value: string | undefined }[]) => {
      const changed: Record<string, string> = { ...metadata };
      const names = Object.keys(metadata);
      for (const { at, value } of changes) {
        const name = names[at % names.length] ?? '';
        if (value === undefined) delete changed[name];
        else changed[name] = value;
      }
      return changed;
    };

    it('whose metadata was changed tell of places that can be written down, or are set aside', patient, async () => {
      await fc.assert(
        fc.asyncProperty(fc.nat({ max: blobs.length - 1 }), anyMetadata, fc.uint8Array(), async (at, changes, body) => {
          const item = blobs[at];
          if (item === undefined) return;
          const hostile = { ...item, metadata: withChanges(item.metadata, changes) };
          for (const parsed of [parseChunkBlob(hostile), parseChunkBlob(hostile, body)]) {
            if (parsed.is !== 'large' && parsed.is !== 'thin') continue;
            expect([...LocationTable.of([parsed.location]).locations()]).toEqual([parsed.location]);
          }
        }),
        runs(400),
      );
    });

    it('whose metadata or bytes were changed are repaired around and archived again', patient, async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.constantFrom(...blobs.map(({ name }) => name)),
          anyMetadata,
          fc.option(anyEdits, { nil: undefined }),
          async (name, changes, edits) => {
            const world = account.clone();
            const [data, state] = [world.container('data'), world.container('state')];
            const { body, properties } = await data.read(name);
            const others = await Promise.all(blobs.map(async (blob) => (await data.read(blob.name)).body));
            const isUsable = ([, value]: [string, string]) => /^[!-~]+$/.test(value);
            const metadata = Object.fromEntries(
              Object.entries(withChanges(properties.metadata, changes)).filter(isUsable),
            );
            await overwrite(data, name, edits === undefined ? body : edited(body, edits, others), metadata);
            expect(await outcomeOf(() => repairIndex(sealed(data, state), { owner: 'test' }))).toHaveProperty('value');
            await checkReadable(data, state, chunks);
            const again = await outcomeOf(() =>
              writeChunks(data, chunks, { thinChunks, tarStoredBytesTarget: 1024 }, plainKeys),
            );
            if ('value' in again) LocationTable.of(again.value.locations);
          },
        ),
        runs(60),
      );
    });
  },
);

function sealed(data: BlobStore, state: BlobStore) {
  return { data: new SealedBlobs(data, plainKeys), state: new SealedBlobs(state, plainKeys) };
}

describe.each(repositories)(
  'tables with a seal that was made anew ($thinChunks pointers)',
  ({ account, chunks, blobs }) => {
    it('among the shards lead to the right chunks or to an error, and a repair puts them right', patient, async () => {
      const shards = await Array.fromAsync(
        account.container('state').list({ prefix: 'chunk-index/' }),
        ({ name }) => name,
      );
      const content = async (name: string) =>
        await sealed(account.container('data'), account.container('state')).state.get('shard', name);
      const bodies = await Promise.all(shards.map(async (name) => (await content(name)).body));
      await fc.assert(
        fc.asyncProperty(fc.nat({ max: shards.length - 1 }), anyEdits, fc.boolean(), async (at, edits, underNew) => {
          const world = account.clone();
          const [data, state] = [world.container('data'), world.container('state')];
          const name = underNew ? `${shards[at]}5` : (shards[at] ?? '');
          const body = edited(bodies[at] ?? Buffer.alloc(0), edits, bodies);
          await overwrite(state, name, await sealed(data, state).state.seal('shard', name, body));
          await checkReadable(data, state, chunks);
          await outcomeOf(() => indexOver(state).statistics());
          const repair = await outcomeOf(() => repairIndex(sealed(data, state), { owner: 'test' }));
          if ('value' in repair) expect(await checkReadable(data, state, chunks)).toBe(chunks.length);
          else expect(repair.error).toMatchObject({ code: 'FIRN_REPOSITORY_NEWER' });
        }),
        runs(60),
      );
    });

    const packed = blobs.filter(({ name }) => name.startsWith('thin/'));
    it.runIf(packed.length > 0)('among the packed pointers are set aside', patient, async () => {
      const names = packed.map(({ name }) => name);
      const { data: original } = sealed(account.container('data'), account.container('state'));
      const bodies = await Promise.all(names.map(async (name) => (await original.get('thin', name)).body));
      await fc.assert(
        fc.asyncProperty(fc.nat({ max: names.length - 1 }), anyEdits, async (at, edits) => {
          const world = account.clone();
          const [data, state] = [world.container('data'), world.container('state')];
          const name = names[at] ?? thinBlobName('');
          const body = edited(bodies[at] ?? Buffer.alloc(0), edits, bodies);
          await overwrite(data, name, await sealed(data, state).data.seal('thin', name, body));
          for await (const shard of state.list()) await state.delete(shard.name);
          const report = await repairIndex(sealed(data, state), { owner: 'test' });
          const read = await checkReadable(data, state, chunks);
          if (report.quarantinedCount === 0 && body.equals(bodies[at] ?? body)) expect(read).toBe(chunks.length);
        }),
        runs(60),
      );
    });
  },
);
