/** `firn locks` */
import { FirnError, isFirnError } from '../../errors.ts';
import { repositoryNames } from '../../settings.ts';
import type { BlobStore } from '../../storage/blob-store.ts';
import { type LockState, listLocks } from '../../storage/lock-states.ts';
import { type Command, type CommandContext, exitCodes } from '../command.ts';
import { type Column, formatSeconds, formatTable, formatTime } from '../format.ts';

export const locks: Command = {
  name: 'locks',
  summary: 'list the locks, which of them are held, and by whom',
  about: [
    'Lists every lock of the repository that was ever taken: publish-<source> is held while the source is published, repair while the chunk index is repaired. Archiving needs none. Whether a lock is held is what the storage says; the owner, and since when and why, is what the last owner wrote by its own clock, and stays there after the lock was given back. The token grows with every change of owner. No passphrase is needed.',
    'A run renews its lock while it lives. The lock of one that died is free within a minute, by itself.',
  ],
  args: [],
  options: {},
  examples: [
    ['firn locks', 'list all'],
    ['firn locks --json', 'the same for a script'],
  ],
  async run(context) {
    const { output, now } = context;
    const { found } = await findLocks(context);
    for (const lock of found) await output.jsonLine(jsonOf(lock, now()));
    if (found.length > 0) await output.line(tableOf(found, now()));
    else output.message('There are no locks: nothing was ever published or repaired.');
    return exitCodes.done;
  },
};

/** All locks, without opening the repository. @throws FIRN_REPOSITORY_MISSING. */
export async function findLocks({
  connect,
  signal,
}: CommandContext): Promise<{ readonly state: BlobStore; readonly found: readonly LockState[] }> {
  const { settings, containers } = await connect();
  const { repository } = settings;
  const state = containers.container(repositoryNames(repository).state);
  try {
    return { state, found: await Array.fromAsync(listLocks(state, { signal })) };
  } catch (error) {
    if (!isFirnError(error, 'FIRN_CONTAINER_MISSING')) throw error;
    throw new FirnError('FIRN_REPOSITORY_MISSING', { repository, url: state.url }, { cause: error });
  }
}

/** Since the last owner took it; never negative, whatever the clocks say. */
export function secondsSince(since: string, now: Date): number {
  const seconds = (now.getTime() - Date.parse(since)) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.round(seconds)) : 0;
}

function jsonOf({ name, held, last }: LockState, now: Date) {
  return {
    lock: name,
    held,
    owner: last?.owner ?? null,
    since: last?.since ?? null,
    seconds: last ? secondsSince(last.since, now) : null,
    reason: last?.reason ?? null,
    token: last?.token ?? null,
  };
}

const columns: readonly Column[] = [
  { title: 'LOCK' },
  { title: 'STATE' },
  { title: 'TAKEN' },
  { title: 'AGO', align: 'right' },
  { title: 'OWNER' },
  { title: 'TOKEN', align: 'right' },
  { title: 'REASON' },
];

function tableOf(found: readonly LockState[], now: Date): string {
  return formatTable(
    columns,
    found.map(({ name, held, last }) => [
      name,
      held ? 'held' : 'free',
      formatTime(last?.since),
      last ? formatSeconds(secondsSince(last.since, now)) : '-',
      last?.owner ?? '-',
      last ? String(last.token) : '-',
      last?.reason ?? '-',
    ]),
  );
}
