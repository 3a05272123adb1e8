/** `firn unlock` */
import { FirnError } from '../../errors.ts';
import { PUBLISH_LOCKS, REPAIR_LOCK } from '../../storage/lock-names.ts';
import { ownerText } from '../../storage/lock-record.ts';
import { breakLock, findLock, type LockState } from '../../storage/lock-states.ts';
import { type Command, type CommandContext, exitCodes } from '../command.ts';
import { formatSeconds, nearest } from '../format.ts';
import { findLocks, secondsSince } from './locks.ts';

export const unlock: Command = {
  name: 'unlock',
  summary: 'take a lock from a run that does not give it back',
  about: [
    'Frees a lock that another run holds, for a person who knows better. There is rarely a need: the lock of a run that died is free within a minute by itself. It says first whose lock it is and what may happen, and asks; where nobody can be asked (no terminal, or --json), it wants --yes.',
    'Nothing stored is in danger. A run that is alive and loses its lock stops at its next renewal, and whatever it still writes until then, it writes only where nobody else has. No passphrase is needed.',
  ],
  args: [{ name: 'lock' }],
  options: { yes: { type: 'flag', short: 'y', about: 'do not ask' } },
  examples: [
    ['firn unlock publish-documents', 'free the lock of the publishes of a source, after asking'],
    ['firn unlock repair --yes --json', 'free the lock of repairs, from a script'],
  ],
  async run(context) {
    const [name = ''] = context.args;
    const { options, output, signal, confirm } = context;
    const { state, found } = await findLocks(context);
    const lock = found.find((each) => each.name === name);
    if (lock === undefined) throw unknown(name, found);
    if (!lock.held) return await tell(context, lock, false);

    output.message(warningOf(lock, context.now()));
    if (!options.flag('yes')) {
      const isSure = await confirm(`Break the lock ${name}?`);
      if (isSure === undefined) throw notAsked(lock);
      if (!isSure) {
        output.message('Nothing was broken.');
        return exitCodes.cancelled;
      }
      // A person takes time to answer.
      const now = await findLock(state, name, { signal });
      if (now?.held && now.last?.token !== lock.last?.token) throw changedHands(now);
    }
    return await tell(context, lock, await breakLock(state, name, { signal }));
  },
};

async function tell({ output }: CommandContext, { name, last }: LockState, broken: boolean): Promise<number> {
  const { owner = null, since = null, reason = null, token = null } = last ?? {};
  await output.result({ lock: name, broken, owner, since, reason, token }, () =>
    broken ? `The lock ${name} is free.` : `Nobody holds the lock ${name}; there is nothing to break.`,
  );
  return exitCodes.done;
}

/** What is about to be broken, and what may happen then. */
function warningOf({ name, last }: LockState, now: Date): string {
  const ago = last ? `, ${formatSeconds(secondsSince(last.since, now))} ago` : '';
  return [`The lock ${name} is held by ${ownerText(last)}${ago}.`, ...consequencesOf(name)].join('\n');
}

function consequencesOf(name: string): string[] {
  if (name.startsWith(PUBLISH_LOCKS)) {
    return [
      'If that publish is alive, it stops within 20 seconds with FIRN_LOCK_LOST; the functions try again by themselves.',
      'Nothing is lost: the next publish goes on with its plan. Until it stops, two may do the same work.',
    ];
  }
  if (name === REPAIR_LOCK) {
    return [
      'If that repair is alive, it stops within 10 seconds with FIRN_LOCK_LOST. It is unfinished then: publishes and',
      'restores refuse until `firn repair-index` was run again.',
    ];
  }
  return ['Whoever holds it stops at the next renewal, within 20 seconds.'];
}

function unknown(lock: string, found: readonly LockState[]): FirnError {
  const near = nearest(
    lock,
    found.map(({ name }) => name),
  );
  const advice = near === undefined ? {} : { advice: `Did you mean ${near}? \`firn locks\` lists the locks.` };
  return new FirnError('FIRN_LOCK_UNKNOWN', { lock }, advice);
}

function notAsked({ name, last }: LockState): FirnError {
  const problem = `firn unlock: The lock ${name} is held by ${ownerText(last)}. Nobody can be asked here; add --yes to break it.`;
  return new FirnError('FIRN_USAGE', { problem });
}

function changedHands({ name, last }: LockState): FirnError {
  const advice = 'It changed hands meanwhile, and nothing was broken. Look again with `firn locks`.';
  return new FirnError('FIRN_LOCK_BUSY', { lock: name, owner: ownerText(last) }, { advice });
}
