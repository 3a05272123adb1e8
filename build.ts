/**
 * Builds exactly what is deployed, into `dist/package` (`npm run build`, `npm run package`): all functions in one file,
 * because cold start is part of performance; the telemetry SDK in another, which is read only where it is wanted; `host.json`;
 * and a `package.json` that names the first. There is nothing to
 * install: every dependency is in the bundle but `@azure/functions-core`, which the Functions worker answers at run time.
 *
 * Identifiers keep their names, so that stack traces in the logs can be read.
 */
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { type BuildOptions, build, type PluginBuild } from 'esbuild';

const root = fileURLToPath(new URL('./', import.meta.url));
const ENTRY = 'index.cjs';
const TELEMETRY = 'telemetry-sdk.cjs';

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
  await bundle('functions/index.ts', path.join(folder, ENTRY));
  await bundle('functions/shared/telemetry-sdk.ts', path.join(folder, TELEMETRY));
  await copyFile(path.join(root, 'host.json'), path.join(folder, 'host.json'));
  const { name, version, license, engines } = JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8'));
  const manifest = { name, version, license, private: true, main: ENTRY, engines };
  await writeFile(path.join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  return await sizeOf(folder);
}

/** How everything in the package is bundled. */
export const bundling = {
  bundle: true,
  format: 'cjs',
  platform: 'node',
  target: 'node22',
  minifySyntax: true,
  minifyWhitespace: true,
  logLevel: 'warning',
  external: ['@azure/functions-core'],
} satisfies BuildOptions;

async function bundle(entry: string, outfile: string): Promise<void> {
  await build({
    ...bundling,
    absWorkingDir: root,
    entryPoints: [entry],
    outfile,
    plugins: [{ name: 'telemetry-apart', setup: keepTelemetryApart }],
  });
}

function keepTelemetryApart({ onResolve }: PluginBuild): void {
  onResolve({ filter: /\/telemetry-sdk\.ts$/ }, ({ kind }) =>
    kind === 'dynamic-import' ? { path: `./${TELEMETRY}`, external: true } : undefined,
  );
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
  const { files, bytes, compressedBytes } = await buildPackage(path.join(root, 'dist', 'package'));
  const megabytes = (size: number) => `${(size / 1024 ** 2).toFixed(2)} MiB`;
  process.stdout.write(`dist/package: ${files} files, ${megabytes(bytes)}, ${megabytes(compressedBytes)} compressed\n`);
}
