/** `firn upload` */
import path from 'node:path';
import { uploadFolder } from '../../archive/upload-folder.ts';
import { repositoryNames } from '../../settings.ts';
import { type Command, exitCodes } from '../command.ts';
import { counted, formatBytes, formatSeconds, printable } from '../format.ts';
import { ignoreCtime, nameSkipped } from './archive.ts';

export const upload: Command = {
  name: 'upload',
  summary: 'upload a folder into the inbox, for the functions to archive',
  about: [
    'Uploads files, folders and links into the inbox, with their modes and times. The functions archive and publish them. What the inbox has already is not sent again unless it was touched since; nothing in it is deleted. No passphrase is needed.',
    'Blob storage does not take names with a backslash or a control character; such files are left out and named. Without functions, `firn archive` archives a folder directly, whatever its names.',
  ],
  args: [{ name: 'folder' }],
  options: {
    source: { type: 'text', value: 'name', required: true, about: 'the source that the files belong to' },
    'ignore-ctime': ignoreCtime,
  },
  examples: [['firn upload ~/photos --source photos', 'upload a folder']],
  exitCodes: { 3: 'done, but some files could not be read; each is named' },
  async run({ args, options, output, connect, cwd, signal }) {
    const [folder = ''] = args;
    const source = options.text('source') ?? '';
    const startedAt = performance.now();
    const { settings, containers } = await connect();
    const inbox = containers.container(repositoryNames(settings.repository).inbox);
    const uploaded = await uploadFolder(inbox, source, path.resolve(cwd, folder), {
      uploadsInFlightMax: settings.filesInFlightMax,
      ignoreCtime: options.flag('ignore-ctime'),
      signal,
      onProgress: ({ files, bytes, path: at }) =>
        output.progress(() => `uploading  ${counted(files, 'file')}  ${formatBytes(bytes)}  ${printable(at)}`),
    });
    const seconds = (performance.now() - startedAt) / 1000;
    const { skipped, ...sent } = uploaded;
    nameSkipped(output, { count: skipped.length, paths: skipped });
    await output.result({ source, ...sent, skipped, seconds: Number(seconds.toFixed(3)) }, () =>
      [
        `Uploaded ${counted(sent.files, 'file')} (${formatBytes(sent.bytes)}) to ${source} in ${formatSeconds(seconds)};`,
        `${counted(sent.unchanged, 'file')} were there already.`,
      ].join(' '),
    );
    return skipped.length > 0 ? exitCodes.incomplete : exitCodes.done;
  },
};
