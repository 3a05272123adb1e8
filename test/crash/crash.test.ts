/**
 * Dies at every storage operation of a whole story, before the operation takes effect and after, or is told there that the
 * storage failed, and looks at what readers and the next invocations make of it. `npm run test:crash` tries all; the normal
 * run takes every so many of them.
 */

import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isFirnError } from '../../src/errors.ts';
import { removeFolder } from '../kit/local-tree.ts';
import { type Death, deathsOf, failuresOf, Life } from '../kit/mortal.ts';
import { testSeed } from '../kit/random.ts';
import { checkReaders, checkWorld } from './checks.ts';
import { isComplete } from './complete.ts';
import { createScenario, createWorldFor, type Scenario, type Step, variants } from './scenario.ts';
import { copyOf, type MemoryWorld, quiet, runTimers, startProcess } from './world.ts';

const STRIDE = isComplete ? 1 : 31;
const FIRST = testSeed ?? 0;

describe.each(variants)('a process that dies ($name)', (variant) => {
  let folder: string;
  let scenario: Scenario;
  /** The world before each step, and after the last. */
  const worlds: MemoryWorld[] = [];
  let points = 0;

  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'firn-crash-'));
    const world = createWorldFor(variant, folder);
    scenario = await createScenario(variant, world);
    worlds.push(copyOf(world));
    for (const step of scenario.steps) {
      await step.spoil?.(world);
      worlds[worlds.length - 1] = copyOf(world);
      await step.run(startProcess(world));
      worlds.push(copyOf(world));
    }
  });

  afterAll(async () => {
    await removeFolder(folder);
    process.stdout.write(`${variant.name}: ${points} deaths and failures\n`);
  });

  async function chunkBlobsAfter(at: number): Promise<number> {
    const world = copyOf(worlds[at + 1]!);
    await runTimers(world);
    const names = await Array.fromAsync(world.account.container('firn-data').list({ prefix: 'chunks/' }));
    return names.length;
  }

  async function checkDeath(step: Step, at: number, death: Death, chunkBlobs: number): Promise<boolean> {
    const world = copyOf(worlds[at]!);
    const life = new Life(death);
    try {
      await step.run(startProcess(world, life));
    } catch (error) {
      if (!life.over && !(life.struck && isFirnError(error))) throw error;
    }
    await quiet();
    if (!life.struck) return false;
    // Before a repair has changed anything, an index that is gone is gone.
    const hasBegun = life.operations.some((operation) => /^(create|replace|delete) chunk-index/.test(operation));
    if (step.spoil === undefined || hasBegun) await checkReaders(world);
    // The timers come first, or whoever started the work starts it again; either way all must be well.
    if (death.operation % 2 === 0) await runTimers(world);
    else world.clock.ms += 61_000;
    await step.run(startProcess(world));
    await runTimers(world);
    const [, stays] = /^delete ((?:photos|docs)\/.*)/.exec(life.operations[death.operation - 1] ?? '') ?? [];
    await checkWorld(world, { expected: step.expected, versions: scenario.versions, chunkBlobs, stays });
    return true;
  }

  it('anywhere loses nothing, publishes nothing broken, and leaves nothing behind', {
    timeout: 3_600_000,
  }, async () => {
    let splits = 0;
    for (const [at, step] of scenario.steps.entries()) {
      const whole = new Life();
      await step.run(startProcess(copyOf(worlds[at]!), whole));
      splits += whole.operations.filter((operation) => operation.startsWith('delete chunk-index/')).length;
      const chunkBlobs = await chunkBlobsAfter(at);
      const deaths = [...deathsOf(whole), ...failuresOf(whole)];
      expect(deaths.length).toBeGreaterThan(5);
      let tried = 0;
      for (const [n, death] of deaths.entries()) {
        if ((n + at + FIRST) % STRIDE !== 0) continue;
        try {
          if (await checkDeath(step, at, death, chunkBlobs)) tried += 1;
        } catch (error) {
          const where = `${step.name}: ${death.moment} operation ${death.operation} of ${whole.operations.length}, ${whole.operations[death.operation - 1]}`;
          throw new Error(`${where}: ${error instanceof Error ? error.message : error}`, { cause: error });
        }
      }
      // A run may take an operation less than the one that was counted, never many.
      expect(tried).toBeGreaterThanOrEqual(Math.floor(deaths.length / STRIDE) - 2);
      points += tried;
      process.stdout.write(
        `  ${step.name}: ${whole.operations.length} operations, ${tried} of ${deaths.length} deaths and failures\n`,
      );
    }
    expect(splits).toBeGreaterThan(0);
  });
});
