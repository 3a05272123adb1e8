/** `firn repair-index` */
import { FirnError } from '../../errors.ts';
import type { RepairReport } from '../../index/repair.ts';
import { isRoot, runRepair } from '../../index/repair-run.ts';
import { type Command, exitCodes } from '../command.ts';
import { counted, formatCount } from '../format.ts';

export const repairIndex: Command = {
  name: 'repair-index',
  summary: 'rebuild the chunk index from the chunk blobs',
  about: [
    'Rebuilds the chunk index, or one root of it, from what the chunk blobs themselves say, whatever state it is in. Until it is done, publishes and restores refuse. When it is interrupted, run it again.',
    'A blob that cannot be understood is set aside: it is named with the reason, stays where it is, and stops nothing.',
  ],
  args: [],
  options: {
    root: { type: 'text', value: 'a', about: 'only the chunks whose hash begins with this hex digit' },
  },
  examples: [
    ['firn repair-index', 'rebuild the whole index'],
    ['firn repair-index --root 3 --json', 'rebuild one of its 16 roots, and report as JSON'],
  ],
  async run({ options, output, open, signal, now }) {
    const root = options.text('root')?.toLowerCase();
    if (root !== undefined && !isRoot(root)) {
      throw new FirnError('FIRN_USAGE', { problem: `firn repair-index: A root is one hex digit, not «${root}».` });
    }
    const repository = await open();
    // What is brought back from a copy of the data container alone has neither.
    for (const store of [repository.inbox, repository.state.store]) await store.createContainer({ signal });
    const report = await runRepair(repository, {
      roots: root === undefined ? undefined : [root],
      signal,
      now,
      onWait: (busy) => output.waiting(busy),
      onProgress: ({ listed, roots }) =>
        output.progress(() => `repairing  ${formatCount(listed)} blobs listed, ${formatCount(roots)} roots done`),
    });
    for (const { blob, reason } of report.quarantined) output.warning(`${blob} was set aside: ${reason}`);
    const unnamed = report.quarantinedCount - report.quarantined.length;
    if (unnamed > 0) output.warning(`${formatCount(unnamed)} more blobs were set aside.`);
    await output.result({ repository: repository.name, ...report }, () => textOf(report));
    if (!report.finished) output.warning('Another repair has taken over; the index is released when that one ends.');
    return exitCodes.done;
  },
};

function textOf({ listed, roots, entries, shardsWritten, shardsRemoved, quarantinedCount }: RepairReport): string {
  return [
    `${counted(roots, 'root')} repaired from ${counted(listed, 'blob')}: ${counted(entries, 'entry', 'entries')}`,
    `  ${counted(shardsWritten, 'shard')} written, ${formatCount(shardsRemoved)} removed, ${counted(quarantinedCount, 'blob')} set aside`,
  ].join('\n');
}
