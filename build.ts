/**
 * Bundles what is deployed: one file for all functions, because cold start is part of performance.
 * `@azure/functions-core` is answered by the Functions worker at run time.
 */
import { rm } from 'node:fs/promises';
import { build } from 'esbuild';

await rm('dist', { recursive: true, force: true });

await build({
  entryPoints: ['functions/index.ts'],
  outfile: 'dist/functions/index.cjs',
  bundle: true,
  format: 'cjs',
  platform: 'node',
  target: 'node22',
  minify: true,
  sourcemap: true,
  logLevel: 'info',
  external: ['@azure/functions-core'],
});
