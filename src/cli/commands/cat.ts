/** `firn cat` */
import { FirnError } from '../../errors.ts';
import { findEntry } from '../../filetree/walk.ts';
import { createReadAheadBudget } from '../../restore/read-ahead.ts';
import { readFileContent } from '../../restore/read-file.ts';
import { normalizePath } from '../../restore/selection.ts';
import { type Command, exitCodes } from '../command.ts';

export const cat: Command = {
  name: 'cat',
  summary: 'write a file of a snapshot to stdout',
  about: [
    'Writes the content of one file. Every part is checked before it is written; should a later part be damaged, the command fails there, so look at the exit code.',
    'With --json the content comes as lines with offset and base64, and a last line with path, size, mtime and mode.',
  ],
  args: [{ name: 'snapshot' }, { name: 'path' }],
  options: {},
  examples: [
    ['firn cat latest:documents letters/anna.txt', 'read a file'],
    ['firn cat 3f2a1b photo.jpg > photo.jpg', 'save one of an earlier snapshot'],
  ],
  async run({ args, output, open, signal }) {
    const [name = '', at = ''] = args;
    const path = normalizePath(at);
    const repository = await open();
    const { filetrees, keys, chunks } = repository;
    const snapshot = await repository.snapshots.resolve(name, { signal });
    const { folder, file } = path === '' ? {} : await findEntry(filetrees, snapshot.root, path, { signal });
    if (file?.type !== 'file') {
      const isThere = path === '' || folder !== undefined || file !== undefined;
      const shown = path === '' ? at : path;
      throw new FirnError(isThere ? 'FIRN_PATH_NOT_FILE' : 'FIRN_PATH_UNKNOWN', { path: shown, snapshot: snapshot.id });
    }
    const parts = { keys, filetrees, chunks, index: repository.createIndex(), readAhead: createReadAheadBudget() };
    let offset = 0;
    for await (const piece of readFileContent(parts, path, file, { signal })) {
      if (output.json) await output.jsonLine({ offset, base64: piece.toString('base64') });
      else await output.bytes(piece);
      offset += piece.length;
    }
    const { bytes, mtime, mode } = file;
    await output.jsonLine({ path, size: bytes, mtime: mtime ?? null, mode: mode ?? null });
    return exitCodes.done;
  },
};
