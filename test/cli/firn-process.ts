/** Runs the command line as users do: a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const firnHere = fileURLToPath(new URL('../../', import.meta.url));

export interface FinishedProcess {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface FirnProcessOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly uid?: number;
  /** Options of Node itself. */
  readonly nodeOptions?: readonly string[];
  /** The folder of Firn, if it is another one. */
  readonly firn?: string;
  /** Called once the process runs. */
  readonly onStart?: (child: ChildProcess) => void;
}

export async function runFirnProcess(
  argv: readonly string[],
  { uid, cwd, nodeOptions = [], firn = firnHere, env = {}, onStart }: FirnProcessOptions,
): Promise<FinishedProcess> {
  const child = spawn(process.execPath, [...nodeOptions, path.join(firn, 'src', 'cli', 'firn.js'), ...argv], {
    env: { PATH: process.env.PATH, HOME: '/', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(cwd !== undefined && { cwd }),
    ...(uid !== undefined && { uid, gid: uid }),
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (data: Buffer) => stdout.push(data));
  child.stderr.on('data', (data: Buffer) => stderr.push(data));
  onStart?.(child);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  return { code, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() };
}
