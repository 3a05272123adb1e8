/** `firn diff` */
import { compareTrees, type TreeDifference } from '../../filetree/compare.ts';
import { type Command, exitCodes } from '../command.ts';
import { formatCount, printable } from '../format.ts';

const CHANGE_CHARS = 'attributes'.length;

export const diff: Command = {
  name: 'diff',
  summary: 'list what differs between two snapshots',
  about: [
    'Lists the paths that differ, from the first snapshot to the second: added, removed, modified (other content), or attributes (only the time or the mode differ).',
    'With --json each line has path, change and type.',
  ],
  args: [{ name: 'before' }, { name: 'after' }],
  options: {},
  examples: [
    ['firn diff 3f2a1b latest:documents', 'what happened since a snapshot'],
    ['firn diff 3f2a1b 77c0de --json', 'the same for a script'],
  ],
  async run({ args, output, open, signal }) {
    const [a = '', b = ''] = args;
    const { snapshots, filetrees } = await open();
    const before = await snapshots.resolve(a, { signal });
    const after = await snapshots.resolve(b, { signal });
    const counts = { added: 0, removed: 0, modified: 0, attributes: 0 };
    for await (const difference of compareTrees(filetrees, before.root, after.root, { signal })) {
      const { path, change } = difference;
      const type = typeOf(difference);
      counts[change] += 1;
      await output.result(
        { path, change, type },
        () => `${change.padEnd(CHANGE_CHARS)}  ${printable(path)}${type === 'folder' ? '/' : ''}`,
      );
    }
    await output.flush();
    const { added, removed, modified, attributes } = counts;
    output.message(
      `${formatCount(added)} added, ${formatCount(removed)} removed, ${formatCount(modified)} modified, ${formatCount(attributes)} with other attributes.`,
    );
    return exitCodes.done;
  },
};

function typeOf({ before, after }: TreeDifference): string {
  return (after ?? before)?.type ?? 'file';
}
