/**
 * Bundles what is deployed: one file for all functions, because cold start is part of performance, and one for the
 * command line. `@azure/functions-core` is answered by the Functions worker at run time.
 */
import { rm } from 'node:fs/promises';
import { type BuildOptions, build } from 'esbuild';

await rm('dist', { recursive: true, force: true });

const shared = {
  bundle: true,
  platform: 'node',
  target: 'node22',
  minify: true,
  sourcemap: true,
  logLevel: 'info',
  external: ['@azure/functions-core'],
} satisfies BuildOptions;

await build({ ...shared, entryPoints: ['functions/index.ts'], outfile: 'dist/functions/index.cjs', format: 'cjs' });
await build({
  ...shared,
  entryPoints: ['src/cli/main.ts'],
  outfile: 'dist/cli/main.js',
  format: 'esm',
  banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
});
