/** The memory of this process, in bytes. Needs `--expose-gc`. */
import { readFileSync } from 'node:fs';

const KIBIBYTE = 1024;
const LOOK_MS = 50;

/**
 * The most that was resident since the process began. Where the kernel tells it (Linux) it is of this program alone: what
 * `resourceUsage` gives a child may be the memory of the parent that it was forked from.
 */
function peakResidentBytes(): number {
  try {
    const peak = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
    if (peak !== undefined) return Number(peak) * KIBIBYTE;
  } catch {
    // No such file system here.
  }
  return process.resourceUsage().maxRSS * KIBIBYTE;
}

/** What is alive: objects and buffers that a full collection leaves. */
function aliveBytes(): number {
  globalThis.gc?.();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

export interface MemoryPeaks {
  /** The most that was resident. */
  readonly residentBytes: number;
  /** The most that was alive whenever it was looked. */
  readonly aliveBytes: number;
}

/** Peaks of what `work` needs, over what there is before it. With `looking` it is looked often, which takes its time. */
export async function metered<T>(looking: boolean, work: () => Promise<T>): Promise<{ result: T; peaks: MemoryPeaks }> {
  const alive = aliveBytes();
  const resident = process.memoryUsage.rss();
  let aliveMax = alive;
  const look = () => {
    aliveMax = Math.max(aliveMax, aliveBytes());
  };
  const timer = looking ? setInterval(look, LOOK_MS) : undefined;
  try {
    const result = await work();
    return { result, peaks: { residentBytes: peakResidentBytes() - resident, aliveBytes: aliveMax - alive } };
  } finally {
    clearInterval(timer);
  }
}

export interface Took {
  readonly seconds: number;
  /** Of all threads of this process. */
  readonly cpuSeconds: number;
}

export async function timed<T>(work: () => Promise<T>): Promise<{ result: T; took: Took }> {
  const began = performance.now();
  const cpu = process.cpuUsage();
  const result = await work();
  const { user, system } = process.cpuUsage(cpu);
  return { result, took: { seconds: (performance.now() - began) / 1000, cpuSeconds: (user + system) / 1e6 } };
}
