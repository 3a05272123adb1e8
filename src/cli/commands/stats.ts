/** `firn stats` */
import { type Command, exitCodes } from '../command.ts';
import { counted, formatBytes, formatCount } from '../format.ts';
import { collectStatistics, type Statistics } from '../statistics.ts';

export const stats: Command = {
  name: 'stats',
  summary: 'show what the repository holds and what waits',
  about: [
    'Counts snapshots, chunk blobs, index entries and what waits to be archived or published. It lists all chunk blobs and reads the whole chunk index, so it takes its time on a large repository.',
    'Unreferenced are chunk blobs that neither the chunk index nor a waiting receipt points at: two batches that stored the same content at the same moment, or a run that died, leave them. They do no harm.',
  ],
  args: [],
  options: {},
  examples: [
    ['firn stats', 'show all counts'],
    ['firn stats --json', 'as one JSON object'],
  ],
  async run({ output, open, signal }) {
    const repository = await open();
    const statistics = await collectStatistics(repository, {
      signal,
      onWarning: (error) => output.problem(error),
      onProgress: (blobs) => output.progress(() => `counting  ${formatCount(blobs)} chunk blobs`),
    });
    await output.result({ repository: repository.name, ...statistics }, () => textOf(repository.name, statistics));
    return exitCodes.done;
  },
};

function textOf(repository: string, statistics: Statistics): string {
  const { snapshots, sources, chunks, index, unreferenced, waiting, setAside } = statistics;
  const kinds = (['large', 'tar', 'thin'] as const).map(
    (kind) =>
      [`  ${kind}`, `${counted(chunks[kind].blobs, 'blob')}, ${formatBytes(chunks[kind].storedBytes)}`] as const,
  );
  const rows: readonly (readonly [string, string])[] = [
    ['Repository', repository],
    ['Snapshots', `${formatCount(snapshots)} of ${counted(sources.length, 'source')}`],
    ['Chunk blobs', `${formatCount(chunks.blobs)}, ${formatBytes(chunks.storedBytes)}`],
    ...kinds,
    ['  raw', formatBytes(chunks.rawBytes)],
    ['Unreferenced', `${counted(unreferenced.blobs, 'blob')}, ${formatBytes(unreferenced.storedBytes)}`],
    [
      'Chunk index',
      `${counted(index.entries, 'entry', 'entries')} in ${counted(index.shards, 'shard')}, ${formatBytes(index.storedBytes)}`,
    ],
    [
      'Waiting',
      `${counted(waiting.receipts, 'receipt')}, ${counted(waiting.batches, 'batch', 'batches')}, uploads of ${counted(waiting.openSources, 'source')}`,
    ],
    ['Failed batches', formatCount(waiting.failedBatches)],
    ['Set aside', `${counted(setAside, 'damaged piece')} of journals`],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join('\n');
}
