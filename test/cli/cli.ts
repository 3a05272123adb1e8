/** Runs the command line inside the test's process, and looks at what it said. */
import { Writable } from 'node:stream';
import type { CliIo } from '../../src/cli/command.ts';
import { run } from '../../src/cli/main.ts';
import type { Containers, Repository } from '../../src/repository.ts';
import { createMemoryAccount } from '../kit/memory-blob-store.ts';
import { createTestRepository } from '../kit/repository.ts';

/** Ids of snapshots. */
export const idPattern = /^[0-9a-f]{16}$/;
export const PASSPHRASE = 'correct horse battery staple';

/** A stream that keeps what is written; a terminal where `columns` is given. */
export function collector(columns?: number): Writable & { text(): string; bytes(): Buffer } {
  const chunks: Buffer[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _encoding, done) {
      chunks.push(Buffer.from(chunk));
      done();
    },
  });
  return Object.assign(stream, {
    text: () => Buffer.concat(chunks).toString(),
    bytes: () => Buffer.concat(chunks),
    ...(columns !== undefined && { isTTY: true, columns }),
  });
}

export interface CliRun {
  readonly code: number;
  readonly stdout: string;
  readonly stdoutBytes: Buffer;
  readonly stderr: string;
  /** The JSON values on stdout, one for each line. */
  readonly json: Record<string, unknown>[];
  /** The same of stderr. */
  readonly errors: Record<string, unknown>[];
}

export function jsonLines(text: string): Record<string, unknown>[] {
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

export type CliOptions = Partial<CliIo>;

export async function runCli(argv: readonly string[], options: CliOptions = {}): Promise<CliRun> {
  const stdout = collector();
  const stderr = collector();
  const code = await run(argv, {
    env: { FIRN_PASSPHRASE: PASSPHRASE },
    cwd: '/',
    stdout,
    stderr,
    containers: createMemoryAccount(),
    ...options,
  });
  return {
    code,
    stdout: stdout.text(),
    stdoutBytes: stdout.bytes(),
    stderr: stderr.text(),
    get json() {
      return jsonLines(stdout.text());
    },
    get errors() {
      return jsonLines(stderr.text());
    },
  };
}

/** A repository in memory, and the command line over it. */
export async function createCli(
  options: Parameters<typeof createTestRepository>[0] = {},
): Promise<{ repository: Repository; containers: Containers; cli: (...argv: string[]) => Promise<CliRun> }> {
  const { repository, containers } = await createTestRepository(options);
  return { repository, containers, cli: (...argv) => runCli(argv, { containers }) };
}
