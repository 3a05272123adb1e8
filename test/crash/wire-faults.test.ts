/**
 * The same story through a network that breaks and a service that is busy: real Azurite, the real SDK, and a proxy between
 * them. Whoever meets an error that may pass runs its step again, as a queue, a timer or a person does.
 */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFailed } from 'vitest';
import { isFirnError } from '../../src/errors.ts';
import { publishNow } from '../../src/local/demo/watch.ts';
import { hostFunctions } from '../../src/local/stack.ts';
import type { Containers } from '../../src/repository.ts';
import { connectStorage } from '../../src/storage/connect.ts';
import { startHosted } from '../e2e/hosted.ts';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { startFaultyProxy } from '../kit/faulty-proxy.ts';
import { removeFolder } from '../kit/local-tree.ts';
import { testSeed } from '../kit/random.ts';
import { contentOf } from '../kit/repository.ts';
import { checkSnapshots } from './checks.ts';
import { isComplete } from './complete.ts';
import { patience, publishedAtLast } from './hosted-end.ts';
import { createScenario, passphrasesOf, variants } from './scenario.ts';
import { addFaults, type FaultKind, faultKinds } from './wire-faults.ts';
import { runTimersOnce, startProcess, type World } from './world.ts';

const SEEDS = isComplete ? 30 : 1;
const TRIES_MAX = 60;
const ODDS = 15;
/** Between the uploads: some of them are archived and published meanwhile. */
const ROUND_MS = 1_000;
/** Faults that the hosted functions meet. */
const HOSTED_FAULTS = isComplete ? 500 : 25;

async function untilItPasses(work: () => Promise<void>): Promise<number> {
  for (let tries = 1; ; tries += 1) {
    try {
      await work();
      return tries;
    } catch (error) {
      // Every error that comes out is one that a person can read, and one that is worth another try.
      if (!isFirnError(error) || tries === TRIES_MAX) throw error;
      expect(error.message).not.toMatch(/undefined|\[object/);
    }
  }
}

/** The normal run takes one. */
const tried = isComplete ? variants : variants.slice(0, 1);

describe.each(tried)('a bad network ($name)', (variant) => {
  it('loses nothing and brings nothing wrong, whatever it does', { timeout: 3_600_000 }, async () => {
    const direct: Containers = connectStorage({ connectionString: azuriteConnectionString() });
    const done = new Map<FaultKind, number>();
    let requests = 0;
    let tries = 0;
    const seeds = testSeed === undefined ? Array.from({ length: SEEDS }, (_, at) => at + 1) : [testSeed];
    for (const seed of seeds) {
      const folder = await mkdtemp(path.join(tmpdir(), 'firn-wire-'));
      const proxy = await startFaultyProxy(azuriteConnectionString());
      try {
        const environment = { ...variant.environment, FIRN_REPOSITORY: uniqueName('wire') };
        const clock = { ms: Date.now() };
        const common = { environment, clock, folder, passphrases: passphrasesOf(variant) };
        const good: World = { ...common, account: direct, acknowledged: new Set() };
        const scenario = await createScenario(variant, good);
        const faulty: Containers = connectStorage({ connectionString: proxy.connectionString }, { retryMs: 1 });
        const bad: World = { ...good, account: faulty };
        const faults = addFaults(proxy, { seed, odds: ODDS, flipIn: (url) => /-(data|state)\//.test(url) });
        for (const step of scenario.steps) tries += await untilItPasses(() => step.run(startProcess(bad)));
        tries += await untilItPasses(() => runTimersOnce(bad, { force: true }));
        for (const [kind, count] of faults.done) done.set(kind, (done.get(kind) ?? 0) + count);
        requests += faults.requests();
        const expected = scenario.steps.at(-1)?.expected ?? {};
        await checkSnapshots(good, { expected, versions: scenario.versions });
      } catch (error) {
        throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
      } finally {
        await proxy.stop();
        await removeFolder(folder);
      }
    }
    const total = [...done.values()].reduce((sum, count) => sum + count, 0);
    process.stdout.write(`${variant.name}: ${requests} requests, ${total} faults, ${tries} tries of steps\n`);
    for (const kind of faultKinds) process.stdout.write(`  ${kind}: ${done.get(kind) ?? 0}\n`);
    expect(total).toBeGreaterThan(20);
  });
});

it('functions on a bad network archive all that is uploaded', { timeout: 600_000 }, async () => {
  await using hosted = await startHosted({ FIRN_BATCH_RECORDS_MAX: '5' });
  const { stack, repository } = hosted;
  await stack.host.kill();
  const proxy = await startFaultyProxy(stack.connectionString);
  const logs: string[] = [];
  // Of a run that is rare nothing else tells what happened.
  onTestFailed(() => void process.stdout.write(`${logs.slice(-400).join('\n')}\n`));
  const environment = { ...stack.environment, FIRN_STORAGE: proxy.connectionString };
  try {
    await using host = await hostFunctions(environment, { httpPort: 0, onLog: (line) => logs.push(line) });
    const faults = addFaults(proxy, { seed: testSeed ?? 1, odds: ODDS, flipIn: (url) => /-(data|state)\//.test(url) });
    const faultCount = () => [...faults.done.values()].reduce((sum, count) => sum + count, 0);
    const expected: Record<string, string> = {};
    for (let round = 1; faultCount() < HOSTED_FAULTS; round += 1) {
      for (let n = 0; n < 10; n += 1) {
        const name = `file ${(7 * round + n) % 40}`;
        expected[name] = `${name} of round ${round}`;
        await hosted.put(`photos/${name}`, expected[name]);
      }
      // A fault may end it; there is a next one.
      await publishNow(host.url, 'photos').catch(() => undefined);
      await delay(ROUND_MS);
    }
    const faultsDone = faultCount();
    proxy.fault = () => undefined;
    await expect.poll(publishedAtLast(repository, host.url, hosted), patience).toEqual(expected);
    for await (const snapshot of repository.snapshots.list()) await contentOf(repository, snapshot);
    expect(logs.filter((line) => line.includes('FIRN_INTERNAL'))).toEqual([]);
    process.stdout.write(`hosted functions: ${faults.requests()} requests, ${faultsDone} faults\n`);
  } finally {
    await proxy.stop();
  }
});
