/** `firn snapshots` */
import type { Snapshot } from '../../snapshots/snapshot.ts';
import { type Command, exitCodes } from '../command.ts';
import { type Column, formatBytes, formatCount, formatTable, formatTime, shortIdLength } from '../format.ts';

export const snapshots: Command = {
  name: 'snapshots',
  summary: 'list the snapshots, oldest first',
  about: ['Lists the snapshots of all sources, or of one, oldest first. Times are in UTC.'],
  args: [],
  options: { source: { type: 'text', value: 'name', about: 'only the snapshots of this source' } },
  examples: [
    ['firn snapshots', 'list all'],
    ['firn snapshots --source documents --json', 'those of one source, for a script'],
  ],
  async run({ options, output, open, signal }) {
    const repository = await open();
    const listed: Snapshot[] = [];
    let damaged = 0;
    const found = repository.snapshots.list({
      source: options.text('source'),
      signal,
      onDamaged: ({ error }) => {
        damaged += 1;
        output.problem(error);
      },
    });
    for await (const snapshot of found) {
      await output.jsonLine(jsonOf(snapshot));
      if (!output.json) listed.push(snapshot);
    }
    if (listed.length > 0) await output.line(tableOf(listed));
    else if (!output.json) output.message('There are no snapshots.');
    return damaged > 0 ? exitCodes.failed : exitCodes.done;
  },
};

function jsonOf({ id, source, time, totals, parent, changes, stored, skipped }: Snapshot) {
  return {
    id,
    source,
    time,
    files: totals.files,
    folders: totals.folders,
    bytes: totals.bytes,
    parent: parent ?? null,
    ...changes,
    storedBytes: stored.storedBytes,
    skipped: skipped.count,
  };
}

const columns: readonly Column[] = [
  { title: 'ID' },
  { title: 'TIME' },
  { title: 'SOURCE' },
  { title: 'FILES', align: 'right' },
  { title: 'SIZE', align: 'right' },
  { title: 'STORED', align: 'right' },
  { title: 'CHANGES' },
];

function tableOf(listed: readonly Snapshot[]): string {
  const digits = shortIdLength(listed.map(({ id }) => id));
  return formatTable(
    columns,
    listed.map(({ id, time, source, totals, stored, changes, skipped }) => [
      id.slice(0, digits),
      formatTime(time),
      source,
      formatCount(totals.files),
      formatBytes(totals.bytes),
      formatBytes(stored.storedBytes),
      `+${formatCount(changes.added)} ~${formatCount(changes.changed)} -${formatCount(changes.removed)}${
        skipped.count > 0 ? `  (${formatCount(skipped.count)} left out)` : ''
      }`,
    ]),
  );
}
