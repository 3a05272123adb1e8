/** `firn restore` */
import path from 'node:path';
import { FirnError } from '../../errors.ts';
import { type RestoreResult, restoreTree } from '../../restore/restore-tree.ts';
import type { Snapshot } from '../../snapshots/snapshot.ts';
import { type Command, exitCodes } from '../command.ts';
import { formatBytes, formatSeconds, printable } from '../format.ts';
import { entriesOf, missingFiles, readingResult, reportReading } from '../reading-report.ts';

export const restore: Command = {
  name: 'restore',
  summary: 'restore a snapshot, or parts of it, into a folder',
  about: [
    'Restores files, links and folders with their modes and times. Every file is checked against the snapshot before it gets its name. The folder must be new or empty, unless --overwrite is given.',
    'What is damaged is named and left out, and the rest is restored; the exit code is 1 then.',
  ],
  args: [{ name: 'snapshot' }, { name: 'folder' }],
  options: {
    path: {
      type: 'text',
      value: 'path',
      repeated: true,
      about: 'only this file or folder, at its full path below the folder',
    },
    overwrite: {
      type: 'flag',
      about:
        'restore into a folder that is not empty and replace files that are in the way; nothing else there is touched',
    },
  },
  examples: [
    ['firn restore latest:documents /tmp/documents', 'restore all of the latest snapshot of a source'],
    ['firn restore 3f2a1b . --path letters --path notes.txt', 'restore a folder and a file of an earlier one'],
  ],
  async run({ args, options, output, open, cwd, signal }) {
    const [name = '', folder = ''] = args;
    const startedAt = performance.now();
    const repository = await open();
    const snapshot = await repository.snapshots.resolve(name, { signal });
    const target = path.resolve(cwd, folder);
    const { failed, ...told } = reportReading(output, 'restoring');
    const result = await restoreTree(repository, snapshot, target, {
      paths: options.texts('path'),
      overwrite: options.flag('overwrite'),
      signal,
      ...told,
    });
    const seconds = (performance.now() - startedAt) / 1000;
    const value = { snapshot: snapshot.id, folder: target, ...readingResult(result, failed, seconds) };
    await output.result(value, () => textOf(snapshot, target, result, seconds));
    if (result.failed > 0) {
      throw new FirnError('FIRN_RESTORE_INCOMPLETE', { failed: missingFiles(result), files: result.filesExpected });
    }
    return exitCodes.done;
  },
};

function textOf(snapshot: Snapshot, target: string, result: RestoreResult, seconds: number): string {
  return `Restored ${entriesOf(result)}, ${formatBytes(result.bytes)} of snapshot ${snapshot.id} to ${printable(target)} in ${formatSeconds(seconds)}.`;
}
