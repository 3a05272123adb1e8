/**
 * What the work costs, alone and as it grows: `npm run bench:work`.
 *
 *     --sections <a,b>  of engine, inbox, growth, memory (all)
 *     --scale <x>       of all sizes (1)
 *     --json <file>     writes all figures
 *
 * Each section is a file in `work/`, which says what is measured. Nothing here compares with other programs; `peers/`
 * does.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { machine } from './report.ts';
import { measureEngine } from './work/engine.ts';
import { measureGrowth } from './work/growth.ts';
import { measureInbox } from './work/inbox.ts';
import { measureMemory } from './work/memory.ts';

const sections = {
  engine: { title: 'The engine alone, beside its primitives', measure: measureEngine },
  inbox: { title: 'One invocation for the inbox, on Azurite', measure: measureInbox },
  growth: { title: 'How each cost grows', measure: measureGrowth },
  memory: { title: 'Memory of an archive', measure: measureMemory },
};

const { values } = parseArgs({
  options: {
    sections: { type: 'string', default: Object.keys(sections).join() },
    scale: { type: 'string', default: '1' },
    json: { type: 'string' },
  },
});
const scale = Number(values.scale);
const wanted = Object.entries(sections).filter(([name]) => values.sections.split(',').includes(name));
if (!(scale > 0) || wanted.length === 0)
  throw new RangeError('--scale is a number above 0, --sections a list of names');

const { node, cores, memoryGiB } = machine();
process.stdout.write(`${cores} cores, ${memoryGiB} GiB, Node.js ${node}, scale ${scale}\n`);
const figures: Record<string, unknown> = { machine: machine(), scale };
for (const [name, { title, measure }] of wanted) {
  const folder = await mkdtemp(path.join(tmpdir(), 'firn-bench-work-'));
  try {
    const measured = await measure({ scale, folder });
    figures[name] = measured.figures;
    process.stdout.write(`\n### ${title}\n\n${measured.text}\n`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(figures, undefined, 2)}\n`);
