/** The memory of an archive does not grow with what is archived: `firn archive` of noise into an Azurite on disk. */
import path from 'node:path';
import { startAzurite } from '../../../src/local/azurite.ts';
import { fullSizes, makeDataSet } from '../peers/data-sets.ts';
import { measure, type Program } from '../peers/measured-process.ts';
import { firnOnAzurite } from '../peers/programs.ts';
import { formatBytes, formatSeconds, markdownTable } from '../report.ts';

const MiB = 1024 * 1024;

export async function measureMemory({ scale, folder }: { readonly scale: number; readonly folder: string }) {
  await using azurite = await startAzurite({ dataFolder: path.join(folder, 'azurite'), blobPort: 0, queuePort: 0 });
  const { init, archive } = firnOnAzurite;
  const figures: { bytes: number; seconds: number; peakBytes: number }[] = [];
  for (const size of [64, 512]) {
    const sizes = { ...fullSizes, noiseBytes: Math.ceil(size * MiB * scale) };
    const { folder: noise, bytes } = await makeDataSet('noise', sizes, folder, '');
    const own = { FIRN_STORAGE: azurite.connectionString, FIRN_REPOSITORY: `noise-${size}` };
    const run = (program: Program) => measure({ ...program, env: { ...program.env, ...own } });
    const places = { scratch: folder };
    const program = await init(places);
    if (program) await run(program);
    const { seconds, peakBytes } = await run(archive(places, noise));
    figures.push({ bytes, seconds, peakBytes });
  }
  const rows = figures.map(({ bytes, seconds, peakBytes }) => [
    formatBytes(bytes),
    formatSeconds(seconds),
    formatBytes(peakBytes),
  ]);
  return { figures, text: markdownTable(['archived', 'time', 'peak resident'], rows) };
}
