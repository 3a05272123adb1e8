/** `firn journal` */
import { FirnError, isFirnError } from '../../errors.ts';
import type { JournalInspection, PartitionInspection } from '../../journal/inspection.ts';
import { journalSources } from '../../journal/journal.ts';
import { checkSourceName } from '../../journal/source-name.ts';
import { type Inbox, openInbox } from '../../repository.ts';
import { type Command, type CommandContext, exitCodes } from '../command.ts';
import { type Column, counted, formatBytes, formatCount, formatTable, formatTime } from '../format.ts';

/** Damaged ranges that the text names; `--json` names more. */
const DAMAGE_SHOWN_MAX = 10;

export const journal: Command = {
  name: 'journal',
  summary: 'show what is recorded of a source and not published yet',
  about: [
    'Shows the journal of each source, or of one with all its partitions: what is recorded and waits to be archived and published, how it was written, and what in it is damaged. It reads every partition to its end. No passphrase is needed.',
    'A partition is active (it takes records), sealed (a batch that waits), left, or retired (published, being deleted). With --leave a source is finished: what waits is given up, and nobody archives it; what is uploaded later is archived as ever. --rejoin takes that back, as long as the partitions are there.',
    'A batch whose partition is lost holds up its source, because batches are published in order. With --forget the source goes on without it; what was known of it is written down among what is set aside.',
  ],
  args: [{ name: 'source', optional: true }],
  options: {
    leave: { type: 'flag', about: 'give up what is recorded of the source and not published yet' },
    rejoin: { type: 'flag', about: 'take back that it was given up' },
    forget: { type: 'text', value: 'batch', about: 'go on without a batch whose partition is lost' },
  },
  examples: [
    ['firn journal', 'a line for each source'],
    ['firn journal photos', 'all partitions of one'],
    ['firn journal photos --json', 'the same for a script'],
    ['firn journal photos --leave', 'archive nothing of what waits of photos'],
  ],
  async run(context) {
    const [source] = context.args;
    const { options, output, signal } = context;
    const [leave, rejoin, forget] = [options.flag('leave'), options.flag('rejoin'), options.text('forget')];
    const wanted = [leave, rejoin, forget !== undefined].filter(Boolean).length;
    if (wanted > 1) throw usage('--leave, --rejoin and --forget are one or the other.');
    if (wanted > 0 && source === undefined) throw usage('Name the source that is meant.');
    if (source !== undefined) checkSourceName(source);
    const inbox = await open(context);
    try {
      if (source === undefined) return await showAll(inbox, context);
      const of = inbox.journalOf(source);
      if (leave) await of.leave({ signal });
      if (rejoin) await of.rejoin({ signal });
      if (forget !== undefined) await of.forget(forget, { signal });
      const inspection = await of.inspect({ signal });
      if (inspection.partitions.length === 0) output.message(`Nothing waits of ${source}: its journal is empty.`);
      await output.result(jsonOf(inspection), () => textOf(inspection));
      return exitCodes.done;
    } catch (error) {
      if (!isFirnError(error, 'FIRN_CONTAINER_MISSING')) throw error;
      const { repository } = inbox.settings;
      throw new FirnError('FIRN_REPOSITORY_MISSING', { repository, url: inbox.state.store.url }, { cause: error });
    } finally {
      await inbox[Symbol.asyncDispose]();
    }
  },
};

function usage(problem: string): FirnError {
  return new FirnError('FIRN_USAGE', { problem: `firn journal: ${problem}` });
}

async function open({ connect, now, onWarning, signal }: CommandContext): Promise<Inbox> {
  const { settings, containers } = await connect();
  return openInbox(containers, settings, { now, onWarning, signal });
}

async function showAll(inbox: Inbox, { output, signal }: CommandContext): Promise<number> {
  const rows: string[][] = [];
  for await (const source of journalSources(inbox.state.store, { signal })) {
    output.progress(() => `reading  the journal of ${source}`);
    const inspection = await inbox.journalOf(source).inspect({ signal });
    await output.jsonLine(jsonOf(inspection));
    rows.push(rowOf(inspection));
  }
  if (rows.length > 0) await output.line(formatTable(sourceColumns, rows));
  else output.message('There are no journals: nothing was ever uploaded to the inbox.');
  return exitCodes.done;
}

const sourceColumns: readonly Column[] = [
  { title: 'SOURCE' },
  { title: 'PARTITIONS', align: 'right' },
  { title: 'BATCHES', align: 'right' },
  { title: 'UPLOADS', align: 'right' },
  { title: 'BYTES', align: 'right' },
  { title: 'REMOVALS', align: 'right' },
  { title: 'LEFT', align: 'right' },
  { title: 'DAMAGED', align: 'right' },
];

function rowOf({ source, partitions, uploads, removals, corruptCount, unknownCount }: JournalInspection): string[] {
  const inState = (state: PartitionInspection['state']) => partitions.filter((each) => each.state === state).length;
  const missing = partitions.filter((each) => each.missing).length;
  return [
    source,
    formatCount(partitions.length),
    formatCount(inState('sealed')),
    formatCount(uploads.count),
    formatBytes(uploads.bytes),
    formatCount(removals),
    formatCount(inState('left')),
    formatCount(corruptCount + unknownCount + missing),
  ];
}

const partitionColumns: readonly Column[] = [
  { title: 'PARTITION' },
  { title: 'STATE' },
  { title: 'CREATED' },
  { title: 'LAST' },
  { title: 'RECORDS', align: 'right' },
  { title: 'UPLOADS', align: 'right' },
  { title: 'STORED', align: 'right' },
  { title: 'APPENDS', align: 'right' },
  { title: 'FILTER', align: 'right' },
];

function textOf(inspection: JournalInspection): string {
  const { source, partitions, uploads, removals, duplicates, setAside, corrupt, corruptCount, unknownCount } =
    inspection;
  const records = partitions.reduce((sum, each) => sum + each.records, 0);
  const blocks = partitions.reduce((sum, each) => sum + (each.blocks ?? 0), 0);
  const facts: readonly (readonly [string, string])[] = [
    ['Source', source],
    ['Waiting', `${counted(uploads.count, 'upload')}, ${formatBytes(uploads.bytes)}; ${counted(removals, 'removal')}`],
    ['Written', `${counted(records, 'record')} in ${counted(blocks, 'append')}; ${counted(duplicates, 'repeat')}`],
    ['Damaged', `${counted(corruptCount, 'place')}, ${counted(unknownCount, 'record')} of a newer Firn`],
    ['Set aside', counted(setAside, 'blob')],
  ];
  const width = Math.max(...facts.map(([name]) => name.length));
  const damage = corrupt
    .slice(0, DAMAGE_SHOWN_MAX)
    .map(
      ({ blob, offset, bytes, reason }) =>
        `  ${blob}: ${counted(bytes, 'byte')} from ${formatCount(offset)} (${reason})`,
    );
  return [
    ...facts.map(([name, value]) => `${name.padEnd(width)}  ${value}`),
    ...damage,
    ...(partitions.length === 0 ? [] : ['', formatTable(partitionColumns, partitions.map(partitionRow))]),
  ].join('\n');
}

function partitionRow(partition: PartitionInspection): string[] {
  const { blob, state, compacted, held, missing, mark, created, lastAt, records, uploadBytes } = partition;
  const notes = [compacted && 'compacted', held && 'being published', mark, missing && 'lost'];
  return [
    blob,
    [state, ...notes.filter((note) => typeof note === 'string')].join(', '),
    formatTime(created.toISOString()),
    formatTime(lastAt?.toISOString()),
    formatCount(records),
    formatBytes(uploadBytes),
    formatBytes(partition.blobBytes),
    partition.blocks === undefined ? '-' : formatCount(partition.blocks),
    partition.filterBytes === undefined ? '-' : formatBytes(partition.filterBytes),
  ];
}

function jsonOf(inspection: JournalInspection) {
  return {
    ...inspection,
    partitions: inspection.partitions.map((partition) => ({
      ...partition,
      batch: partition.batch ?? null,
      mark: partition.mark ?? null,
      created: partition.created.toISOString(),
      sealedAt: partition.sealedAt?.toISOString() ?? null,
      lastAt: partition.lastAt?.toISOString() ?? null,
      blocks: partition.blocks ?? null,
      filterBytes: partition.filterBytes ?? null,
    })),
  };
}
