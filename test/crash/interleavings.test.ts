/**
 * Processes that work on one repository at the same time, in orders that a seed decides. Where locks keep them apart they
 * are tried twice: with the locks, and with locks that let everybody in, because nothing may rest on a lease.
 *
 * A failure names its seed and the order of the operations; TEST_SEED=<seed> runs that one alone.
 */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { archiveBatch } from '../../src/archive/archive-batch.ts';
import { type BatchReference, recordUpload, sealDueBatches } from '../../src/archive/batches.ts';
import { isFirnError } from '../../src/errors.ts';
import { runRepair } from '../../src/index/repair-run.ts';
import { publishSource } from '../../src/publish/publish-source.ts';
import { createRepository, openRepository, type Repository } from '../../src/repository.ts';
import { readSettings } from '../../src/settings.ts';
import { createLocks } from '../../src/storage/locks.ts';
import { lawlessLocks } from '../kit/lawless-locks.ts';
import { removeFolder } from '../kit/local-tree.ts';
import { createMemoryAccount, type MemoryAccount } from '../kit/memory-blob-store.ts';
import { chooserFrom, testSeed } from '../kit/random.ts';
import { archiveAll, upload } from '../kit/repository.ts';
import { Schedule } from '../kit/schedule.ts';
import { checkWorld, type Expected } from './checks.ts';
import { isComplete } from './complete.ts';
import { runTimers, SHARD_ENTRIES_MAX, START_MS, type World } from './world.ts';

vi.mock('node:zlib', async (original) => {
  const { synchronousZstd } = await import('../kit/schedule.ts');
  return synchronousZstd(await original());
});

/** The schedule of the test that runs, for pauses. */
let current: Schedule | undefined;

vi.mock('node:timers/promises', async (original) => ({
  ...(await original<typeof import('node:timers/promises')>()),
  setTimeout: async () => await current?.pass('a pause'),
}));

/** Names that are made up decide in what order some things are listed and looked at. */
let random = chooserFrom(0);

vi.mock('node:crypto', async (original) => ({
  ...(await original<typeof import('node:crypto')>()),
  randomBytes: (bytes: number) => Buffer.from(Array.from({ length: bytes }, () => random(256))),
}));

/** Some answers are good for a second. */
vi.spyOn(performance, 'now').mockImplementation(() => current?.clock.now() ?? 0);

const SCHEDULES = isComplete ? 300 : 6;
/** Small batches, and a snapshot of each: so a slow publisher may meet the second of a fast one. */
const environment = { FIRN_BATCH_RECORDS_MAX: '3', FIRN_PUBLISH_RECEIPTS_MAX: '1' };
const settings = readSettings(environment).settings;
const root = 'a';
/** Here one shard has room for what two add, but not both. */
const other = 'b';

/** A text whose chunk lies under one root, so that all meet in one shard, which splits. */
function textUnder(repository: Repository, name: string, under = root): string {
  for (let n = 0; ; n += 1) {
    const text = `${name} ${n}`;
    if (repository.keys.hash(Buffer.from(text)).startsWith(under)) return text;
  }
}

function openIn(account: { container: MemoryAccount['container'] }, now: () => number): Promise<Repository> {
  return openRepository(account, settings, { now: () => new Date(now()), shardEntriesMax: SHARD_ENTRIES_MAX });
}

interface Prepared {
  readonly account: MemoryAccount;
  readonly expected: Expected;
  readonly versions: Map<string, Set<string>>;
  readonly batches: readonly BatchReference[];
}

/** Uploads of the left source whose events are still to come. */
const late = Array.from({ length: 6 }, (_, at) => `late ${at}`);

/** Two sources with the same content, and some of their own: published once, then changed; the changes lie in sealed batches. */
async function prepare(archived: boolean): Promise<Prepared> {
  const account = createMemoryAccount({ now: () => START_MS });
  await createRepository(account, settings, { encrypted: false, now: () => new Date(START_MS) });
  const repository = await openIn(account, () => START_MS);
  const versions = new Map<string, Set<string>>();
  const put = async (source: string, name: string, content: string) => {
    versions.set(`${source}/${name}`, (versions.get(`${source}/${name}`) ?? new Set()).add(content));
    await upload(repository, `${source}/${name}`, content);
  };
  const texts = ['one', 'two', 'three', 'four', 'five'].map((name) => textUnder(repository, name));
  const base = textUnder(repository, 'base', other);
  const own = (source: string) => textUnder(repository, `only in ${source}`, other);
  const [one = '', two = '', three = '', four = '', five = ''] = texts;
  await put('left', 'a', one);
  await put('left', 'b', two);
  await put('left', 'base', base);
  await archiveAll(repository, 'left');
  await publishSource(repository, 'left');
  const batches: BatchReference[] = [];
  for (const source of ['left', 'right']) {
    await put(source, 'b', three);
    await put(source, 'c', four);
    await put(source, 'd', five);
    await put(source, 'e', 'elsewhere');
    await put(source, 'own', own(source));
    batches.push(...(await sealDueBatches(repository, { source, force: true })));
  }
  const unsealed = await Promise.all(
    ['left', 'right'].map(async (source) => {
      const waiting = await repository.journalOf(source).batches();
      return waiting.map(({ batch }) => ({ source, batch }));
    }),
  );
  const all = unsealed.flat();
  if (archived) for (const each of all) await archiveBatch(repository, each);
  const changed = { b: three, c: four, d: five, e: 'elsewhere' };
  for (const name of late) {
    await repository.inbox.create(`left/${name}`, Buffer.from('elsewhere'));
    versions.set(`left/${name}`, new Set(['elsewhere']));
  }
  const expected: Expected = {
    left: { a: one, base, ...changed, own: own('left') },
    right: { ...changed, own: own('right') },
  };
  return { account, expected, versions, batches: all };
}

interface Actors {
  readonly schedule: Schedule;
  readonly prepared: Prepared;
  /** A process of its own. */
  readonly open: (name: string) => Promise<Repository>;
  readonly account: MemoryAccount;
}

type Actor = () => Promise<unknown>;

async function runOne(
  prepared: Prepared,
  seed: number,
  isLawless: boolean,
  actorsOf: (actors: Actors) => Promise<Actor[]>,
  allowed: (error: unknown) => boolean,
  folder: string,
): Promise<void> {
  const schedule = new Schedule(seed, { startMs: START_MS });
  random = chooserFrom(seed);
  const account = prepared.account.clone({ now: schedule.wallMs });
  const open = async (name: string): Promise<Repository> => {
    const repository = await openIn(schedule.containers(name, account), schedule.wallMs);
    const locks = createLocks(repository.state.store, { owner: name, clock: schedule.clock });
    return { ...repository, locks: isLawless ? lawlessLocks : locks };
  };
  try {
    let actors: Actor[] = [];
    await schedule.run([
      async () => {
        actors = await actorsOf({ schedule, prepared, open, account });
      },
    ]);
    current = schedule;
    for (const result of await schedule.run(actors)) {
      if (result.status === 'rejected' && !allowed(result.reason)) throw result.reason;
    }
    current = undefined;
    const clock = { ms: schedule.wallMs() };
    const world: World = {
      account: account.clone({ now: () => clock.ms }),
      clock,
      environment,
      acknowledged: new Set(),
      passphrases: [''],
      folder,
    };
    await runTimers(world);
    const { expected, versions } = prepared;
    await checkWorld(world, { expected, versions, chunkBlobs: 10 });
    // All of it lies in shards that were split.
    for (const full of [root, other]) {
      const below = `chunk-index/${full}`;
      const shards = await Array.fromAsync(world.account.container('firn-state').list({ prefix: below }));
      expect(shards.filter(({ name }) => name !== below).length).toBeGreaterThan(1);
    }
  } catch (error) {
    const order = schedule.trace.join('\n');
    throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : error}\n${order}`, { cause: error });
  } finally {
    current = undefined;
  }
}

const wins = (error: unknown) => isFirnError(error, 'FIRN_PUBLISH_CONFLICT');
/** Who is slow loses its lock, and says so. */
const isBusy = (error: unknown) => isFirnError(error, 'FIRN_LOCK_BUSY', 'FIRN_LOCK_LOST', 'FIRN_REPAIR_UNFINISHED');

interface Interleaving {
  readonly name: string;
  readonly archived: boolean;
  readonly actors: (actors: Actors) => Promise<Actor[]>;
  readonly allowed: (error: unknown) => boolean;
  /** What they record besides, of the left source. */
  readonly adds?: Readonly<Record<string, string>>;
}

const publishOf = async ({ open }: Actors, process: string, source: string): Promise<Actor> => {
  const repository = await open(process);
  return async () => {
    while ((await publishSource(repository, source)) !== undefined);
  };
};

const repairOf = async ({ open }: Actors, process: string): Promise<Actor> => {
  const repository = await open(process);
  return () => runRepair(repository, { roots: [root, other] });
};

const interleavings: readonly Interleaving[] = [
  {
    name: 'two publishers of one source',
    archived: true,
    actors: async (all) => [await publishOf(all, 'one', 'left'), await publishOf(all, 'two', 'left')],
    allowed: (error) => wins(error) || isBusy(error),
  },
  {
    name: 'publishers of two sources that fill one shard',
    archived: true,
    actors: async (all) => [await publishOf(all, 'one', 'left'), await publishOf(all, 'two', 'right')],
    allowed: isBusy,
  },
  {
    name: 'a publisher and a repair',
    archived: true,
    actors: async (all) => [await publishOf(all, 'publisher', 'left'), await repairOf(all, 'repair')],
    allowed: isBusy,
  },
  {
    name: 'two repairs and a publisher',
    archived: true,
    actors: async (all) => [
      await publishOf(all, 'publisher', 'right'),
      await repairOf(all, 'one repair'),
      await repairOf(all, 'another'),
    ],
    allowed: isBusy,
  },
  {
    name: 'archivers of the same content, and of one batch twice',
    archived: false,
    async actors({ open, prepared }) {
      const again = prepared.batches.filter(({ source }) => source === 'right');
      return await Promise.all(
        [...prepared.batches, ...again].map(async (reference, at) => {
          const repository = await open(`archiver ${at}`);
          return () => archiveBatch(repository, reference);
        }),
      );
    },
    allowed: () => false,
  },
  {
    name: 'an archiver whose batch is published meanwhile by another',
    archived: false,
    async actors({ open, prepared }) {
      const slow = await open('slow');
      const fast = await open('fast');
      const left = prepared.batches.filter(({ source }) => source === 'left');
      return [
        async () => {
          for (const reference of left) await archiveBatch(slow, reference);
        },
        async () => {
          for (const reference of left) await archiveBatch(fast, reference);
          await publishSource(fast, 'left');
        },
      ];
    },
    allowed: (error) => wins(error) || isBusy(error),
  },
  {
    name: 'appenders and those who rotate',
    archived: true,
    async actors({ open }) {
      // Some events come again, and to several; some come to one of them alone.
      const names = ['left/b', 'left/c', 'left/d', 'left/e', 'right/b', 'right/c', 'right/d', 'right/e'];
      const appenders = await Promise.all(
        [0, 1, 2].map(async (at) => {
          const repository = await open(`appender ${at}`);
          return async () => {
            const own = late.filter((_, n) => n % 3 === at).map((name) => `left/${name}`);
            for (const name of [...names.slice(at, at + 4), ...own]) await recordUpload(repository, name);
          };
        }),
      );
      const rotators = await Promise.all(
        [0, 1].map(async (at) => {
          const repository = await open(`rotator ${at}`);
          return async () => {
            for (let round = 0; round < 3; round += 1) await sealDueBatches(repository, { force: true });
          };
        }),
      );
      return [...appenders, ...rotators];
    },
    allowed: () => false,
    adds: Object.fromEntries(late.map((name) => [name, 'elsewhere'])),
  },
];

describe.each(interleavings)('$name', ({ archived, actors, allowed, adds }) => {
  let prepared: Prepared;
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'firn-schedules-'));
    prepared = await prepare(archived);
    const { expected } = prepared;
    prepared = { ...prepared, expected: { ...expected, left: { ...expected.left, ...adds } } };
  });
  afterAll(() => removeFolder(folder));

  it.each([
    ['with their locks', false],
    ['and locks that let everybody in', true],
  ])('%s, lose nothing and publish nothing broken in any order', { timeout: 3_600_000 }, async (_, isLawless) => {
    const seeds = testSeed === undefined ? Array.from({ length: SCHEDULES }, (__, seed) => seed) : [testSeed];
    for (const seed of seeds) await runOne(prepared, seed, isLawless, actors, allowed, folder);
  });

  it('the same seed gives the same order', async () => {
    const traces: string[][] = [];
    for (let run = 0; run < 2; run += 1) {
      await runOne(
        prepared,
        7,
        true,
        async (all) => {
          traces.push(all.schedule.trace);
          return await actors(all);
        },
        allowed,
        folder,
      );
    }
    const shape = (trace: readonly string[] = []) => trace.map((line) => line.replace(/[0-9a-f-]{8,}/g, '…'));
    expect(shape(traces[1])).toEqual(shape(traces[0]));
    expect(traces[0]?.length).toBeGreaterThan(10);
  });
});

describe('holders of a lock, slow ones, and somebody who breaks it', () => {
  it('never work at the same time without the earlier one knowing, and tokens grow', {
    timeout: 3_600_000,
  }, async () => {
    for (let seed = 0; seed < 20 * SCHEDULES; seed += 1) await runLocks(seed);
  });
});

async function runLocks(seed: number): Promise<void> {
  const schedule = new Schedule(seed, { timerOdds: 8 });
  const store = createMemoryAccount({ now: schedule.wallMs }).container('state');
  const held: { owner: string; signal: AbortSignal; broken: boolean }[] = [];
  const tokens: number[] = [];
  const contender = (owner: string) => async () => {
    const locks = createLocks(schedule.store(owner, store), { owner, clock: schedule.clock });
    for (let round = 0; round < 3; round += 1) {
      const lock = await locks.acquire('one', { reason: 'test', waitMsMax: 3_600_000, ttlSeconds: 15 });
      for (const other of held)
        expect(other.signal.aborted || other.broken, `${owner} beside ${other.owner}`).toBe(true);
      const me = { owner, signal: lock.signal, broken: false };
      held.push(me);
      tokens.push(lock.token);
      for (let work = 0; work < 4 && !lock.signal.aborted; work += 1) await schedule.pass(`${owner} works`);
      held.splice(held.indexOf(me), 1);
      await lock.release();
    }
  };
  const breaker = async () => {
    for (let round = 0; round < 2; round += 1) {
      for (let wait = 0; wait < 10; wait += 1) await schedule.pass('a person thinks');
      try {
        await store.breakLease('locks/one');
        // The person was warned: the holder learns it at its next renewal.
        for (const each of held) each.broken = true;
      } catch {
        // Nobody has made the lock yet.
      }
    }
  };
  try {
    const results = await schedule.run([contender('one'), contender('two'), contender('three'), breaker]);
    for (const result of results) if (result.status === 'rejected') throw result.reason;
    expect(tokens).toEqual([...new Set(tokens)].sort((a, b) => a - b));
    expect(tokens).toHaveLength(9);
  } catch (error) {
    throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : error}\n${schedule.trace.join('\n')}`, {
      cause: error,
    });
  }
}
