/**
 * Firn beside restic, borg and a plain upload, on the same data: `npm run bench`.
 *
 *     --sets <a,b>     of noise, logs, small files (all)
 *     --peers <a,b>    of the programs by name (all that are installed)
 *     --rounds <n>     (3)
 *     --scale <x>      of the sizes: 384 MiB of noise, 336 MiB of logs, 32,600 small files (1)
 *     --distance-ms <n> that what is sent to Azurite or back is on its way, as to a distant region (0)
 *     --folder <path>  for data sets, which are kept, and for everything else, which is not (the system's temporary folder)
 *     --json <file>    writes all figures
 *
 * Each run of a program has a new Azurite on disk and a new repository. Programs take turns within a round, and a
 * figure is the median of the rounds; in brackets, seconds of CPU, of the program and of Azurite. Everything that is
 * restored is compared with the folder, byte for byte.
 */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildCommandLine } from '../../../build.ts';
import { formatBytes, formatCount, machine, markdownTable } from '../report.ts';
import {
  type DataSet,
  fullSizes,
  makeDataSet,
  type SetName,
  setNames,
  withBytesInserted,
  withOneFileMore,
} from './data-sets.ts';
import { type Measured, measure, type Program } from './measured-process.ts';
import { type Peer, peers } from './programs.ts';
import { startStorage } from './storage.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));

/**
 * Where a byte is put in: what one adds depends on the chunk that it meets, so a figure is the mean of many. Farther from each
 * other than a chunk is long, so that no two meet the same.
 */
const PLACES_INSERTED = 32;

/** What one program needed for one set in one round. */
interface Run {
  readonly first: Seconds;
  readonly unchanged: Seconds;
  /** After a small file was added. */
  readonly oneMore: Seconds;
  readonly restore: Seconds;
  readonly storedBytes: number | undefined;
  /** For each byte that was put in. */
  readonly insertedBytes: number | undefined;
  readonly requests: number | undefined;
  readonly peakBytes: number;
}

interface Seconds {
  readonly elapsed: number;
  /** CPU of the program. */
  readonly own: number;
  /** CPU of Azurite meanwhile. */
  readonly azurite: number | undefined;
}

async function runOnce(peer: Peer, set: DataSet, folder: string, eachWayMs: number): Promise<Run> {
  const scratch = path.join(folder, 'scratch');
  await rm(scratch, { recursive: true, force: true });
  await mkdir(scratch, { recursive: true });
  const storage = peer.inAzurite ? await startStorage(path.join(folder, 'azurite'), eachWayMs) : undefined;
  const at = { scratch };
  const all: Measured[] = [];
  const run = async (program: Program): Promise<Seconds> => {
    const before = storage?.cpuSeconds() ?? 0;
    const measured = await measure(program);
    all.push(measured);
    const azurite = storage && storage.cpuSeconds() - before;
    return { elapsed: measured.seconds, own: measured.cpuSeconds, azurite };
  };
  try {
    const init = await peer.init(at);
    if (init) await measure(init);
    await storage?.requests();
    const first = await run(peer.archive(at, set.folder));
    const requests = await storage?.requests();
    const storedBytes = await storage?.storedBytes();
    const unchanged = await run(peer.archive(at, set.folder));
    const to = path.join(scratch, 'restored');
    await mkdir(to);
    const restore = await run(peer.restore(at, set.folder, to));
    await checkSame(set.folder, peer.restored(set.folder, to));
    await rm(to, { recursive: true });
    const oneMore = await withOneFileMore(set, () => run(peer.archive(at, set.folder)));
    let insertedBytes: number | undefined;
    if (set.name === 'noise' && storage) {
      const before = await storage.storedBytes();
      await withBytesInserted(set, PLACES_INSERTED, () => run(peer.archive(at, set.folder)));
      insertedBytes = ((await storage.storedBytes()) - before) / PLACES_INSERTED;
    }
    return {
      first,
      unchanged,
      oneMore,
      restore,
      storedBytes,
      insertedBytes,
      requests,
      peakBytes: Math.max(...all.map(({ peakBytes }) => peakBytes)),
    };
  } finally {
    await storage?.stop();
    await rm(scratch, { recursive: true, force: true });
  }
}

/** @throws when a file, a link or a folder differs or is missing on one side. */
async function checkSame(left: string, right: string): Promise<void> {
  const [there, here] = await Promise.all([left, right].map((at) => readdir(at, { withFileTypes: true })));
  const names = (entries: typeof there) => entries?.map(({ name }) => name).toSorted() ?? [];
  if (names(there).join('/') !== names(here).join('/')) throw new Error(`${right} has other names than ${left}`);
  for (const entry of there ?? []) {
    const [one, other] = [path.join(left, entry.name), path.join(right, entry.name)];
    if (entry.isDirectory()) await checkSame(one, other);
    else if (entry.isSymbolicLink()) {
      if ((await readlink(one)) !== (await readlink(other))) throw new Error(`${other} differs`);
    } else if (!(await readFile(one)).equals(await readFile(other))) throw new Error(`${other} differs`);
  }
}

function median(numbers: readonly (number | undefined)[]): number | undefined {
  const sorted = numbers.filter((each) => each !== undefined).toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

async function installed(all: readonly Peer[]): Promise<{ there: Peer[]; versions: Record<string, string> }> {
  const there: Peer[] = [];
  const versions: Record<string, string> = {};
  for (const peer of all) {
    try {
      const { stdout } = await measure(peer.version);
      versions[peer.name] = stdout.split('\n')[0] ?? '';
      there.push(peer);
    } catch {
      process.stderr.write(`${peer.name} is not installed; left out (Debian: apt-get install restic borgbackup)\n`);
    }
  }
  return { there, versions };
}

function tableOf(set: DataSet, results: Map<string, Run[]>): string {
  const rows = [...results].map(([name, runs]) => {
    const seconds = (of: (run: Run) => Seconds) => {
      const part = (key: keyof Seconds, digits: number) => median(runs.map((run) => of(run)[key]))?.toFixed(digits);
      const cpu = [part('own', 1), part('azurite', 1)].filter((each) => each !== undefined).join(' + ');
      return `${part('elapsed', 2)} s (${cpu})`;
    };
    const bytes = (of: (run: Run) => number | undefined) => {
      const value = median(runs.map(of));
      return value === undefined ? '' : formatBytes(Math.round(value));
    };
    const requests = median(runs.map((run) => run.requests));
    return [
      name,
      seconds(({ first }) => first),
      seconds(({ unchanged }) => unchanged),
      seconds(({ oneMore }) => oneMore),
      seconds(({ restore }) => restore),
      bytes(({ storedBytes }) => storedBytes),
      bytes(({ insertedBytes }) => insertedBytes),
      requests === undefined ? '' : formatCount(requests),
      bytes(({ peakBytes }) => peakBytes),
    ];
  });
  const head = [
    '',
    'first',
    'unchanged',
    'one file more',
    'restore',
    'stored',
    'a byte more adds',
    'requests',
    'peak memory',
  ];
  return `### ${set.name}: ${formatCount(set.files)} files, ${formatBytes(set.bytes)}\n\n${markdownTable(head, rows)}\n`;
}

const { values } = parseArgs({
  options: {
    sets: { type: 'string', default: setNames.join(',') },
    peers: { type: 'string', default: peers.map(({ name }) => name).join(';') },
    rounds: { type: 'string', default: '3' },
    scale: { type: 'string', default: '1' },
    'distance-ms': { type: 'string', default: '0' },
    folder: { type: 'string', default: path.join(tmpdir(), 'firn-bench') },
    json: { type: 'string' },
  },
});
if (!existsSync('/proc/self/status')) throw new Error('This reads peak memory from /proc, which is on Linux only.');
const scale = Number(values.scale);
const eachWayMs = Number(values['distance-ms']);
const sizes = {
  noiseBytes: Math.round(fullSizes.noiseBytes * scale),
  logBytes: Math.round(fullSizes.logBytes * scale),
  smallFiles: Math.round(fullSizes.smallFiles * scale),
};
const wantedSets = setNames.filter((name: SetName) => values.sets.split(',').includes(name));
const wantedPeers = peers.filter(({ name }) => values.peers.split(';').includes(name));
const { there, versions } = await installed(wantedPeers);
const { node, cores, memoryGiB } = machine();
process.stdout.write(`${cores} cores, ${memoryGiB} GiB, Node.js ${node}; ${Object.values(versions).join('; ')}\n\n`);
await mkdir(values.folder, { recursive: true });
// As its users have it after `npm run build`.
await buildCommandLine(root);
const report: unknown[] = [];
for (const name of wantedSets) {
  const set = await makeDataSet(name, sizes, path.join(values.folder, 'data'), path.join(root, 'node_modules'));
  const results = new Map<string, Run[]>(there.map((peer) => [peer.name, []]));
  for (let round = 0; round < Number(values.rounds); round += 1) {
    const turns = [...there.slice(round % there.length), ...there.slice(0, round % there.length)];
    for (const peer of turns) {
      const run = await runOnce(peer, set, values.folder, eachWayMs);
      results.get(peer.name)?.push(run);
      process.stderr.write(`${set.name}, round ${round + 1}, ${peer.name}: ${JSON.stringify(run)}\n`);
    }
  }
  process.stdout.write(`${tableOf(set, results)}\n`);
  report.push({ set, runs: Object.fromEntries(results) });
}
if (values.json) {
  const all = { machine: machine(), versions, rounds: Number(values.rounds), sizes, eachWayMs, sets: report };
  await writeFile(values.json, `${JSON.stringify(all, null, 2)}\n`);
}
