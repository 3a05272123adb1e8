/**
 * The local stack: Azurite, a repository in it, and the functions hosted beside it. `npm start`, the demo and the
 * end-to-end tests are three users of it.
 *
 * All data lies in one folder and survives a restart; one stack at a time uses it. Without FIRN_PASSPHRASE a passphrase is
 * made up and kept there, in a file that only its owner can read. Settings come from the options alone: those in the
 * environment of this process reach neither the repository nor the functions.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { FirnError, problemOf } from '../errors.ts';
import { connectFromEnvironment } from '../open-from-environment.ts';
import { openOrCreateRepository } from '../repository.ts';
import { type Environment, repositoryNames } from '../settings.ts';
import { isAbsent, sweepTemporary, writeText } from '../storage/local-files.ts';
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
  /** A folder that `buildPackage` filled: what is deployed is hosted, instead of the sources. */
  readonly packageFolder?: string | undefined;
  /** What the host and the functions say, line by line. */
  readonly onLog?: ((line: string) => void) | undefined;
  /** Gives up starting, between its steps. */
  readonly signal?: AbortSignal | undefined;
}

export interface Stack {
  /** What the command line needs to reach the repository. */
  readonly environment: Readonly<Record<string, string>>;
  readonly connectionString: string;
  /** Undefined where FIRN_PASSPHRASE is given. */
  readonly passphraseFile: string | undefined;
  readonly blobUrl: string;
  readonly blobPort: number;
  readonly queuePort: number;
  readonly hostUrl: string;
  /** True when the repository was made by this start. */
  readonly created: boolean;
  readonly host: FunctionsHostProcess;
  /** Rejects when Azurite or the host ends by itself. */
  readonly failed: Promise<never>;
  /** Lets running functions end, then stops everything. May be called again. */
  stop(): Promise<void>;
  /** Ends the functions at once, as a crash would; what is stored is saved. Also while `stop` waits. */
  kill(): Promise<void>;
}

/** A host that hangs is ended: after the time it gives its functions, and then some. */
const HOST_STOP_MS_MAX = 45_000;
/** What configures functions and storage. */
const appSettingPattern = /^(FIRN_|Azure(WebJobs|Functions))/i;

/** Timers look every few seconds: on one's own machine nobody pays for it. */
const localDefaults = {
  FIRN_SEAL_SCHEDULE: '*/5 * * * * *',
  FIRN_PUBLISH_SCHEDULE: '*/5 * * * * *',
} as const;

/**
 * @throws FIRN_PORT_IN_USE, FIRN_LOCAL_FOLDER_IN_USE, FIRN_LOCAL_STACK_FAILED, the reason of the signal, and what opening
 * the repository throws; nothing is left running.
 */
export async function startStack(options: StackOptions): Promise<Stack> {
  await mkdir(options.folder, { recursive: true });
  const azurite = await startAzurite({
    dataFolder: path.join(options.folder, 'azurite'),
    blobPort: options.blobPort,
    queuePort: options.queuePort,
  });
  try {
    options.signal?.throwIfAborted();
    const given = definedOf(options.environment ?? {});
    const passphraseFile = given.FIRN_PASSPHRASE === undefined ? path.join(options.folder, 'passphrase') : undefined;
    const environment = {
      ...localDefaults,
      ...given,
      ...(passphraseFile !== undefined && { FIRN_PASSPHRASE: await keptPassphrase(passphraseFile) }),
      FIRN_STORAGE: azurite.connectionString,
    };
    const created = await prepareRepository(environment);
    options.signal?.throwIfAborted();
    const host = await hostFunctions(environment, options);
    return {
      environment,
      connectionString: azurite.connectionString,
      passphraseFile,
      blobUrl: azurite.blobUrl,
      blobPort: azurite.blobPort,
      queuePort: azurite.queuePort,
      hostUrl: host.url,
      created,
      host,
      failed: failureOf(azurite, host),
      async stop() {
        await stopHost(host);
        await azurite.stop();
      },
      async kill() {
        await host.kill();
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
  { httpPort, onLog, packageFolder }: Pick<StackOptions, 'httpPort' | 'onLog' | 'packageFolder'> = {},
): Promise<FunctionsHostProcess> {
  const app =
    packageFolder === undefined
      ? { appRoot, entry: path.join(appRoot, 'functions', 'index.ts') }
      : { appRoot: packageFolder, entry: await packageEntry(packageFolder) };
  return await spawnFunctionsHost({
    ...app,
    httpPort,
    settings: { ...environment, AzureWebJobsStorage: environment.FIRN_STORAGE ?? '' },
    onLog,
    environment: Object.fromEntries(Object.entries(process.env).filter(([name]) => !appSettingPattern.test(name))),
  });
}

/** As the worker in Azure does: `main` of its `package.json`. */
async function packageEntry(folder: string): Promise<string> {
  const file = path.join(folder, 'package.json');
  let manifest: unknown;
  try {
    manifest = JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    const problem = `there is no package in ${folder} (${problemOf(error)}); \`npm run package\` builds it`;
    throw new FirnError('FIRN_LOCAL_STACK_FAILED', { problem }, { cause: error });
  }
  const { main } = manifest as { readonly main?: unknown };
  if (typeof main === 'string') return path.join(folder, main);
  throw new FirnError('FIRN_LOCAL_STACK_FAILED', { problem: `${file} names no main` });
}

async function stopHost(host: FunctionsHostProcess): Promise<void> {
  const timer = setTimeout(() => void host.kill(), HOST_STOP_MS_MAX);
  await host.stop();
  clearTimeout(timer);
}

/** Opens the repository, or makes it when there is none; and the queues. @returns whether it was made. */
async function prepareRepository(environment: Environment): Promise<boolean> {
  const { containers, settings } = connectFromEnvironment(environment);
  const { batchQueue, poisonQueue } = repositoryNames(settings.repository);
  for (const queue of [batchQueue, poisonQueue]) await containers.queue(queue).createIfNotExists();
  return (await openOrCreateRepository(containers, settings)).created;
}

/** The passphrase in the file, which is made with a new one where there is none. */
async function keptPassphrase(file: string): Promise<string> {
  try {
    return (await readFile(file, 'utf8')).trimEnd();
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
  await sweepTemporary(path.dirname(file), 0);
  const passphrase = randomBytes(24).toString('base64url');
  // Never over one that is there: it may be the only way into a repository.
  await writeText(file, `${passphrase}\n`, { mode: 0o600, overwrite: false });
  return passphrase;
}

/** Without what is absent or empty, which counts as absent. */
function definedOf(environment: Environment): Record<string, string> {
  return Object.fromEntries(
    Object.entries(environment).filter((entry): entry is [string, string] => entry[1] !== undefined && entry[1] !== ''),
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
