/** What `npm start` hosts, where it keeps its data and on which ports it listens: from its arguments and the environment. */
import path from 'node:path';
import { parseArgs } from 'node:util';
import { FirnError, problemOf } from '../errors.ts';
import { type Environment, settingText } from '../settings.ts';
import { AZURITE_BLOB_PORT, AZURITE_QUEUE_PORT, azuritePortSettings, FOLDER_SETTING } from './azurite.ts';

const FOLDER = '.firn';
const HTTP_PORT_SETTING = 'FIRN_HTTP_PORT';
const HTTP_PORT = 7071;
const PACKAGE_FOLDER = 'dist/package';

export interface StartOptions {
  /** Absolute. */
  readonly folder: string;
  /** 0 takes any free port. */
  readonly blobPort: number;
  readonly queuePort: number;
  readonly httpPort: number;
  /** With `--package`: the folder of what is deployed, to host that instead of the sources. Absolute. */
  readonly packageFolder: string | undefined;
}

/** A relative folder lies below `appRoot`. @throws FIRN_SETTING_INVALID, FIRN_USAGE. */
export function readStartOptions(
  environment: Environment,
  appRoot: string,
  args: readonly string[] = [],
): StartOptions {
  return {
    packageFolder: readFlag(args) ? path.join(appRoot, PACKAGE_FOLDER) : undefined,
    folder: path.resolve(appRoot, settingText(environment, FOLDER_SETTING) ?? FOLDER),
    blobPort: readPort(environment, azuritePortSettings.blob, AZURITE_BLOB_PORT),
    queuePort: readPort(environment, azuritePortSettings.queue, AZURITE_QUEUE_PORT),
    httpPort: readPort(environment, HTTP_PORT_SETTING, HTTP_PORT),
  };
}

function readFlag(args: readonly string[]): boolean {
  try {
    return parseArgs({ args: [...args], options: { package: { type: 'boolean' } } }).values.package ?? false;
  } catch (error) {
    throw new FirnError('FIRN_USAGE', { problem: `npm start: ${problemOf(error)}` });
  }
}

function readPort(environment: Environment, name: string, fallback: number): number {
  const text = settingText(environment, name);
  if (text === undefined) return fallback;
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) {
    throw new FirnError('FIRN_SETTING_INVALID', { name, problem: `«${text}» is no port (0 to 65535)` });
  }
  return port;
}
