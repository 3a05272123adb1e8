/**
 * The same story through a network that breaks and a service that is busy: real Azurite, the real SDK, and a proxy between
 * them. Whoever meets an error that may pass runs its step again, as a queue, a timer or a person does.
 */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { isFirnError } from '../../src/errors.ts';
import type { Containers } from '../../src/repository.ts';
import { connectStorage } from '../../src/storage/connect.ts';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { startFaultyProxy } from '../kit/faulty-proxy.ts';
import { removeFolder } from '../kit/local-tree.ts';
import { checkSnapshots } from './checks.ts';
import { isComplete } from './complete.ts';
import { createScenario, passphrasesOf, variants } from './scenario.ts';
import { addFaults, type FaultKind, faultKinds } from './wire-faults.ts';
import { runTimersOnce, startProcess, type World } from './world.ts';

const SEEDS = isComplete ? 10 : 1;
const TRIES_MAX = 60;
const ODDS = 15;

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
    for (let seed = 1; seed <= SEEDS; seed += 1) {
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
