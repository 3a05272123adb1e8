#!/usr/bin/env node
/**
 * Starts the command line: the bundle, where there is a current one, else the sources, which are TypeScript that a new
 * enough Node runs as it is. This file is plain JavaScript for Node.js 20 or newer, and where the running Node lacks what
 * Firn needs it hands over to the one in `node_modules`, with the same arguments, streams, signals and exit code.
 * A command that moves much data runs in a Node that was started for it, in the place of this one.
 */
import { existsSync } from 'node:fs';
import * as modules from 'node:module';
import { constants } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { currentBundle } from './bundle.js';

/** Set for the Node that this one handed over to, so that it is not done twice. */
const HANDED_OVER = 'FIRN_NODE_HANDED_OVER';
/** Those that read or write the content of files. */
const LONG_COMMANDS = ['archive', 'cat', 'restore', 'upload', 'verify'];
/**
 * A small young generation, and one pool of memory for all threads (of glibc), since their buffers are alike: together a
 * third less memory, and no more time. And no full collection below 48 MiB, heap and buffers outside it taken together: else there
 * is one for each 10 MiB of new buffers. None can be had after the start; what the user says counts more (docs/decisions/011).
 */
const LONG_FLAGS = ['--max-semi-space-size=8', '--initial-old-space-size=48'];
const LONG_ENVIRONMENT = { MALLOC_ARENA_MAX: '1' };

const ownFile = fileURLToPath(import.meta.url);
const root = fileURLToPath(new URL('../../', import.meta.url));
/** The name of a folder may be one of them too; then it is for nothing. */
const isLong = process.argv.slice(2).some((word) => LONG_COMMANDS.includes(word));
const isFirst = process.env[HANDED_OVER] === undefined;
// Named since `node:zlib` has it; to read that takes longer.
const hasZstd = 'zstd' in process.versions;
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

/**
 * The same command for another Node.
 *
 * @param {readonly string[]} flags
 * @returns {{ args: string[], env: NodeJS.ProcessEnv }}
 */
function sameAgain(flags = []) {
  const isSized = /semi[-_]space/.test(process.env.NODE_OPTIONS ?? '');
  const longFlags = isLong && !isSized ? LONG_FLAGS : [];
  const env = { ...(isLong && LONG_ENVIRONMENT), ...process.env, [HANDED_OVER]: '1' };
  return { args: [...longFlags, ...flags, ownFile, ...process.argv.slice(2)], env };
}

/**
 * Becomes a Node that was started for a long command, and stays the same process. Does nothing where the system cannot do
 * that or it is not allowed, and where somebody has a hold of this Node: a parent by a channel, or a debugger.
 */
function startAgain() {
  const isHeld = process.send !== undefined || process.execArgv.some((flag) => flag.startsWith('--inspect'));
  if (process.platform === 'win32' || process.execve === undefined || isHeld) return;
  const { args, env } = sameAgain(process.execArgv);
  try {
    process.execve(process.execPath, [process.execPath, ...args], env);
  } catch {
    // Not under Node's permission model, for one; then with more memory.
  }
}

/** @param {string} node */
async function handOver(node) {
  // Read here alone: it takes longer to read than this file.
  const { spawn } = await import('node:child_process');
  const { args, env } = sameAgain();
  const child = spawn(node, args, { stdio: 'inherit', env });
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

/**
 * @param {string | undefined} bundle
 * @returns {Promise<{ runProcess(): Promise<void> }>}
 */
async function commandLine(bundle) {
  return bundle === undefined ? await import('./process.ts') : modules.createRequire(import.meta.url)(bundle);
}

// Where the sources would do, the Node that is started looks for the bundle: here it would be looked for twice.
if (isFirst && isLong && runsSources) startAgain();
const bundle = hasZstd ? currentBundle(root) : undefined;
if (bundle !== undefined || runsSources) {
  if (isFirst && isLong && !runsSources) startAgain();
  // Halves the time to start: what Node made of the code is kept beside the packages, where only their owner writes.
  modules.enableCompileCache?.(path.join(root, 'node_modules', '.cache', 'firn'));
  const { runProcess } = await commandLine(bundle);
  await runProcess();
} else {
  const node = isFirst ? ownNode() : undefined;
  if (node === undefined) refuse('');
  else await handOver(node);
}
