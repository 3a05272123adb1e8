/**
 * Turns the actions of an orchestrator into numbered tasks and their history events. Pure.
 *
 * The library numbers tasks by itself and expects the host to come to the same numbers: first what a retry schedules in
 * answer to the message of this episode, then what the new actions ask for, in order, depth first. Waiting for an
 * external event takes no number. A timer that the orchestrator has cancelled is kept and fires unnoticed, as in the
 * extension.
 */
import {
  type Action,
  actionTypes,
  type HistoryEvent,
  historyEvent,
  LONG_TIMER_MS,
  LONG_TIMER_STEP_MS,
  type RetryOptions,
  retryDelayMs,
} from './protocol.ts';

/** How often a call was tried, this time included, and how it is tried again. */
interface Retry {
  readonly options: RetryOptions;
  readonly attempt: number;
}

export interface CallTask {
  readonly kind: 'activity' | 'orchestration';
  readonly id: number;
  readonly name: string;
  /** JSON text. */
  readonly input: string;
  /** Of an orchestration: the child's id. */
  readonly instanceId: string;
  readonly retry?: Retry;
}

export interface TimerTask {
  readonly kind: 'timer';
  readonly id: number;
  readonly fireAt: string;
  /** The step of a long timer: when the whole is due. */
  readonly finalFireAt?: string;
  /** The delay before a retry: what is scheduled when it is over; null after the last attempt. */
  readonly afterwards?: CallTask | null;
}

export type Task = CallTask | TimerTask;

export interface ScheduledEpisode {
  readonly executionId: string;
  readonly nextTaskId: number;
  readonly timestamp: string;
  /** The task that the message of this episode completed. */
  readonly completed: Task | undefined;
  readonly failed: boolean;
}

export interface Scheduler {
  readonly tasks: readonly Task[];
  readonly events: readonly HistoryEvent[];
  readonly nextTaskId: number;
  readonly problem: string | undefined;
  afterCompletion(): void;
  schedule(action: Action): void;
}

export function createScheduler(
  episode: ScheduledEpisode,
  known: (kind: 'activity' | 'orchestration', name: string) => boolean,
): Scheduler {
  const { timestamp, completed, failed } = episode;
  const tasks: Task[] = [];
  const events: HistoryEvent[] = [];
  const nowMs = Date.parse(timestamp);
  let nextTaskId = episode.nextTaskId;
  let problem: string | undefined;

  function add(task: Task): void {
    tasks.push(task);
    if (task.kind === 'timer') {
      events.push(historyEvent('TimerCreated', timestamp, { FireAt: task.fireAt }, task.id));
    } else if (task.kind === 'activity') {
      events.push(
        historyEvent('TaskScheduled', timestamp, { Name: task.name, Version: '', Input: task.input }, task.id),
      );
    } else {
      events.push(
        historyEvent(
          'SubOrchestrationInstanceCreated',
          timestamp,
          { Name: task.name, Version: '', InstanceId: task.instanceId, Input: task.input },
          task.id,
        ),
      );
    }
  }

  function addTimer(finalFireAt: string, afterwards?: CallTask | null): void {
    const finalMs = Date.parse(finalFireAt);
    const fireAt = finalMs - nowMs > LONG_TIMER_MS ? new Date(nowMs + LONG_TIMER_STEP_MS).toISOString() : finalFireAt;
    const id = nextTaskId++;
    add({ kind: 'timer', id, fireAt, finalFireAt, ...(afterwards === undefined ? {} : { afterwards }) });
  }

  function addCall(kind: CallTask['kind'], action: Action): void {
    const name = action.functionName ?? '';
    if (!known(kind, name)) {
      problem ??= `The function '${name}' doesn't exist, is disabled, or is not an ${kind} function.`;
      return;
    }
    const id = nextTaskId++;
    add({
      kind,
      id,
      name,
      input: inputText(kind, action.input),
      instanceId: action.instanceId || `${episode.executionId}:${id.toString(16).padStart(4, '0')}`,
      ...(action.retryOptions === undefined ? {} : { retry: { options: action.retryOptions, attempt: 1 } }),
    });
  }

  return {
    get tasks() {
      return tasks;
    },
    get events() {
      return events;
    },
    get nextTaskId() {
      return nextTaskId;
    },
    get problem() {
      return problem;
    },
    afterCompletion() {
      if (completed === undefined) return;
      if (completed.kind !== 'timer') {
        if (!failed || completed.retry === undefined) return;
        const { options, attempt } = completed.retry;
        const retryAt = new Date(nowMs + retryDelayMs(options, attempt)).toISOString();
        // The library waits for a timer after the last attempt as well.
        const next =
          attempt < options.maxNumberOfAttempts ? { ...completed, retry: { options, attempt: attempt + 1 } } : null;
        const id = nextTaskId++;
        add({ kind: 'timer', id, fireAt: retryAt, afterwards: next });
      } else if (completed.afterwards !== undefined) {
        if (completed.afterwards !== null) add({ ...completed.afterwards, id: nextTaskId++ });
      } else if (completed.finalFireAt !== undefined && Date.parse(completed.finalFireAt) > nowMs) {
        addTimer(completed.finalFireAt);
      }
    },
    schedule(action) {
      switch (action.actionType) {
        case actionTypes.CallActivity:
        case actionTypes.CallActivityWithRetry:
          return addCall('activity', action);
        case actionTypes.CallSubOrchestrator:
        case actionTypes.CallSubOrchestratorWithRetry:
          return addCall('orchestration', action);
        case actionTypes.CreateTimer:
          return addTimer(new Date(action.fireAt ?? timestamp).toISOString());
        case actionTypes.WhenAll:
        case actionTypes.WhenAny:
          for (const part of action.compoundActions ?? []) this.schedule(part);
          return;
        case actionTypes.WaitForExternalEvent:
        case actionTypes.ContinueAsNew:
          return;
        default:
          problem ??= `The local host does not support actions of type ${action.actionType} (entities and HTTP calls).`;
      }
    },
  };
}

/** The library sends the text input of an activity as JSON text, and that of an orchestrator as it is. */
function inputText(kind: CallTask['kind'], input: unknown): string {
  if (input === undefined) return 'null';
  return kind === 'activity' && typeof input === 'string' ? input : JSON.stringify(input);
}
