/**
 * The chunk index at scale: `npm run bench:index`.
 *
 *     --chunks <n>      chunks of the generated repository (1,000,000)
 *     --series <n,…>    sizes for the memory and time of repair (a quarter, half, once, twice and four times that)
 *     --one-root <n>    chunks that all lie in one of the 16 roots, as in a repository 16 times as large (as --chunks)
 *     --json            one JSON object in the place of tables
 *
 * What is measured, and how, is in `index-measurements.ts`; docs/scale.md has the figures of a run and what follows.
 */
import { parseArgs } from 'node:util';
import {
  generate,
  measureFlush,
  measureIntact,
  measureLookups,
  measureRepair,
  measureShards,
  measureSmallHeap,
  type RepairMeasured,
  repairSection,
  type Subject,
} from './index-measurements.ts';
import { formatPapers, paperOf, type Shape } from './index-on-paper.ts';
import { formatBytes, formatCount, formatSection, machine, markdownTable, type Section } from './report.ts';

const { values } = parseArgs({
  options: {
    chunks: { type: 'string', default: '1000000' },
    series: { type: 'string' },
    'one-root': { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});

const chunks = Number(values.chunks);
const series = values.series?.split(',').map(Number) ?? [0.25, 0.5, 1, 2, 4].map((times) => Math.round(chunks * times));
const inOneRoot = Number(values['one-root'] ?? chunks);
if ([chunks, inOneRoot, ...series].some((size) => !Number.isSafeInteger(size) || size < 1)) {
  throw new RangeError('sizes are numbers of chunks, from 1');
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`${text}\n`);
}

function seriesTable(measured: readonly RepairMeasured[]): string {
  return markdownTable(
    ['chunks', 'tar chunks', 'passes', 'must hold', 'alive at most', 'resident at most', 'time', 'CPU time'],
    measured.map((repair) => [
      formatCount(repair.chunks),
      formatCount(repair.tars),
      formatCount(repair.passes),
      formatBytes(repair.heldBytes),
      formatBytes(repair.aliveBytes),
      formatBytes(repair.residentBytes),
      `${formatCount(repair.seconds)} s`,
      `${formatCount(repair.cpuSeconds)} s`,
    ]),
  );
}

function shapeOf({ chunks, blobs, tars, passes, traffic, cpuSeconds }: RepairMeasured): Shape {
  const firstPassCpuSeconds = cpuSeconds / passes / chunks;
  const inPasses = repairs.findLast((repair) => repair.passes > 1);
  const further = inPasses && (inPasses.cpuSeconds / inPasses.chunks - firstPassCpuSeconds) / (inPasses.passes - 1);
  return {
    blobs: blobs / chunks,
    tars: tars / chunks,
    shardBytes: traffic.bytesWritten / chunks,
    pointerBytes: traffic.bytesRead / passes / chunks,
    firstPassCpuSeconds,
    nextPassCpuSeconds: further ?? firstPassCpuSeconds,
  };
}

const sections: Section[] = [];
const repairs: RepairMeasured[] = [];
let generated: Subject['generated'] | undefined;
let measured: RepairMeasured | undefined;
for (const size of [...new Set([...series, chunks])].sort((a, b) => a - b)) {
  progress(`repairing ${formatCount(size)} chunks`);
  const subject = await generate(size);
  const repair = await measureRepair(subject);
  if (series.includes(size)) repairs.push(repair);
  if (size !== chunks) continue;
  generated = subject.generated;
  measured = repair;
  sections.push(await measureShards(subject), repairSection(subject, repair, await measureSmallHeap(subject)));
  progress('measuring the index');
  sections.push(...(await measureIntact(subject)), ...(await measureLookups(subject)), await measureFlush(subject));
}
progress(`repairing ${formatCount(inOneRoot)} chunks of one root`);
const oneRoot = await measureRepair(await generate(inOneRoot, 1));
const papers = measured === undefined ? [] : [1e6, 1e7, 1e8, 1e9].map((size) => paperOf(size, shapeOf(measured)));

if (values.json) {
  print(JSON.stringify({ machine: machine(), chunks, generated, sections, repairs, oneRoot, papers }));
} else {
  const { node, cores, memoryGiB } = machine();
  const { large = 0, tars = 0, rawBytes = 0 } = generated ?? {};
  print(`Node.js ${node}, ${cores} cores, ${memoryGiB} GiB of memory\n`);
  print(
    `${formatCount(chunks)} chunks of ${formatBytes(rawBytes)}: ${formatCount(large)} large ones and ${formatCount(tars)} tar chunks\n`,
  );
  print(sections.map(formatSection).join('\n'));
  print(`### Memory and time of a repair from nothing\n\n${seriesTable(repairs)}\n`);
  print(`### The same with all chunks in one root\n\n${seriesTable([oneRoot])}\n`);
  print(`### On paper, from the shape that was measured\n\n${formatPapers(papers)}`);
}
