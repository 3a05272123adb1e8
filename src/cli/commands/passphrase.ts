/** `firn passphrase` */
import path from 'node:path';
import { changeRepositoryPassphrase } from '../../repository.ts';
import { type Command, exitCodes } from '../command.ts';
import { readPassphrase } from '../passphrase-file.ts';

const NEW_FILE = 'new-passphrase-file';

export const passphrase: Command = {
  name: 'passphrase',
  summary: 'change the passphrase of the repository',
  about: [
    'Wraps the key of the repository under a new passphrase, and takes the old one away. Nothing else is written: the key itself stays, so this takes a moment however large the repository is. It can be stopped at any time and run again; until it is done, both passphrases open the repository.',
    'The functions go on with the key that they hold, and need the new passphrase when they start next: change their setting too. With --keep-old, both passphrases are valid until the command is run without it.',
    'Who has kept a copy of the old key blob and knows the old passphrase can still open what was stored.',
  ],
  args: [],
  options: {
    [NEW_FILE]: {
      type: 'text',
      required: true,
      value: 'file',
      about: 'read the new passphrase from a file (a newline at its end is left out)',
    },
    'keep-old': { type: 'flag', about: 'leave the old passphrase valid beside the new one' },
  },
  examples: [
    ['firn passphrase --new-passphrase-file ~/.firn-new', 'change it; FIRN_PASSPHRASE is the old one'],
    ['firn passphrase --new-passphrase-file ~/.escrow --keep-old', 'add a second one, to be kept elsewhere'],
  ],
  async run({ options, output, connect, cwd, signal }) {
    const { settings, containers } = await connect();
    const to = await readPassphrase(NEW_FILE, path.resolve(cwd, options.text(NEW_FILE) ?? ''));
    const keepOld = options.flag('keep-old');
    const change = await changeRepositoryPassphrase(containers, settings, { to, keepOld }, { signal });
    await output.result(
      { repository: settings.repository, ...change },
      () =>
        `The new passphrase opens the repository ${settings.repository}${keepOld ? ', and so does the old one' : '; the old one opens it no more'}.`,
    );
    return exitCodes.done;
  },
};
