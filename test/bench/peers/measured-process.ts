/** Runs a program and tells its time, its CPU and the most memory that it held. Linux only: it reads `/proc`. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';

const KIBIBYTE = 1024;
const LOOK_MS = 10;

/** Of the clock that `/proc` counts in; the same on every Linux. */
const TICKS_PER_SECOND = 100;

export interface Measured {
  readonly seconds: number;
  /** Of all threads of the program, without children. */
  readonly cpuSeconds: number;
  /** Resident, of the program without children. */
  readonly peakBytes: number;
  readonly stdout: string;
}

export interface Program {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  readonly folder?: string;
}

/** @throws when it ends with another code than 0, with what it printed. */
export async function measure({ command, args, env = {}, folder }: Program): Promise<Measured> {
  const began = performance.now();
  const child = spawn(command, args, {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  let peakBytes = 0;
  let cpuSeconds = 0;
  const look = () => {
    peakBytes = Math.max(peakBytes, peakOf(child.pid));
    cpuSeconds = Math.max(cpuSeconds, cpuSecondsOf(child.pid));
  };
  const timer = setInterval(look, LOOK_MS);
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    const seconds = (performance.now() - began) / 1000;
    if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}:\n${stdout}${stderr}`);
    return { seconds, cpuSeconds, peakBytes, stdout };
  } finally {
    clearInterval(timer);
  }
}

function peakOf(pid: number | undefined): number {
  try {
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? 0) * KIBIBYTE;
  } catch {
    return 0;
  }
}

/** Of all threads of a process that runs; 0 of one that does not. */
export function cpuSecondsOf(pid: number | undefined): number {
  try {
    // The name of the program, in brackets, may hold spaces; what follows it begins with the third field.
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  } catch {
    return 0;
  }
}
