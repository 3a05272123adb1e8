/**
 * One measurement of the chunk index, in a process of its own: what is asked comes as the first argument, in JSON; the
 * stores are the parent's (`remote-store.ts`); the answer is sent to the parent. Each job begins with nothing in memory.
 */
import { type ChunkIndex, createChunkIndexes } from '../../src/index/chunk-index.ts';
import { RepairGate } from '../../src/index/marker.ts';
import { repairIndex } from '../../src/index/repair.ts';
import { findDrift } from '../../src/index/repair-check.ts';
import { allRoots } from '../../src/index/root-view.ts';
import type { Hash } from '../../src/sealing/keys.ts';
import { SealedBlobs } from '../../src/sealing/sealed-blobs.ts';
import { createCountedStore, sumOfTraffic, type Traffic } from '../kit/counted-store.ts';
import { chunkHash, randomFrom } from './generated-repository.ts';
import { benchKeys, DATA, type Job, type Jobs, newLocations, STATE } from './index-jobs.ts';
import { metered, timed } from './measuring.ts';
import { createRemoteStores } from './remote-store.ts';

function createStores() {
  const stores = createRemoteStores();
  const data = createCountedStore(stores(DATA));
  const state = createCountedStore(stores(STATE));
  return {
    data: new SealedBlobs(data.store, benchKeys),
    state: new SealedBlobs(state.store, benchKeys),
    takeTraffic(): Traffic {
      return sumOfTraffic([data.takeTraffic(), state.takeTraffic()]);
    },
  };
}

async function repair({ looking }: Jobs['repair']['options']): Promise<Jobs['repair']['answer']> {
  const { takeTraffic, ...parts } = createStores();
  const work = () => metered(looking, () => repairIndex(parts, { owner: 'benchmark' }));
  const { result, took } = await timed(work);
  return { report: result.result, took, peaks: result.peaks, traffic: takeTraffic() };
}

async function check({ looking }: Jobs['check']['options']): Promise<Jobs['check']['answer']> {
  const { takeTraffic, ...parts } = createStores();
  // All that was generated is older than what the check leaves alone.
  const now = () => new Date(Date.now() + 2 * 24 * 60 * 60 * 1000);
  const work = () => metered(looking, () => findDrift(parts, allRoots, { now }));
  const { result, took } = await timed(work);
  return { drifted: result.result.length, took, peaks: result.peaks, traffic: takeTraffic() };
}

type IndexOptions = Pick<Jobs['lookup']['options'], 'cacheBytesMax' | 'cacheFolder'>;

/** As a repository wires it. */
function createIndex(state: SealedBlobs, { cacheBytesMax, cacheFolder }: IndexOptions): ChunkIndex {
  const gate = new RepairGate(state.store);
  return createChunkIndexes(state, { cacheBytesMax, cacheFolder, checkShards: (call) => gate.check(call) })();
}

async function lookup(options: Jobs['lookup']['options']): Promise<Jobs['lookup']['answer']> {
  const { chunks, warm, batch, count } = options;
  const { state, takeTraffic } = createStores();
  const index = createIndex(state, options);
  if (warm) await index.statistics();
  takeTraffic();
  const random = randomFrom(1);
  const batches: Hash[][] = [];
  for (let at = 0; at < count; at += batch) {
    const hashes = new Set<Hash>();
    while (hashes.size < batch) hashes.add(chunkHash(Math.floor(random() * chunks)));
    batches.push([...hashes]);
  }
  let found = 0;
  const { took } = await timed(async () => {
    for (const hashes of batches) found += (await index.lookup(hashes)).size;
  });
  return { found, took, traffic: takeTraffic() };
}

async function flush(options: Jobs['flush']['options']): Promise<Jobs['flush']['answer']> {
  const { chunks, entries, times } = options;
  const { state, takeTraffic } = createStores();
  const index = createIndex(state, options);
  const answer: Jobs['flush']['answer'] = [];
  for (let time = 0; time < times; time += 1) {
    index.record(newLocations(chunks + time * entries, entries));
    const { result, took } = await timed(() => index.flush());
    answer.push({ added: result.added, shardsWritten: result.shardsWritten, took, traffic: takeTraffic() });
  }
  return answer;
}

function run(job: Job): Promise<unknown> {
  if (job.job === 'repair') return repair(job);
  if (job.job === 'check') return check(job);
  if (job.job === 'lookup') return lookup(job);
  return flush(job);
}

const answer = await run(JSON.parse(process.argv[2] ?? '') as Job);
process.send?.({ answer }, () => process.disconnect());
