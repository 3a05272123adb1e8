/**
 * The story that crash tests tell: uploads, archiving, publishes, a second round with changes and a removal, shards that
 * split, a folder archived from this machine, a repair, a new passphrase, a restore. Each step can be run again by whoever
 * comes after a process that died in it, as a timer, an event or a person would.
 */
import path from 'node:path';
import { archiveBatch } from '../../src/archive/archive-batch.ts';
import { batchesWithoutReceipt, recordInJournal, sealDueBatches } from '../../src/archive/batches.ts';
import { archiveAndPublish } from '../../src/cli/archive-and-publish.ts';
import { isFirnError } from '../../src/errors.ts';
import { runRepair } from '../../src/index/repair-run.ts';
import { changeRepositoryPassphrase, createRepository, type Repository } from '../../src/repository.ts';
import { restoreTree } from '../../src/restore/restore-tree.ts';
import { type Environment, readSettings, repositoryNames } from '../../src/settings.ts';
import { makeTree } from '../kit/local-tree.ts';
import { cheapScrypt } from '../kit/repository.ts';
import type { Expected } from './checks.ts';
import {
  createWorld,
  type MemoryWorld,
  type Process,
  publishAll,
  SHARD_ENTRIES_MAX,
  uploadUntilAcknowledged,
  type World,
} from './world.ts';

export interface Step {
  readonly name: string;
  /** What happens to the storage before it. */
  readonly spoil?: (world: World) => Promise<void>;
  /** Does the work of one process, or goes on with it after one that died. */
  readonly run: (process: Process) => Promise<void>;
  /** The latest snapshots once this step is done and the timers have run. */
  readonly expected: Expected;
}

export interface Scenario {
  readonly steps: readonly Step[];
  readonly versions: ReadonlyMap<string, ReadonlySet<string>>;
}

export interface Variant {
  readonly name: string;
  readonly encrypted: boolean;
  readonly thinChunks: 'packed' | 'blob';
  readonly chunking: 'fastcdc' | 'file';
  readonly environment: Environment;
}

export const variants: readonly Variant[] = [
  {
    name: 'encrypted, packed pointers, inbox kept',
    encrypted: true,
    thinChunks: 'packed',
    chunking: 'fastcdc',
    environment: { FIRN_BATCH_RECORDS_MAX: '4' },
  },
  {
    name: 'unencrypted, a blob a pointer, one chunk a file, inbox consumed',
    encrypted: false,
    thinChunks: 'blob',
    chunking: 'file',
    environment: { FIRN_BATCH_RECORDS_MAX: '4', FIRN_INBOX: 'consume' },
  },
];

const OLD = 'the old passphrase';
const NEW = 'the new passphrase';

/** A text whose chunk lies under this root. */
function textUnder(repository: Repository, root: string, name: string): string {
  for (let n = 0; ; n += 1) {
    const text = `${name} ${n}`;
    if (repository.keys.hash(Buffer.from(text)).startsWith(root)) return text;
  }
}

/** Seals, archives and publishes what is recorded of a source, as `firn publish` does. */
async function archiveAndPublishInbox({ repository: open }: Process, source: string): Promise<void> {
  const repository = await open();
  await sealDueBatches(repository, { source, force: true });
  for (const { batch } of await batchesWithoutReceipt(repository, source)) {
    await archiveBatch(repository, { source, batch });
  }
  await publishAll(repository, source);
}

/** A world in memory for the variant. @param folder that is empty; what is archived and restored here lies in it. */
export function createWorldFor(variant: Variant, folder: string): MemoryWorld {
  return createWorld(folder, variant.environment, passphrasesOf(variant));
}

/** What its users know at first. */
export function passphrasesOf({ encrypted }: Variant): string[] {
  return encrypted ? [OLD] : [''];
}

/** Creates the repository in the world, which has none yet. */
export async function createScenario(variant: Variant, world: World): Promise<Scenario> {
  const { folder } = world;
  const { settings } = readSettings({ ...world.environment, ...(variant.encrypted && { FIRN_PASSPHRASE: OLD }) });
  const repository = await createRepository(world.account, settings, {
    encrypted: variant.encrypted,
    thinChunks: variant.thinChunks,
    ...(variant.chunking === 'file' && { chunking: { method: 'file' as const } }),
    scryptCost: cheapScrypt,
    now: () => new Date(world.clock.ms),
  });
  const versions = new Map<string, Set<string>>();
  const known = (name: string, content: string) => versions.set(name, (versions.get(name) ?? new Set()).add(content));

  // All texts have chosen roots: a key is random, and one text more in «a» would split it before its time.
  const same = textUnder(repository, 'd', 'the same in both');
  const first: Record<string, string> = {
    'a/one': textUnder(repository, 'a', 'one'),
    'a/two': textUnder(repository, 'a', 'two'),
    same,
    empty: '',
    // Two chunks fill the shard a; the next step that adds to it splits it, with what is published already.
    'b/three': textUnder(repository, 'c', 'three'),
  };
  const second: Record<string, string> = {
    'a/one': textUnder(repository, 'a', 'one again'),
    'c/four': textUnder(repository, 'a', 'four'),
    'c/five': textUnder(repository, 'a', 'five'),
  };
  const docs: Record<string, string> = { same, only: textUnder(repository, 'd', 'only in docs') };
  const local: Record<string, string> = {
    'x.txt': textUnder(repository, 'e', 'local x'),
    'y.txt': textUnder(repository, 'a', 'local y'),
  };
  for (const [path_, content] of Object.entries({ ...first })) known(`photos/${path_}`, content);
  for (const [path_, content] of Object.entries(second)) known(`photos/${path_}`, content);
  for (const [path_, content] of Object.entries(docs)) known(`docs/${path_}`, content);
  for (const [path_, content] of Object.entries(local)) known(`laptop/${path_}`, content);
  const scanned = path.join(folder, 'scanned');

  const afterFirst: Expected = { photos: first };
  const afterDocs: Expected = { ...afterFirst, docs };
  const { 'b/three': _, ...kept } = first;
  const afterSecond: Expected = { ...afterDocs, photos: { ...kept, ...second } };
  const afterScan: Expected = { ...afterSecond, laptop: local };

  const uploadAll = async (process: Process, source: string, files: Record<string, string>) => {
    for (const [name, content] of Object.entries(files)) {
      await uploadUntilAcknowledged(process, `${source}/${name}`, content);
    }
  };
  let restores = 0;
  const steps: Step[] = [
    { name: 'uploads and rotation', expected: afterFirst, run: (process) => uploadAll(process, 'photos', first) },
    { name: 'the first publish', expected: afterFirst, run: (process) => archiveAndPublishInbox(process, 'photos') },
    {
      name: 'another source with the same content',
      expected: afterDocs,
      async run(process) {
        await uploadAll(process, 'docs', docs);
        await archiveAndPublishInbox(process, 'docs');
      },
    },
    {
      name: 'changes and a removal',
      expected: afterSecond,
      async run(process) {
        await uploadAll(process, 'photos', second);
        const removal = { kind: 'removal', path: 'b', nonce: 'one nonce' } as const;
        await recordInJournal(await process.repository(), 'photos', removal);
        await archiveAndPublishInbox(process, 'photos');
      },
    },
    {
      name: 'a folder of this machine',
      expected: afterScan,
      async run(process) {
        const repository = await process.repository();
        await archiveAndPublish(repository, scanned, 'laptop');
      },
    },
    {
      name: 'a repair of an index that is gone',
      expected: afterScan,
      async spoil({ account, environment }) {
        const { state } = repositoryNames(environment.FIRN_REPOSITORY ?? 'firn');
        const store = account.container(state);
        for await (const { name } of store.list({ prefix: 'chunk-index/' })) await store.delete(name);
      },
      async run(process) {
        const repository = await process.repository();
        await runRepair(repository, { roots: undefined, shardEntriesMax: SHARD_ENTRIES_MAX });
      },
    },
    ...(variant.encrypted
      ? [
          {
            name: 'a new passphrase',
            expected: afterScan,
            async run({ world: { passphrases }, containers }: Process) {
              if (!passphrases.includes(NEW)) passphrases.unshift(NEW);
              const change = { to: NEW, keepOld: false };
              try {
                await changeRepositoryPassphrase(containers, settings, change, { scryptCost: cheapScrypt });
              } catch (error) {
                // Of one who runs it again: it was done, only nobody said so.
                if (!isFirnError(error, 'FIRN_PASSPHRASE_WRONG')) throw error;
              }
            },
          } satisfies Step,
        ]
      : []),
    {
      name: 'a restore',
      expected: afterScan,
      async run(process) {
        const repository = await process.repository();
        const head = await repository.snapshots.readHead('photos');
        if (head === undefined) throw new Error('photos has no snapshot');
        restores += 1;
        await restoreTree(repository, head.snapshot, path.join(folder, `restored-${restores}`));
      },
    },
  ];
  await makeTree(folder, { scanned: { type: 'folder', entries: local } });
  return { steps, versions };
}
