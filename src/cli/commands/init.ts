/** `firn init` */
import { FirnError } from '../../errors.ts';
import { createRepository } from '../../repository.ts';
import { defaultChunking } from '../../sealing/config.ts';
import { type Command, exitCodes } from '../command.ts';

export const init: Command = {
  name: 'init',
  summary: 'create a repository',
  about: [
    'Creates the containers of a repository and its keys. The repository is encrypted with a key that the passphrase opens; without the passphrase nobody can read it, so keep it well. What is chosen here can never be changed.',
  ],
  args: [],
  options: {
    'no-encryption': { type: 'flag', about: 'store everything unencrypted; no passphrase is used' },
    chunking: {
      type: 'text',
      words: ['fastcdc', 'file'],
      about: 'how files are cut: by content (fastcdc, where it is not given), or one chunk a file',
    },
    'thin-chunks': {
      type: 'text',
      words: ['packed', 'blob'],
      about: 'pointers to small chunks: packed, one blob a bundle (where it is not given), or one blob a chunk',
    },
  },
  examples: [
    ['firn init', 'create the repository that the settings name, with the passphrase in FIRN_PASSPHRASE'],
    ['firn init --repository photos --passphrase-file ~/.photos', 'create one of another name'],
  ],
  async run({ options, output, connect, now, onWarning, signal }) {
    const { settings, containers } = await connect();
    const encrypted = !options.flag('no-encryption');
    if (encrypted && settings.passphrase === undefined) {
      throw new FirnError('FIRN_USAGE', {
        problem: 'firn init: A passphrase is needed: set FIRN_PASSPHRASE, use --passphrase-file, or --no-encryption.',
      });
    }
    const thinChunks = options.text('thin-chunks') === 'blob' ? 'blob' : 'packed';
    const repository = await createRepository(containers, settings, {
      encrypted,
      chunking: options.text('chunking') === 'file' ? { method: 'file' } : defaultChunking,
      thinChunks,
      now,
      onWarning,
      signal,
    });
    const { name, config, data } = repository;
    const value = {
      repository: name,
      id: config.id,
      encrypted,
      chunking: config.chunking.method,
      thinChunks,
      url: data.store.url,
    };
    await output.result(
      value,
      () => `Created the ${encrypted ? 'encrypted' : 'unencrypted'} repository ${name} at ${value.url}.`,
    );
    if (encrypted) output.message('Keep the passphrase: without it nothing can be restored.');
    return exitCodes.done;
  },
};
