/** Run by `cold-start.ts`: loads one bundle as the Functions worker does and prints the milliseconds and the functions. */
import { createRequire } from 'node:module';
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
process.stdout.write(JSON.stringify({ ms, cpuMs: (user + system) / 1000, functions: registrations.functions.size }));
