/**
 * A process of its own: loads one bundle as the Functions worker does, and prints as JSON the milliseconds, how many functions
 * it registered, and the names of the files that were read for it.
 */
import { createRequire } from 'node:module';
import path from 'node:path';
import { installCoreApi } from '../../src/local/core-api.ts';

const [file] = process.argv.slice(2);
if (file === undefined) throw new Error('node cold-start-load.ts <bundle>');
const registrations = installCoreApi(() => undefined);
const load = createRequire(import.meta.url);
const began = performance.now();
const cpu = process.cpuUsage();
load(file);
const ms = performance.now() - began;
const { user, system } = process.cpuUsage(cpu);
const files = Object.keys(load.cache).flatMap((each) =>
  path.dirname(each) === path.dirname(file) ? [path.basename(each)] : [],
);
const functions = registrations.functions.size;
process.stdout.write(JSON.stringify({ ms, cpuMs: (user + system) / 1000, functions, files }));
