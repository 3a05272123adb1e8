/**
 * The timer trigger: runs a function on its schedule, never twice at a time. When it last ran is kept in the host's own
 * storage; a run that was due while no host was running is made up for at start, with `isPastDue`, as the real host does
 * for schedules whose intervals are a minute or longer (or with `useMonitor`).
 */
import type { ContainerClient } from '@azure/storage-blob';
import { FirnError, problemOf } from '../errors.ts';
import { textOf } from './functions.ts';
import { createGate, pause } from './gate.ts';
import { failureLine } from './invoke.ts';
import { jsonData, type Listener, type ListenerContext } from './listener.ts';
import { parseSchedule, type Schedule } from './ncrontab.ts';

/** A timer of Node takes 24.8 days at most; this also bounds what a clock that is set anew can do. */
const WAIT_MS_MAX = 60_000;
const MONITOR_INTERVAL_MS = 60_000;

export interface TimerTriggerOptions extends ListenerContext {
  readonly hostContainer: ContainerClient;
  readonly hostId: string;
}

export interface TimerListener extends Listener {
  /** Runs the function by hand, after a run that is under way. Rejects when the invocation failed. */
  runNow(): Promise<void>;
}

interface Status {
  readonly Last: string;
  readonly Next: string;
  readonly LastUpdated: string;
}

const NEVER = new Date(0).toISOString();

export async function startTimerTrigger(options: TimerTriggerOptions): Promise<TimerListener> {
  const { target, log } = options;
  const binding = target.trigger.binding;
  const schedule = parseSchedule(textOf(binding, 'schedule', target.name), target.name);
  const monitored = isMonitored(schedule, binding.useMonitor);
  const blob = options.hostContainer.getBlockBlobClient(`timers/${options.hostId}/${target.name}/status`);
  const gate = createGate(1);
  const stopping = new AbortController();
  let status: Status | undefined = monitored ? await readStatus() : undefined;

  async function readStatus(): Promise<Status | undefined> {
    try {
      return JSON.parse((await blob.downloadToBuffer()).toString('utf8')) as Status;
    } catch (error) {
      if ((error as { statusCode?: number }).statusCode === 404) return undefined;
      throw new FirnError('FIRN_LOCAL_STACK_FAILED', {
        problem: `the host's own blob ${blob.name} cannot be read: ${problemOf(error)}`,
      });
    }
  }

  async function saveStatus(next: Status): Promise<void> {
    status = next;
    if (monitored) await blob.uploadData(Buffer.from(JSON.stringify(next)));
  }

  function run(isPastDue: boolean): Promise<void> {
    return gate.run(async () => {
      await options.run(
        jsonData({
          Schedule: { AdjustForDST: true },
          ScheduleStatus: status ?? { Last: NEVER, Next: NEVER, LastUpdated: NEVER },
          IsPastDue: isPastDue,
        }),
        {},
      );
    });
  }

  async function runScheduled(isPastDue: boolean, due: Date): Promise<void> {
    try {
      await run(isPastDue);
    } catch (error) {
      log('error', `The run failed: ${failureLine(error)}`, target.name);
    }
    const next = schedule.next(new Date());
    await saveStatus({
      Last: due.toISOString(),
      Next: (next ?? new Date(0)).toISOString(),
      LastUpdated: new Date().toISOString(),
    });
  }

  async function loop(): Promise<void> {
    const startedAt = new Date();
    const missed = status !== undefined && status.Next !== NEVER && new Date(status.Next) < startedAt;
    if (missed || binding.runOnStartup === true) await settle(() => runScheduled(missed, startedAt));
    while (!stopping.signal.aborted) {
      const next = schedule.next(new Date());
      if (next === undefined) {
        log('warning', 'The schedule has no further occurrence', target.name);
        return;
      }
      if (monitored && status?.Next !== next.toISOString()) {
        await settle(() =>
          saveStatus({
            Last: status?.Last ?? NEVER,
            Next: next.toISOString(),
            LastUpdated: new Date().toISOString(),
          }),
        );
      }
      while (Date.now() < next.getTime() && !stopping.signal.aborted) {
        await pause(Math.min(next.getTime() - Date.now(), WAIT_MS_MAX), stopping.signal);
      }
      if (!stopping.signal.aborted) await settle(() => runScheduled(false, next));
    }
  }

  /** What storage refuses now must not end the schedule. */
  async function settle(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      log('warning', `The state of the timer cannot be kept: ${problemOf(error)}`, target.name);
    }
  }

  const looping = loop();
  return {
    get pending() {
      return gate.running + gate.waiting;
    },
    runNow: () => run(false),
    async stop() {
      stopping.abort();
      await looping;
      await gate.run(() => Promise.resolve());
    },
    abandon: () => Promise.resolve(),
  };
}

function isMonitored(schedule: Schedule, useMonitor: unknown): boolean {
  if (typeof useMonitor === 'boolean') return useMonitor;
  const first = schedule.next(new Date());
  const second = first === undefined ? undefined : schedule.next(first);
  return first === undefined || second === undefined || second.getTime() - first.getTime() >= MONITOR_INTERVAL_MS;
}
