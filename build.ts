/**
 * Builds exactly what is deployed, into `dist/package` (`npm run build`, `npm run package`): all functions in one file; what
 * no function needs in order to be registered in files beside it, because cold start is part of performance; `host.json`; and
 * a `package.json` that names the first. There is nothing to install: every dependency is in the package but
 * `@azure/functions-core`, which the Functions worker answers at run time. The command line is bundled in the same way,
 * into `dist/cli` (`src/cli/bundle.js`).
 *
 * Identifiers keep their names, so that stack traces in the logs can be read.
 */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { type BuildOptions, build, type Plugin, type PluginBuild, type ResolveOptions } from 'esbuild';
import { BUNDLE_ENTRY, bundleFolder, MADE_FROM, sourcesNow } from './src/cli/bundle.js';

const root = fileURLToPath(new URL('./', import.meta.url));
const ENTRY = BUNDLE_ENTRY;

/** Imported dynamically. Firn never asks for a listing in Arrow's format, which is all that the storage SDK has Arrow for. */
const IMPORTED_LATER = /\/telemetry-sdk\.ts$|^apache-arrow$/;
/** What durable-functions requires when it is loaded, and uses when it starts or runs an orchestration. Each stands alone. */
const REQUIRED_LATER = /^(axios|lodash\/cloneDeep|moment|validator)$/;

export interface PackageSize {
  readonly files: number;
  readonly bytes: number;
  /** Each file compressed alone; the zip that is uploaded has about this size. */
  readonly compressedBytes: number;
}

/** @param folder is emptied first. */
export async function buildPackage(folder: string): Promise<PackageSize> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await bundleInto(folder, { entryPoints: [path.join(root, 'functions', 'index.ts')] });
  await copyFile(path.join(root, 'host.json'), path.join(folder, 'host.json'));
  const { name, version, license, engines } = JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8'));
  const manifest = { name, version, license, private: true, main: ENTRY, engines };
  await writeFile(path.join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  return await sizeOf(folder);
}

/** Bundles the command line of Firn in this folder, which has its packages. The bundle is there whole or not at all. */
export async function buildCommandLine(firn: string): Promise<PackageSize> {
  const folder = bundleFolder(firn);
  await mkdir(path.dirname(folder), { recursive: true });
  const scratch = await mkdtemp(`${folder}-`);
  try {
    // What changes while it is bundled makes it an old one.
    const madeFrom = sourcesNow(firn);
    const fresh = path.join(scratch, 'new');
    await bundleInto(fresh, { entryPoints: [path.join(firn, 'src', 'cli', 'process.ts')] });
    await writeFile(path.join(fresh, MADE_FROM), madeFrom);
    if (existsSync(folder)) await rename(folder, path.join(scratch, 'old'));
    await rename(fresh, folder);
    return await sizeOf(folder);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** With a working folder of its own a build is the same wherever it is run: modules are named from there. */
const bundling = {
  absWorkingDir: root,
  bundle: true,
  format: 'cjs',
  platform: 'node',
  target: 'node22',
  minifySyntax: true,
  minifyWhitespace: true,
  logLevel: 'warning',
  external: ['@azure/functions-core'],
  // The storage SDK asks of each body whether it is a form, which none is; for the question Node.js loads its `fetch`: 35 ms.
  define: { FormData: 'undefined' },
} satisfies BuildOptions;

/** Bundles a source as the package is: into `index.cjs` in this folder, and beside it what is read later. */
export async function bundleInto(folder: string, source: Pick<BuildOptions, 'entryPoints' | 'stdin'>): Promise<void> {
  const later = new Map<string, string>();
  await build({ ...bundling, ...source, outfile: path.join(folder, ENTRY), plugins: [readLater(later)] });
  for (const [file, entry] of later) {
    await build({ ...bundling, entryPoints: [entry], outfile: path.join(folder, file) });
  }
}

/** Leaves out what is read later. @param files takes the names of the files that it is to be in, with what to bundle there. */
function readLater(files: Map<string, string>): Plugin {
  const RESOLVING = 'resolving';
  const REQUIRED = 'required-later';

  function setup({ onResolve, onLoad, resolve }: PluginBuild): void {
    onResolve({ filter: IMPORTED_LATER }, async ({ path: name, kind, pluginData, ...from }) => {
      if (kind !== 'dynamic-import' || pluginData === RESOLVING) return undefined;
      return { path: await fileOf(name, { ...from, kind }), external: true };
    });
    onResolve({ filter: REQUIRED_LATER }, async ({ path: name, kind, pluginData, ...from }) => {
      if (pluginData === RESOLVING || !/[\\/]durable-functions[\\/]/.test(from.importer)) return undefined;
      return { path: await fileOf(name, { ...from, kind }), namespace: REQUIRED };
    });
    onResolve({ filter: /./, namespace: REQUIRED }, ({ path: file }) => ({ path: file, external: true }));
    onLoad({ filter: /./, namespace: REQUIRED }, ({ path: file }) => ({ contents: requireAtFirstUse(file) }));

    async function fileOf(name: string, from: ResolveOptions): Promise<string> {
      const { path: entry } = await resolve(name, { ...from, pluginData: RESOLVING });
      const file = `${path.basename(name, '.ts')}.cjs`;
      files.set(file, entry);
      return `./${file}`;
    }
  }
  return { name: 'read-later', setup };
}

/** A module that stands in for the one in `file`, whose exports are a function or an object. */
function requireAtFirstUse(file: string): string {
  return `
    const load = () => require('${file}');
    module.exports = new Proxy(() => {}, {
      get: (_, name) => load()[name],
      apply: (_, self, values) => Reflect.apply(load(), self, values),
    });`;
}

async function sizeOf(folder: string): Promise<PackageSize> {
  const names = await readdir(folder);
  const contents = await Promise.all(names.map((name) => readFile(path.join(folder, name))));
  return {
    files: contents.length,
    bytes: contents.reduce((sum, { length }) => sum + length, 0),
    compressedBytes: contents.reduce((sum, content) => sum + gzipSync(content).length, 0),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const packageFolder = path.join(root, 'dist', 'package');
  const built = new Map([
    [packageFolder, await buildPackage(packageFolder)],
    [bundleFolder(root), await buildCommandLine(root)],
  ]);
  const megabytes = (size: number) => `${(size / 1024 ** 2).toFixed(2)} MiB`;
  for (const [folder, { files, bytes, compressedBytes }] of built) {
    const sizes = `${megabytes(bytes)}, ${megabytes(compressedBytes)} compressed`;
    process.stdout.write(`${path.relative(root, folder)}: ${files} files, ${sizes}\n`);
  }
}
