/** From environment variables to a storage account and an open repository: the one way for functions and command line. */
import { type OpenOptions, openRepository, type Repository } from './repository.ts';
import { type Environment, readSettings, readStorageConnection, type Settings } from './settings.ts';
import { connectStorage, type Storage } from './storage/connect.ts';

export interface Connected {
  readonly settings: Settings;
  /** One sentence for each setting that was moved to its limit. */
  readonly warnings: readonly string[];
  readonly containers: Storage;
}

/**
 * Reads the settings and prepares the connection; nothing is sent yet.
 * @throws FIRN_SETTING_INVALID, FIRN_SETTING_MISSING.
 */
export function connectFromEnvironment(environment: Environment): Connected {
  const { settings, warnings } = readSettings(environment);
  return { settings, warnings, containers: connectStorage(readStorageConnection(environment)) };
}

export interface OpenFromEnvironmentOptions extends OpenOptions {
  /** In the place of FIRN_PASSPHRASE. */
  readonly passphrase?: string | undefined;
}

/** @throws what `connectFromEnvironment` and `openRepository` throw, and FIRN_STORAGE_UNREACHABLE, FIRN_STORAGE_DENIED. */
export async function openFromEnvironment(
  environment: Environment,
  { passphrase, ...options }: OpenFromEnvironmentOptions = {},
): Promise<Connected & { readonly repository: Repository }> {
  const connected = connectFromEnvironment(environment);
  const settings = passphrase === undefined ? connected.settings : { ...connected.settings, passphrase };
  const repository = await openRepository(connected.containers, settings, options);
  return { ...connected, settings, repository };
}
