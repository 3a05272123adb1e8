import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { expect, it } from 'vitest';
import { openJournal } from '../../src/journal/journal.ts';
import { connectStorage } from '../../src/storage/connect.ts';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { allPaths, settings } from './journal-kit.ts';

const ROUNDS = 2;
const APPENDERS = 2;
/** A process is killed after it said so much, by chance somewhat more. */
const LINES_MIN = 30;
const LINES_MORE = 120;

interface Running {
  readonly child: ChildProcess;
  readonly lines: string[];
  /** Killed, and everything that it said is read. */
  readonly ended: Promise<void>;
}

function start(container: string, role: 'append' | 'clear up', name: string): Running {
  const child = spawn(process.execPath, [path.join(import.meta.dirname, 'killed-process.ts')], {
    env: {
      ...process.env,
      JOURNAL_STORAGE: azuriteConnectionString(),
      JOURNAL_CONTAINER: container,
      JOURNAL_ROLE: role,
      JOURNAL_NAME: name,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines: string[] = [];
  const killAt =
    role === 'append' ? LINES_MIN + Math.floor(Math.random() * LINES_MORE) : 2 + Math.floor(Math.random() * 4);
  const reading = createInterface({ input: child.stdout! });
  reading.on('line', (line) => {
    lines.push(line);
    if (lines.length === killAt) child.kill('SIGKILL');
  });
  const ended = Promise.all([once(child, 'close'), once(reading, 'close')]).then(() => {
    expect(child.signalCode).toBe('SIGKILL');
  });
  return { child, lines, ended };
}

it('everything that processes acknowledged before they were killed is there afterwards, once and in order', async () => {
  const container = uniqueName('journal');
  const state = connectStorage({ connectionString: azuriteConnectionString() }).container(container);
  await state.createContainer();
  const acknowledged: string[] = [];
  const all: Running[] = [];
  try {
    for (let round = 0; round < ROUNDS; round += 1) {
      const appenders = Array.from({ length: APPENDERS }, (_, at) => start(container, 'append', `${round}-${at}`));
      const keeper = start(container, 'clear up', 'keeper');
      all.push(...appenders, keeper);
      await Promise.all(appenders.map(({ ended }) => ended));
      keeper.child.kill('SIGKILL');
      await keeper.ended;
      acknowledged.push(...appenders.flatMap(({ lines }) => lines));
    }
    expect(acknowledged.length).toBeGreaterThanOrEqual(ROUNDS * APPENDERS * LINES_MIN);
    const found = await allPaths(openJournal(state, 'photos', settings));
    expect(new Set(found).size).toBe(found.length);
    const places = new Map(found.map((of, at) => [of, at]));
    for (const of of acknowledged) expect(places.has(of), of).toBe(true);
    // In each lane one append followed the other.
    const lanes = Object.groupBy(found, (of) => path.posix.dirname(of));
    for (const lane of Object.values(lanes)) {
      expect(lane?.map((of) => Number(path.posix.basename(of)))).toEqual(lane?.map((_, at) => at));
    }
  } finally {
    for (const { child } of all) child.kill('SIGKILL');
    await state.deleteContainer();
  }
});
