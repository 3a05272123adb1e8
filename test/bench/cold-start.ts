/**
 * How long the deployed bundle takes to load and to register all functions, on one core, and what most of that is:
 * `npm run bench:start`. Each dependency is bundled alone, as the package is, and loaded in the same way; what several of
 * them share is counted in each.
 *
 *     --rounds <n>   processes for each figure (15)
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildPackage, bundleInto } from '../../build.ts';
import { measure } from './peers/measured-process.ts';
import { machine, markdownTable } from './report.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const loader = fileURLToPath(new URL('./cold-start-load.ts', import.meta.url));
const parts = [
  '@azure/storage-blob',
  '@azure/storage-queue',
  '@azure/identity',
  '@azure/functions',
  'durable-functions',
];
const GOAL_MS = 150;

interface Load {
  readonly ms: number;
  readonly cpuMs: number;
  readonly functions: number;
}

async function load(file: string, rounds: number): Promise<Load> {
  const loads: Load[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const { stdout } = await measure({ command: 'taskset', args: ['-c', '0', process.execPath, loader, file] });
    loads.push(JSON.parse(stdout));
  }
  const [middle] = loads.toSorted((a, b) => a.ms - b.ms).slice(rounds >> 1);
  if (middle === undefined) throw new Error('--rounds must be at least 1');
  return middle;
}

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '15' } } });
const rounds = Number(values.rounds);
const folder = await mkdtemp(path.join(tmpdir(), 'firn-bench-start-'));
try {
  const size = await buildPackage(path.join(folder, 'package'));
  const whole = await load(path.join(folder, 'package', 'index.cjs'), rounds);
  const rows = [[`the package (${whole.functions} functions)`, whole.ms.toFixed(0), whole.cpuMs.toFixed(0)]];
  const alone: [string, Load][] = [];
  for (const part of parts) {
    const partFolder = path.join(folder, part);
    await bundleInto(partFolder, { stdin: { contents: `export * from '${part}'`, resolveDir: root } });
    alone.push([part, await load(path.join(partFolder, 'index.cjs'), rounds)]);
  }
  for (const [part, { ms, cpuMs }] of alone.toSorted(([, a], [, b]) => b.ms - a.ms)) {
    rows.push([`${part} alone`, ms.toFixed(0), cpuMs.toFixed(0)]);
  }
  const { node, cores } = machine();
  process.stdout.write(
    `One of ${cores} cores, Node.js ${node}, ${(size.bytes / 1e6).toFixed(1)} MB of package; median of ${rounds} processes; goal ${GOAL_MS} ms\n\n` +
      `${markdownTable(['loading', 'ms', 'ms of CPU'], rows)}\n`,
  );
} finally {
  await rm(folder, { recursive: true, force: true });
}
