/** What `npm start` says when it is up: what to do next, as commands that can be copied as they are. Pure. */
import path from 'node:path';
import { AZURITE_BLOB_PORT, AZURITE_QUEUE_PORT } from './azurite.ts';

const DEFAULT_REPOSITORY = 'firn';

export interface WelcomeOptions {
  /** Where the reader's shell is. */
  readonly cwd: string;
  readonly folder: string;
  readonly logFile: string;
  /** True when the repository was made by this start. */
  readonly created: boolean;
  readonly hostUrl: string;
  readonly connectionString: string;
  readonly blobPort: number;
  readonly queuePort: number;
  readonly repository: string;
  /** Undefined where the user gave the passphrase. */
  readonly passphraseFile: string | undefined;
}

export function welcome(options: WelcomeOptions): string {
  const { created, hostUrl, cwd, folder, logFile, passphraseFile, repository } = options;
  const settings = [
    `export FIRN_STORAGE=${shellWord(storageOf(options))}`,
    ...(repository === DEFAULT_REPOSITORY ? [] : [`export FIRN_REPOSITORY=${shellWord(repository)}`]),
    ...(passphraseFile === undefined
      ? []
      : [`export FIRN_PASSPHRASE="$(cat ${shellWord(shortPath(cwd, passphraseFile))})"`]),
  ];
  const commands = [
    ['npx firn upload <folder> --source photos', 'drop a folder into the inbox'],
    [`curl -X POST ${hostUrl}/api/publish/photos`, 'publish what has arrived (else after a minute or two)'],
    ['npx firn snapshots', 'list what was published'],
    ['npx firn ls latest:photos', 'list the files of a snapshot'],
    ['npx firn restore latest:photos <empty folder>', 'bring them back'],
  ] as const;
  const width = Math.max(...commands.map(([command]) => command.length));
  return [
    `Firn is running: Azurite and the functions, with ${created ? 'a new' : 'the'} encrypted repository in ${shortPath(cwd, folder)}.`,
    `The log is ${shortPath(cwd, logFile)}. Ctrl-C stops everything; nothing is lost.`,
    '',
    `In another terminal, in this folder${passphraseFile === undefined ? ' and with your FIRN_PASSPHRASE' : ''}:`,
    '',
    ...settings.map((line) => `  ${line}`),
    '',
    ...commands.map(([command, about]) => `  ${command.padEnd(width)}   # ${about}`),
  ].join('\n');
}

/** The short form of a connection string stands for the default ports only. */
function storageOf({ blobPort, queuePort, connectionString }: WelcomeOptions): string {
  const usual = blobPort === AZURITE_BLOB_PORT && queuePort === AZURITE_QUEUE_PORT;
  return usual ? 'UseDevelopmentStorage=true' : connectionString;
}

function shortPath(cwd: string, file: string): string {
  const relative = path.relative(cwd, file);
  return relative === '' || relative.startsWith('..') || path.isAbsolute(relative) ? file : relative;
}

/** Quoted for a POSIX shell, where that is needed. */
function shellWord(text: string): string {
  return /^[\w./:=@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
