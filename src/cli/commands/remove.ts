/** `firn remove` */
import { randomUUID } from 'node:crypto';
import { recordInJournal } from '../../archive/batches.ts';
import { checkPath } from '../../filetree/entry.ts';
import { findEntry, isDamage } from '../../filetree/walk.ts';
import { checkSourceName } from '../../journal/source-name.ts';
import type { Repository } from '../../repository.ts';
import { normalizePath } from '../../restore/selection.ts';
import type { CallOptions } from '../../storage/blob-store.ts';
import { type Command, exitCodes } from '../command.ts';
import { printable } from '../format.ts';

export const remove: Command = {
  name: 'remove',
  summary: 'leave files or folders out of the next snapshot of a source',
  about: [
    'Records that the paths, and all below them, are to be absent from the next snapshot of the source. Earlier snapshots keep them. It takes effect with the next publish: by the functions, or at once by `firn publish`. Uploads that come later are archived as ever.',
  ],
  args: [{ name: 'source' }, { name: 'path', repeated: true }],
  options: {},
  examples: [
    ['firn remove documents drafts/old.txt', 'leave out a file'],
    ['firn remove documents drafts && firn publish documents', 'leave out a folder, now'],
  ],
  async run({ args, output, open, signal }) {
    const [source = '', ...rest] = args;
    checkSourceName(source);
    const paths = rest.map(normalizePath);
    for (const path of paths) checkPath(path);
    const repository = await open();
    for (const path of paths) {
      await recordInJournal(repository, source, { kind: 'removal', path, nonce: randomUUID() }, { signal });
      const known = await isInLatest(repository, source, path, { signal });
      await output.result(
        { source, path, inLatest: known },
        () => `${source}: ${printable(path)} is left out of the next snapshot.`,
      );
      if (known === false) output.warning(`${path} is not in the latest snapshot of ${source}.`, { path });
    }
    output.message(`It takes effect with the next publish; \`firn publish ${source}\` publishes now.`);
    return exitCodes.done;
  },
};

/** Null where a damaged filetree cannot tell. */
async function isInLatest(
  { snapshots, filetrees }: Repository,
  source: string,
  path: string,
  options: CallOptions,
): Promise<boolean | null> {
  try {
    const head = await snapshots.readHead(source, options);
    if (head === undefined) return false;
    const { folder, file } = await findEntry(filetrees, head.snapshot.root, path, options);
    return folder !== undefined || file !== undefined;
  } catch (error) {
    if (isDamage(error)) return null;
    throw error;
  }
}
