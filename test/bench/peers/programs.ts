/** The programs that are compared, each with the words for the same work. */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Program } from './measured-process.ts';
import { CONNECTION } from './storage.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));

export interface Peer {
  readonly name: string;
  /** Whether it keeps what it stores in Azurite; the others use a local folder. */
  readonly inAzurite: boolean;
  readonly version: Program;
  init(at: Places): Promise<Program | undefined>;
  archive(at: Places, folder: string): Program;
  restore(at: Places, folder: string, to: string): Program;
  /** Where in `to` the folder is after a restore. */
  restored(folder: string, to: string): string;
}

export interface Places {
  /** For caches and for repositories on disk; new for each run. */
  readonly scratch: string;
}

const PASSPHRASE = 'correct horse battery staple';

function firnProgram(...args: readonly string[]): Program {
  return {
    command: process.execPath,
    args: [path.join(root, 'src/cli/firn.js'), ...args],
    env: { FIRN_STORAGE: CONNECTION, FIRN_PASSPHRASE: PASSPHRASE },
  };
}

export const firnOnAzurite: Peer = {
  name: 'firn',
  inAzurite: true,
  version: firnProgram('--version'),
  init: async () => firnProgram('init', '--quiet'),
  archive: (_at, folder) => firnProgram('archive', folder, '--source', 'bench', '--json', '--quiet'),
  restore: (_at, _folder, to) => firnProgram('restore', 'latest:bench', to, '--json', '--quiet'),
  restored: (_folder, to) => to,
};

function resticProgram({ scratch }: Places, repository: string, args: readonly string[]): Program {
  const env = {
    AZURE_ACCOUNT_NAME: 'devstoreaccount1',
    AZURE_ACCOUNT_KEY: /AccountKey=([^;]+)/.exec(CONNECTION)?.[1],
    RESTIC_PASSWORD: PASSPHRASE,
    RESTIC_CACHE_DIR: path.join(scratch, 'cache'),
    RESTIC_REPOSITORY: repository,
  };
  return { command: 'restic', args: ['--quiet', ...args], env };
}

function restic(name: string, inAzurite: boolean): Peer {
  const run = (at: Places, args: readonly string[]) =>
    resticProgram(at, inAzurite ? 'azure:restic:/' : path.join(at.scratch, 'restic'), args);
  return {
    name,
    inAzurite,
    version: { command: 'restic', args: ['version'] },
    init: async (at) => run(at, ['init']),
    archive: (at, folder) => run(at, ['backup', folder]),
    restore: (at, _folder, to) => run(at, ['restore', 'latest', '--target', to]),
    restored: (folder, to) => path.join(to, folder),
  };
}

export const resticOnAzurite = restic('restic', true);
export const resticOnDisk = restic('restic, on disk', false);

function borgProgram({ scratch }: Places, words: string, folder?: string): Program {
  const env = {
    BORG_PASSPHRASE: PASSPHRASE,
    BORG_REPO: path.join(scratch, 'borg'),
    BORG_BASE_DIR: path.join(scratch, 'cache'),
  };
  return { command: 'sh', args: ['-c', `exec borg ${words}`, 'sh', folder ?? ''], env };
}

export const borgOnDisk: Peer = {
  name: 'borg, on disk',
  inAzurite: false,
  version: { command: 'borg', args: ['--version'] },
  init: async (at) => borgProgram(at, 'init --encryption repokey-blake2'),
  archive: (at, folder) => borgProgram(at, 'create --compression zstd,3 "::$(date +%s%N)" "$1"', folder),
  // Borg restores into the working folder.
  restore: (at, _folder, to) => ({ ...borgProgram(at, 'extract "::$(borg list --last 1 --short)"'), folder: to }),
  restored: (folder, to) => path.join(to, folder),
};

function plainProgram(args: readonly string[]): Program {
  return { command: process.execPath, args: [path.join(root, 'test/bench/peers/plain-copy.ts'), ...args] };
}

/** No archive at all: what the SDK and Azurite need for the files alone. */
export const plainCopy: Peer = {
  name: 'plain copy',
  inAzurite: true,
  version: { command: process.execPath, args: ['--version'] },
  init: async () => undefined,
  archive: (_at, folder) => plainProgram(['up', folder]),
  restore: (_at, _folder, to) => plainProgram(['down', to]),
  restored: (_folder, to) => to,
};

export const peers: readonly Peer[] = [firnOnAzurite, resticOnAzurite, plainCopy, resticOnDisk, borgOnDisk];
