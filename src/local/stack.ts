/**
 * The local stack: Azurite, a repository in it, and the functions hosted beside it. `npm start`, the demo and the
 * end-to-end tests are three users of it.
 *
 * All data lies in one folder and survives a restart. Without FIRN_PASSPHRASE a passphrase is made up and kept there, in
 * a file that only its owner can read.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { FirnError, isFirnError } from '../errors.ts';
import { connectFromEnvironment } from '../open-from-environment.ts';
import { createRepository, openRepository } from '../repository.ts';
import { type Environment, repositoryNames } from '../settings.ts';
import { type Azurite, startAzurite } from './azurite.ts';
import { type FunctionsHostProcess, spawnFunctionsHost } from './host-client.ts';

export const appRoot = fileURLToPath(new URL('../../', import.meta.url));

export interface StackOptions {
  /** Where everything lies. */
  readonly folder: string;
  /** Settings on top of the defaults below. */
  readonly environment?: Environment;
  /** Defaults 10000, 10001 and 7071; 0 takes any free port. */
  readonly blobPort?: number | undefined;
  readonly queuePort?: number | undefined;
  readonly httpPort?: number | undefined;
  /** What the host and the functions say, line by line. */
  readonly onLog?: ((line: string) => void) | undefined;
}

export interface Stack {
  /** What the command line needs to reach the repository. */
  readonly environment: Readonly<Record<string, string>>;
  readonly passphraseFile: string;
  readonly blobUrl: string;
  readonly hostUrl: string;
  /** True when the repository was made by this start. */
  readonly created: boolean;
  readonly host: FunctionsHostProcess;
  /** Rejects when Azurite or the host ends by itself. */
  readonly failed: Promise<never>;
  /** Lets running functions end, then stops everything. */
  stop(): Promise<void>;
}

/** Timers look every few seconds: on one's own machine nobody pays for it. */
const localDefaults = {
  FIRN_SEAL_SCHEDULE: '*/5 * * * * *',
  FIRN_PUBLISH_SCHEDULE: '*/5 * * * * *',
} as const;

/** @throws FIRN_PORT_IN_USE, FIRN_LOCAL_STACK_FAILED, and what opening the repository throws; nothing is left running. */
export async function startStack(options: StackOptions): Promise<Stack> {
  await mkdir(options.folder, { recursive: true });
  const passphraseFile = path.join(options.folder, 'passphrase');
  const azurite = await startAzurite({
    dataFolder: path.join(options.folder, 'azurite'),
    blobPort: options.blobPort,
    queuePort: options.queuePort,
  });
  try {
    const environment = {
      ...localDefaults,
      FIRN_PASSPHRASE: await keptPassphrase(passphraseFile, options.environment),
      ...definedOf(options.environment ?? {}),
      FIRN_STORAGE: azurite.connectionString,
    };
    const created = await prepareRepository(environment);
    const host = await hostFunctions(environment, options);
    return {
      environment,
      passphraseFile,
      blobUrl: azurite.blobUrl,
      hostUrl: host.url,
      created,
      host,
      failed: failureOf(azurite, host),
      async stop() {
        await host.stop();
        await azurite.stop();
      },
    };
  } catch (error) {
    await azurite.stop();
    throw error;
  }
}

/** Hosts Firn's functions in a process of its own, on a storage that is running and prepared. */
export async function hostFunctions(
  environment: Readonly<Record<string, string>>,
  { httpPort, onLog }: Pick<StackOptions, 'httpPort' | 'onLog'> = {},
): Promise<FunctionsHostProcess> {
  return await spawnFunctionsHost({
    appRoot,
    entry: path.join(appRoot, 'functions', 'index.ts'),
    httpPort,
    settings: { ...environment, AzureWebJobsStorage: environment.FIRN_STORAGE ?? '' },
    onLog,
  });
}

/** Opens the repository, or makes it when there is none; and the queues. @returns whether it was made. */
async function prepareRepository(environment: Environment): Promise<boolean> {
  const { containers, settings } = connectFromEnvironment(environment);
  const { batchQueue, poisonQueue } = repositoryNames(settings.repository);
  for (const queue of [batchQueue, poisonQueue]) await containers.queue(queue).createIfNotExists();
  try {
    await openRepository(containers, settings);
    return false;
  } catch (error) {
    if (!isFirnError(error, 'FIRN_REPOSITORY_MISSING')) throw error;
    await createRepository(containers, settings, { encrypted: true });
    return true;
  }
}

async function keptPassphrase(file: string, environment: Environment = {}): Promise<string> {
  if (environment.FIRN_PASSPHRASE) return environment.FIRN_PASSPHRASE;
  try {
    return (await readFile(file, 'utf8')).trimEnd();
  } catch {
    const passphrase = randomBytes(24).toString('base64url');
    // Never over one that is there: it may be the only way into a repository.
    await writeFile(file, `${passphrase}\n`, { mode: 0o600, flag: 'wx' });
    return passphrase;
  }
}

function definedOf(environment: Environment): Record<string, string> {
  return Object.fromEntries(
    Object.entries(environment).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}

function failureOf(azurite: Azurite, host: FunctionsHostProcess): Promise<never> {
  const ended = (what: string) => new FirnError('FIRN_LOCAL_STACK_FAILED', { problem: `${what} ended by itself` });
  const failed = Promise.race([
    azurite.exited.then(() => Promise.reject(ended('Azurite'))),
    host.exited.then(() => Promise.reject(ended('the functions host'))),
  ]);
  // Who does not wait for it is not to die of it.
  failed.catch(() => {});
  return failed;
}
