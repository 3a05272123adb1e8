/** Programs of this project as processes of their own, and the processes that they start, for tests of how they end. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { onTestFinished } from 'vitest';
import { until } from '../kit/until.ts';

/** The root of the clone. */
export const clone = new URL('../../', import.meta.url).pathname;

export interface Program {
  readonly child: ChildProcess;
  readonly pid: number;
  stdout(): string;
  stderr(): string;
  /** Resolves with the exit code, or the signal, when the process has ended and its output is read. */
  readonly ended: Promise<number | NodeJS.Signals | null>;
  /** Sends a signal to the process alone. */
  signal(name: NodeJS.Signals): void;
  /** Resolves when the output holds the text; fails when the process ends without it. */
  says(text: string): Promise<void>;
}

interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** In a process group of its own, as a terminal starts a program. */
  readonly group?: boolean;
}

/** Starts a program with nothing of the settings of this process. It, and what it started, is gone when the test ends. */
export function start(command: string, args: readonly string[], options: RunOptions = {}): Program {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(FIRN_|VITEST|NODE_OPTIONS)/.test(name));
  const child = spawn(command, args, {
    cwd: options.cwd ?? clone,
    env: { ...Object.fromEntries(inherited), ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: options.group ?? false,
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const pid = child.pid ?? -1;
  const ended = new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? signal));
  });
  onTestFinished(() => {
    for (const each of [...descendantsIn(processes(), pid), pid]) end(each);
  });
  return {
    child,
    pid,
    stdout: () => stdout,
    stderr: () => stderr,
    ended,
    signal: (name) => child.kill(name),
    async says(text) {
      await until(`the program says «${text}»`, () => {
        if (stdout.includes(text) || stderr.includes(text)) return true;
        if (child.exitCode !== null || child.signalCode !== null) throw new Error(`It ended:\n${stdout}\n${stderr}`);
        return undefined;
      });
    },
  };
}

interface ProcessRow {
  readonly pid: number;
  readonly parent: number;
  readonly state: string;
  readonly command: string;
}

function processes(): ProcessRow[] {
  const table = execFileSync('ps', ['-A', '-o', 'pid=,ppid=,stat=,args='], { encoding: 'utf8' });
  return table.split('\n').flatMap((line) => {
    const [, pid, parent, state = '', command = ''] = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line) ?? [];
    return pid === undefined ? [] : [{ pid: Number(pid), parent: Number(parent), state, command }];
  });
}

/** What a process has started, and what those have; it is gone when the test ends, also when it lost its parent. */
export function descendants(pid: number): number[] {
  const found = descendantsIn(processes(), pid);
  for (const each of found) remember(each);
  return found;
}

/** Processes that tests have seen and that are to be gone when they end. */
const remembered = new Set<number>();

function remember(pid: number): void {
  if (remembered.has(pid)) return;
  remembered.add(pid);
  onTestFinished(() => {
    remembered.delete(pid);
    if (isAlive(pid)) end(pid);
  });
}

function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    // It has ended by itself.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function descendantsIn(table: readonly ProcessRow[], pid: number): number[] {
  const children = table.filter(({ parent }) => parent === pid);
  return children.flatMap((child) => [child.pid, ...descendantsIn(table, child.pid)]);
}

/** The one process below `pid` whose command line has this in it. */
export function descendantRunning(pid: number, what: string): number {
  const table = processes();
  const below = new Set(descendantsIn(table, pid));
  const found = table.filter((row) => below.has(row.pid) && row.command.includes(what));
  if (found[0] === undefined || found.length > 1) throw new Error(`${found.length} processes run ${what}`);
  return found[0].pid;
}

/** A process that ended and was not reaped yet counts as ended. */
export function isAlive(pid: number): boolean {
  return processes().some((row) => row.pid === pid && !row.state.startsWith('Z'));
}
