/** Where `npm start` keeps its data and on which ports it listens, from the environment. */
import path from 'node:path';
import { FirnError } from '../errors.ts';
import { type Environment, settingText } from '../settings.ts';
import { AZURITE_BLOB_PORT, AZURITE_QUEUE_PORT, azuritePortSettings, FOLDER_SETTING } from './azurite.ts';

const FOLDER = '.firn';
const HTTP_PORT_SETTING = 'FIRN_HTTP_PORT';
const HTTP_PORT = 7071;

export interface StartOptions {
  /** Absolute. */
  readonly folder: string;
  /** 0 takes any free port. */
  readonly blobPort: number;
  readonly queuePort: number;
  readonly httpPort: number;
}

/** A relative folder lies below `appRoot`. @throws FIRN_SETTING_INVALID. */
export function readStartOptions(environment: Environment, appRoot: string): StartOptions {
  return {
    folder: path.resolve(appRoot, settingText(environment, FOLDER_SETTING) ?? FOLDER),
    blobPort: readPort(environment, azuritePortSettings.blob, AZURITE_BLOB_PORT),
    queuePort: readPort(environment, azuritePortSettings.queue, AZURITE_QUEUE_PORT),
    httpPort: readPort(environment, HTTP_PORT_SETTING, HTTP_PORT),
  };
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
