/** How each cost grows with files and with snapshots: requests, as a service would bill them, and seconds. */
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import pMap from 'p-map';
import { archiveAndPublish } from '../../../src/cli/archive-and-publish.ts';
import { findEntry, listFolder } from '../../../src/filetree/walk.ts';
import { runRepair } from '../../../src/index/repair-run.ts';
import type { Repository } from '../../../src/repository.ts';
import { restoreTree } from '../../../src/restore/restore-tree.ts';
import { type CountedStore, createCountedStore, sumOfTraffic, type Traffic } from '../../kit/counted-store.ts';
import { createMemoryAccount } from '../../kit/memory-blob-store.ts';
import { createTestRepository } from '../../kit/repository.ts';
import { type Took, timed } from '../measuring.ts';
import { formatCount, markdownTable } from '../report.ts';
import { logPlot } from './log-plot.ts';

const FILE_BYTES = 600;
const FILES_OF_FOLDER = 100;
const FILES_WRITTEN_AT_ONCE = 16;
const SOURCE = 'bench';

interface Cost extends Took {
  readonly work: string;
  readonly size: number;
  readonly requests: number;
  readonly traffic: Traffic;
}

function nameOf(file: number): string {
  return `folder-${Math.floor(file / FILES_OF_FOLDER)}/file-${file}`;
}

async function writeVersion(folder: string, file: number, version: number): Promise<void> {
  const name = nameOf(file);
  const content = createHash('shake256', { outputLength: FILE_BYTES }).update(`${name} ${version}`).digest();
  await writeFile(path.join(folder, name), content);
}

async function makeFiles(folder: string, files: number): Promise<void> {
  for (let first = 0; first < files; first += FILES_OF_FOLDER) {
    await mkdir(path.join(folder, path.dirname(nameOf(first))), { recursive: true });
  }
  await pMap(Array(files).keys(), (file) => writeVersion(folder, file, 0), { concurrency: FILES_WRITTEN_AT_ONCE });
}

/** A source in a store that counts. Each work begins as a command does: the repository is opened, nothing is in memory. */
async function openSource(folder: string, files: number) {
  const source = path.join(folder, 'files');
  await makeFiles(source, files);
  const account = createMemoryAccount();
  const stores = new Map<string, CountedStore>();
  const storeOf = (name: string) => {
    const store = stores.get(name) ?? createCountedStore(account.container(name));
    stores.set(name, store);
    return store.store;
  };
  const takeTraffic = () => sumOfTraffic([...stores.values()].map((store) => store.takeTraffic()));
  const { reopen } = await createTestRepository({ containers: { container: storeOf } });
  const changed = files >> 1;
  let versions = 0;
  return {
    change() {
      versions += 1;
      return writeVersion(source, changed, versions);
    },
    archive: (repository: Repository) => archiveAndPublish(repository, source, SOURCE),
    async restore(repository: Repository) {
      const target = path.join(folder, `restored-${versions}`);
      const snapshot = await repository.snapshots.resolve(`latest:${SOURCE}`);
      const restored = await restoreTree(repository, snapshot, target, { paths: [nameOf(changed)] });
      if (restored.files !== 1) throw new Error('the file was not restored');
    },
    async ls(repository: Repository) {
      const { root } = await repository.snapshots.resolve(`latest:${SOURCE}`);
      const found = await findEntry(repository.filetrees, root, path.dirname(nameOf(changed)));
      if (found.folder === undefined) throw new Error('the folder is not there');
      return await Array.fromAsync(listFolder(repository.filetrees, found.folder.tree));
    },
    async cost(work: string, size: number, run: (repository: Repository) => Promise<unknown>): Promise<Cost> {
      takeTraffic();
      const { took } = await timed(async () => run(await reopen()));
      const traffic = takeTraffic();
      const { lists, reads, writes, deletes, others } = traffic;
      return { work, size, ...took, requests: lists + reads + writes + deletes + others, traffic };
    },
  };
}

async function growthOfFiles(folder: string, files: number): Promise<Cost[]> {
  const { change, archive, restore, ls, cost } = await openSource(folder, files);
  const costs = [
    await cost('first archive', files, archive),
    await cost('unchanged archive', files, archive),
    await cost('restore of one file', files, restore),
    await cost('ls of one folder', files, ls),
  ];
  await change();
  return [...costs, await cost('archive, one file changed', files, archive)];
}

async function growthOfSnapshots(folder: string, files: number, sizes: readonly number[]): Promise<Cost[]> {
  const { change, archive, restore, cost } = await openSource(folder, files);
  const costs: Cost[] = [];
  let snapshots = 0;
  const another = async () => {
    await change();
    snapshots += 1;
    return await cost('archive, one file changed', snapshots, archive);
  };
  await cost('first archive', 0, archive);
  snapshots += 1;
  for (const size of sizes) {
    while (snapshots < size) await another();
    costs.push(
      await cost('list of the snapshots', size, ({ snapshots }) => Array.fromAsync(snapshots.list({ source: SOURCE }))),
      await cost('restore of one file', size, restore),
      await cost('repair of the index', size, (repository) => runRepair(repository, {})),
      { ...(await another()), size },
    );
  }
  return costs;
}

function textOf(costs: readonly Cost[], sizeTitle: string): string {
  const works = [...new Set(costs.map(({ work }) => work))];
  const ofWork = works.map((work) => costs.filter((cost) => cost.work === work));
  const rows = ofWork.flat().map(({ work, size, seconds, cpuSeconds, requests, traffic }) => {
    const { lists, reads, writes, deletes, others } = traffic;
    const counts = [requests, lists, reads, writes, deletes, others];
    return [work, formatCount(size), seconds.toFixed(3), cpuSeconds.toFixed(3), ...counts.map(formatCount)];
  });
  const head = [
    'work',
    sizeTitle,
    'seconds',
    'CPU seconds',
    'requests',
    'lists',
    'reads',
    'writes',
    'deletes',
    'others',
  ];
  const plot = (title: string, y: (cost: Cost) => number) => {
    const series = ofWork.map((each, n) => ({
      name: works[n] ?? '',
      points: each.map((cost) => ({ x: cost.size, y: y(cost) })),
    }));
    return `\`\`\`\n${logPlot(title, sizeTitle, series)}\n\`\`\``;
  };
  return [
    markdownTable(head, rows),
    plot('seconds', ({ seconds }) => seconds),
    plot('requests', ({ requests }) => requests),
  ].join('\n\n');
}

const scaled = (sizes: readonly number[], scale: number) => [
  ...new Set(sizes.map((size) => Math.max(1, Math.round(size * scale)))),
];

export async function measureGrowth({ scale, folder }: { readonly scale: number; readonly folder: string }) {
  const files: Cost[] = [];
  for (const size of scaled([1_000, 10_000, 100_000], scale)) {
    files.push(...(await growthOfFiles(path.join(folder, `files-${size}`), size)));
  }
  const filesOfEach = Math.ceil(1_000 * scale);
  const snapshots = await growthOfSnapshots(path.join(folder, 'snapshots'), filesOfEach, scaled([1, 10, 100], scale));
  const ofSnapshots = `Snapshots of ${formatCount(filesOfEach)} files:\n\n${textOf(snapshots, 'snapshots')}`;
  return { figures: { files, snapshots }, text: `${textOf(files, 'files')}\n\n${ofSnapshots}` };
}
