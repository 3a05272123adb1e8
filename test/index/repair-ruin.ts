/** A chunk index in which everything is wrong that can be, over chunk blobs of every kind; and what is right. */
import { expect } from 'vitest';
import type { ChunkLocation } from '../../src/chunks/location.ts';
import { ChunkIndex } from '../../src/index/chunk-index.ts';
import { REPAIR_MARKER } from '../../src/index/marker.ts';
import { type RepairReport, repairIndex } from '../../src/index/repair.ts';
import { type Hash, plainKeys } from '../../src/sealing/keys.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { hashOf } from '../kit/arbitraries.ts';
import { damage } from '../kit/damage.ts';
import { createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { hooked, type Interruption, interrupted, locationsIn, shardNames } from './index-kit.ts';
import {
  layoutOf,
  namesOf,
  placeIn,
  putLarge,
  putLegacyPointer,
  putPacked,
  putPointer,
  putShard,
  putTar,
} from './repairing.ts';

/** The roots in which something is stored or wrong. */
export const ruinedRoots = ['0', '1', 'a', 'c', 'e'] as const;

/** Entries over which a shard splits here. */
export const ruinEntriesMax = 4;

export interface Ruin {
  readonly data: BlobStore;
  readonly state: BlobStore;
  /** What the index has when it is right, ascending. */
  readonly right: readonly ChunkLocation[];
  /** Its shards, ascending. */
  readonly layout: readonly string[];
  /** Blobs that repair sets aside, ascending. */
  readonly bad: readonly string[];
  /** Chunks that lookups find although everything is wrong. */
  readonly found: readonly Hash[];
  /** A tar chunk that is there, for chunks that are stored meanwhile. */
  readonly tar: Hash;
}

function hashesIn(prefix: string, count: number, name = ''): Hash[] {
  return locationsIn(prefix, count, `${prefix} ${name}`).map(({ hash }) => hash);
}

export async function makeRuin(): Promise<Ruin> {
  const data = createMemoryBlobStore();
  const state = createMemoryBlobStore();
  const sealedData = new SealedBlobs(data, plainKeys);
  const sealedState = new SealedBlobs(state, plainKeys);

  const [packedTar = '', pointedTar = '', forgottenTar = ''] = hashesIn('5', 3, 'tar');
  for (const tar of [packedTar, pointedTar, forgottenTar]) await putTar(data, tar);
  // A root that splits at two levels, and the second one unevenly.
  const crowd = [...hashesIn('a', 5), ...hashesIn('a3', 2), ...hashesIn('a3c', 6)];
  const packed = [...crowd, ...hashesIn('c', 3), ...hashesIn('0', 2)].map((hash) => placeIn(packedTar, hash));
  await putPacked(sealedData, packedTar, packed);
  const pointed = hashesIn('c', 2, 'pointed').map((hash) => placeIn(pointedTar, hash));
  for (const location of pointed) await putPointer(data, location);
  const [legacy] = hashesIn('0', 1, 'legacy').map((hash) => placeIn(pointedTar, hash));
  if (legacy) await putLegacyPointer(data, legacy);
  const large = await putLarge(data, hashesIn('e', 1)[0] ?? '');
  // Only the index knows this one, and its tar chunk is there.
  const [forgotten = large] = hashesIn('c4', 1, 'forgotten').map((hash) => placeIn(forgottenTar, hash));

  const [lostTar = '', astray = '', nonsense = '', torn = ''] = hashesIn('a', 4, 'bad');
  await putPointer(data, placeIn(lostTar, astray));
  await data.create(`chunks/${nonsense}`, Buffer.alloc(0), { metadata: { firn_type: 'thin', firn_format: 'one' } });
  await data.create('chunks/readme.txt', Buffer.from('not ours'));
  await putPacked(sealedData, lostTar, [placeIn(lostTar, hashesIn('c', 1, 'lost')[0] ?? '')]);
  await data.create(`thin/${torn}`, Buffer.from('torn'));

  const ghosts = (prefix: string) => hashesIn(prefix, 2, 'ghost').map((hash) => placeIn(hashOf('no blob'), hash));
  const inCrowd = (prefix: string, count: number) =>
    packed.filter(({ hash }) => hash.startsWith(prefix)).slice(0, count);
  const shards: Record<string, readonly ChunkLocation[]> = {
    a: [...inCrowd('a', 5), ...ghosts('a')],
    a3: [...inCrowd('a3', 3), ...ghosts('a3')],
    a3c: inCrowd('a3c', 4),
    c: packed.filter(({ hash }) => hash.startsWith('c')),
    c4: [forgotten],
    '0': packed.filter(({ hash }) => hash.startsWith('0')),
    '1': ghosts('1'),
  };
  for (const [prefix, locations] of Object.entries(shards)) await putShard(sealedState, prefix, locations);
  for (const torn of ['0', 'c']) await damage(state, `chunk-index/${torn}`);
  for (const stray of ['zz', 'F', 'a/x']) await state.create(`chunk-index/${stray}`, Buffer.from('stray'));

  const right = [...packed, ...pointed, legacy ?? large, large, forgotten].sort((a, b) => (a.hash < b.hash ? -1 : 1));
  const found: Hash[] = [];
  for (const { hash } of right) {
    const index = openPlain(state);
    const answer = await index.lookup([hash]).catch(() => new Map());
    if (answer.has(hash)) found.push(hash);
  }
  const bad = [
    'chunks/readme.txt',
    ...[astray, nonsense].map((hash) => `chunks/${hash}`),
    `thin/${lostTar}`,
    `thin/${torn}`,
  ];
  return {
    data,
    state,
    right,
    layout: layoutOf(
      right.map(({ hash }) => hash),
      ruinEntriesMax,
    ),
    bad: bad.sort(),
    found,
    tar: forgottenTar,
  };
}

/** A session as a fresh process has it, past the marker. */
export function openPlain(state: BlobStore): ChunkIndex {
  return new ChunkIndex(new SealedBlobs(state, plainKeys), {
    cacheBytesMax: 16 * 1024 * 1024,
    shardEntriesMax: ruinEntriesMax,
  });
}

/** A repair of the ruin, of these stores. */
export async function repairRuin(
  { data, state }: { data: BlobStore; state: BlobStore },
  roots?: readonly string[],
): Promise<RepairReport> {
  const parts = { data: new SealedBlobs(readOnly(data), plainKeys), state: new SealedBlobs(state, plainKeys) };
  const now = () => new Date(0);
  return await repairIndex(parts, { owner: 'test', now, roots, shardEntriesMax: ruinEntriesMax });
}

/** The same of a process that is interrupted. */
export function interruptedRuin(data: BlobStore, state: BlobStore, interruption: Interruption) {
  return { data: interrupted(data, interruption), state: interrupted(state, interruption) };
}

/** Repair changes nothing in the data container. */
function readOnly(store: BlobStore): BlobStore {
  return hooked(store, {
    before(call) {
      if (!['list', 'read', 'properties'].includes(call)) throw new Error(`repair calls ${call} of the data container`);
    },
  });
}

/** All is in the index and found by a fresh process, in exactly the right shards, and the marker is gone. */
export async function expectRight(
  state: BlobStore,
  { right, layout }: Pick<Ruin, 'right' | 'layout'>,
  strays: readonly string[] = [],
): Promise<void> {
  expect(await Array.fromAsync(openPlain(state).locations())).toEqual(right);
  const found = await openPlain(state).lookup(right.map(({ hash }) => hash));
  expect(found.size).toBe(right.length);
  expect(await shardNames(state)).toEqual([...layout, ...strays].sort());
  expect(await namesOf(state, REPAIR_MARKER)).toEqual([]);
}
