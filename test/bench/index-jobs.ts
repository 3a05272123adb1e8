/** What is measured in processes of their own: the jobs, their answers, and what both sides have to agree on. */
import type { ChunkLocation } from '../../src/chunks/location.ts';
import type { RepairReport } from '../../src/index/repair.ts';
import { keysFromMaster } from '../../src/sealing/keys.ts';
import type { Traffic } from '../kit/counted-store.ts';
import { chunkHash } from './generated-repository.ts';
import type { MemoryPeaks, Took } from './measuring.ts';

export const benchKeys = keysFromMaster(Buffer.alloc(32, 7));

/** The names that the parent serves the two containers under. */
export const DATA = 'data';
export const STATE = 'state';

export interface Jobs {
  /** Repairs the index. `looking`: stops often to see what is alive. */
  repair: {
    options: { looking: boolean };
    answer: { report: RepairReport; took: Took; peaks: MemoryPeaks; traffic: Traffic };
  };
  /** Checks all roots, as a scheduled run does when one of its sample has drifted. */
  check: {
    options: { looking: boolean };
    answer: { drifted: number; took: Took; peaks: MemoryPeaks; traffic: Traffic };
  };
  /** Looks up random chunks of a repository of so many. */
  lookup: {
    options: {
      chunks: number;
      cacheBytesMax: number;
      cacheFolder?: string;
      warm: boolean;
      batch: number;
      count: number;
    };
    answer: { found: number; took: Took; traffic: Traffic };
  };
  /** Flushes random new entries, `times` times. */
  flush: {
    options: { chunks: number; cacheBytesMax: number; entries: number; times: number };
    answer: { added: number; shardsWritten: number; took: Took; traffic: Traffic }[];
  };
}

export type Job = { [Name in keyof Jobs]: { readonly job: Name } & Jobs[Name]['options'] }[keyof Jobs];

/** Entries of chunks that were not generated, as those of a new tar chunk. */
export function newLocations(from: number, count: number): ChunkLocation[] {
  const blob = chunkHash(-1 - from);
  return Array.from({ length: count }, (_, n) => ({
    hash: chunkHash(from + n),
    blob,
    kind: 'tar',
    frameOffset: Math.floor(n / 60) * 500_000,
    frameBytes: 500_000,
    offsetInFrame: 512 + (n % 60) * 16_384,
    rawBytes: 15_000 + n,
    tier: 'Hot',
  }));
}
