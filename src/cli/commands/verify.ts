/** `firn verify` */
import { FirnError } from '../../errors.ts';
import { verifyTree } from '../../restore/restore-tree.ts';
import { type Command, exitCodes } from '../command.ts';
import { formatBytes, formatSeconds } from '../format.ts';
import { entriesOf, missingFiles, readingResult, reportReading } from '../reading-report.ts';

export const verify: Command = {
  name: 'verify',
  summary: 'read a snapshot back, without writing anything',
  about: [
    'Reads every file of a snapshot from storage and checks it as a restore does: seals, chunk hashes, sizes and content hashes. Whether a file system takes every name is seen at a restore only.',
    'What is damaged or missing is named; the exit code is 1 then. It reads as many bytes as a restore.',
  ],
  args: [{ name: 'snapshot' }],
  options: {
    path: { type: 'text', value: 'path', repeated: true, about: 'only this file or folder' },
  },
  examples: [
    ['firn verify latest:documents', 'verify all of the latest snapshot of a source'],
    ['firn verify 3f2a1b --path letters --json', 'a folder of an earlier one, for a script'],
  ],
  async run({ args, options, output, open, signal }) {
    const [name = ''] = args;
    const startedAt = performance.now();
    const repository = await open();
    const snapshot = await repository.snapshots.resolve(name, { signal });
    const { failed, ...told } = reportReading(output, 'verifying');
    const result = await verifyTree(repository, snapshot, { paths: options.texts('path'), signal, ...told });
    const seconds = (performance.now() - startedAt) / 1000;
    const value = { snapshot: snapshot.id, ...readingResult(result, failed, seconds) };
    await output.result(
      value,
      () =>
        `Verified ${entriesOf(result)}, ${formatBytes(result.bytes)} of snapshot ${snapshot.id} in ${formatSeconds(seconds)}.`,
    );
    if (result.failed === 0) return exitCodes.done;
    const details = { failed: missingFiles(result), files: result.filesExpected, snapshot: snapshot.id };
    throw new FirnError('FIRN_SNAPSHOT_INCOMPLETE', details);
  },
};
