#!/usr/bin/env node
/**
 * Starts the command line: the bundle, where there is a current one, else the sources, which are TypeScript that a new
 * enough Node runs as it is. This file is plain JavaScript for Node.js 20 or newer, and where the running Node lacks what
 * Firn needs it hands over to the one in `node_modules`, with the same arguments, streams, signals and exit code.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import * as modules from 'node:module';
import { constants } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import zlib from 'node:zlib';
import { currentBundle } from './bundle.js';

/** Set for the Node that this one handed over to, so that it is not done twice. */
const HANDED_OVER = 'FIRN_NODE_HANDED_OVER';

const root = fileURLToPath(new URL('../../', import.meta.url));
const hasZstd = typeof zlib.zstdCompress === 'function';
const bundle = hasZstd ? currentBundle(root) : undefined;
// Types are stripped, `using` is not translated: it came with Node.js 24, as `DisposableStack` did.
const runsSources = hasZstd && Boolean(process.features.typescript) && 'DisposableStack' in globalThis;

function ownNode() {
  try {
    const folder = path.dirname(modules.createRequire(import.meta.url).resolve('node/package.json'));
    return ['bin/node', 'bin/node.exe'].map((name) => path.join(folder, name)).find((file) => existsSync(file));
  } catch {
    return undefined;
  }
}

/** @param {string} node */
function handOver(node) {
  const child = spawn(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    stdio: 'inherit',
    env: { ...process.env, [HANDED_OVER]: '1' },
  });
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
    process.on(signal, () => child.kill(signal));
  }
  child.on('error', (error) => refuse(error.message));
  child.on('exit', (code, signal) => {
    process.exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
  });
}

/** @param {string} problem */
function refuse(problem) {
  const message = `Firn needs Node.js 24 or newer; this is ${process.version}${problem === '' ? '' : ` (${problem})`}.`;
  const advice = 'Install a newer Node.js, or run `npm ci` in the folder of Firn, which brings one.';
  const line = process.argv.includes('--json')
    ? JSON.stringify({ error: 'FIRN_NODE_TOO_OLD', message, advice })
    : `firn: ${message}\n${advice}`;
  process.stderr.write(`${line}\n`);
  process.exitCode = 1;
}

/** @returns {Promise<{ runProcess(): Promise<void> }>} */
async function commandLine() {
  return bundle === undefined ? await import('./process.ts') : modules.createRequire(import.meta.url)(bundle);
}

if (bundle !== undefined || runsSources) {
  // Halves the time to start: what Node made of the code is kept beside the packages, where only their owner writes.
  modules.enableCompileCache?.(path.join(root, 'node_modules', '.cache', 'firn'));
  const { runProcess } = await commandLine();
  await runProcess();
} else {
  const node = process.env[HANDED_OVER] === undefined ? ownNode() : undefined;
  if (node === undefined) refuse('');
  else handOver(node);
}
