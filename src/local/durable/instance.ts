/**
 * The state of one orchestration instance and the rules by which it changes. Pure: no I/O, no clock.
 *
 * An orchestrator is run once per message (one completion, one event), so that the tasks it schedules can be numbered
 * exactly as the library numbers them (`scheduler.ts`).
 *
 * The state is plain JSON; whoever holds it may store it between any two messages and go on from there.
 */
import {
  type Action,
  actionTypes,
  eventTypes,
  type HistoryEvent,
  historyEvent,
  type OrchestratorOutcome,
} from './protocol.ts';
import { createScheduler, type Task } from './scheduler.ts';

export type RuntimeStatus = 'Pending' | 'Running' | 'Suspended' | 'Completed' | 'Failed' | 'Terminated';

export interface Parent {
  readonly instanceId: string;
  readonly executionId: string;
  readonly taskId: number;
}

/** A task message counts only for the execution that scheduled the task. */
export type Message =
  | { readonly type: 'completed'; readonly executionId: string; readonly taskId: number; readonly result: string }
  | {
      readonly type: 'failed';
      readonly executionId: string;
      readonly taskId: number;
      readonly reason: string;
      readonly details: string;
    }
  | { readonly type: 'fired'; readonly executionId: string; readonly taskId: number }
  | { readonly type: 'raised'; readonly name: string; readonly input: string }
  | { readonly type: 'terminate' | 'suspend' | 'resume'; readonly reason: string };

export interface InstanceState {
  readonly version: 1;
  readonly instanceId: string;
  readonly name: string;
  readonly executionId: string;
  readonly parent?: Parent;
  readonly createdTime: string;
  readonly lastUpdatedTime: string;
  readonly runtimeStatus: RuntimeStatus;
  /** JSON text, as are `output` and `customStatus`. */
  readonly input: string;
  readonly output: string;
  readonly customStatus: string;
  /** False until the orchestrator has run for the first time in this execution. */
  readonly started: boolean;
  readonly history: readonly HistoryEvent[];
  /** Scheduled and not yet completed. */
  readonly tasks: readonly Task[];
  readonly nextTaskId: number;
  /** How many of the orchestrator's actions have been scheduled. */
  readonly actionsSeen: number;
  /** What arrived and was not yet given to the orchestrator: before its first run, or while suspended. */
  readonly held: readonly Message[];
}

export function isTerminal(status: RuntimeStatus): boolean {
  return status === 'Completed' || status === 'Failed' || status === 'Terminated';
}

export function newInstance(
  instanceId: string,
  name: string,
  input: string,
  executionId: string,
  now: string,
  parent?: Parent,
): InstanceState {
  return {
    version: 1,
    instanceId,
    name,
    executionId,
    ...(parent === undefined ? {} : { parent }),
    createdTime: now,
    lastUpdatedTime: now,
    runtimeStatus: 'Pending',
    input,
    output: 'null',
    customStatus: 'null',
    started: false,
    history: [],
    tasks: [],
    nextTaskId: 0,
    actionsSeen: 0,
    held: [],
  };
}

/** A run of the orchestrator that is to be made: the state it starts from, with the new events in its history. */
export interface Episode {
  readonly state: InstanceState;
  readonly timestamp: string;
  /** The task that the message completed. */
  readonly completed: Task | undefined;
  readonly failed: boolean;
}

/** The next thing to do for an instance: run the orchestrator, or only go on with the changed state. */
export type Step = { readonly episode: Episode } | { readonly state: InstanceState };

export function firstEpisode(state: InstanceState, now: string): Episode {
  const timestamp = later(state, now);
  const events = [
    historyEvent('OrchestratorStarted', timestamp),
    historyEvent('ExecutionStarted', timestamp, {
      Name: state.name,
      Version: '',
      Input: state.input,
      OrchestrationInstance: { InstanceId: state.instanceId, ExecutionId: state.executionId },
      ParentInstance: parentReference(state.parent),
    }),
  ];
  return {
    state: { ...state, started: true, runtimeStatus: 'Running', history: [...state.history, ...events] },
    timestamp,
    completed: undefined,
    failed: false,
  };
}

function parentReference(parent: Parent | undefined): unknown {
  if (parent === undefined) return null;
  const { instanceId, executionId, taskId } = parent;
  return { OrchestrationInstance: { InstanceId: instanceId, ExecutionId: executionId }, TaskScheduleId: taskId };
}

/** What a message does to an instance. Repeated and stray messages change nothing. */
export function receive(state: InstanceState, message: Message, now: string): Step {
  if (isTerminal(state.runtimeStatus)) return { state };
  const timestamp = later(state, now);
  switch (message.type) {
    case 'terminate':
      return { state: finish(state, 'Terminated', JSON.stringify(message.reason), timestamp) };
    case 'suspend': {
      if (state.runtimeStatus === 'Suspended') return { state };
      const event = historyEvent('ExecutionSuspended', timestamp, { Reason: message.reason });
      return { state: { ...state, runtimeStatus: 'Suspended', history: [...state.history, event] } };
    }
    case 'resume': {
      if (state.runtimeStatus !== 'Suspended') return { state };
      const event = historyEvent('ExecutionResumed', timestamp, { Reason: message.reason });
      return { state: { ...state, runtimeStatus: 'Running', history: [...state.history, event] } };
    }
    default:
  }
  if (!state.started || state.runtimeStatus === 'Suspended') {
    return { state: { ...state, held: [...state.held, message] } };
  }

  const started = historyEvent('OrchestratorStarted', timestamp);
  if (message.type === 'raised') {
    const raised = historyEvent('EventRaised', timestamp, { Name: message.name, Input: message.input });
    return {
      episode: {
        state: { ...state, history: [...state.history, started, raised] },
        timestamp,
        completed: undefined,
        failed: false,
      },
    };
  }
  const task = state.tasks.find(({ id }) => id === message.taskId);
  if (task === undefined || message.executionId !== state.executionId) return { state };
  const completion = completionEvent(task, message, timestamp);
  return {
    episode: {
      state: {
        ...state,
        tasks: state.tasks.filter((other) => other !== task),
        history: [...state.history, started, completion],
      },
      timestamp,
      completed: task,
      failed: message.type === 'failed',
    },
  };
}

function completionEvent(
  task: Task,
  message: Extract<Message, { readonly taskId: number }>,
  timestamp: string,
): HistoryEvent {
  if (task.kind === 'timer') return historyEvent('TimerFired', timestamp, { TimerId: task.id, FireAt: task.fireAt });
  const prefix = task.kind === 'activity' ? 'Task' : 'SubOrchestrationInstance';
  return message.type === 'failed'
    ? historyEvent(`${prefix}Failed`, timestamp, {
        TaskScheduledId: task.id,
        Reason: message.reason,
        Details: message.details,
      })
    : historyEvent(`${prefix}Completed`, timestamp, {
        TaskScheduledId: task.id,
        Result: message.type === 'completed' ? message.result : 'null',
      });
}

/** What the orchestrator's answer does. `known` says whether a function of that kind exists. */
export function applyOutcome(
  episode: Episode,
  outcome: OrchestratorOutcome,
  newExecutionId: string,
  known: (kind: 'activity' | 'orchestration', name: string) => boolean,
): InstanceState {
  const { timestamp } = episode;
  const failWith = (error: string): InstanceState =>
    finish(
      { ...episode.state, customStatus: JSON.stringify(outcome.customStatus) ?? 'null' },
      'Failed',
      JSON.stringify(`Orchestrator function '${episode.state.name}' failed: ${error}`),
      timestamp,
    );
  if (outcome.error !== undefined) return failWith(outcome.error);

  const scheduler = createScheduler(
    {
      executionId: episode.state.executionId,
      nextTaskId: episode.state.nextTaskId,
      timestamp,
      completed: episode.completed,
      failed: episode.failed,
    },
    known,
  );
  scheduler.afterCompletion();
  const fresh = outcome.actions.slice(episode.state.actionsSeen);
  for (const action of fresh) scheduler.schedule(action);
  if (scheduler.problem !== undefined) return failWith(scheduler.problem);

  const state: InstanceState = {
    ...episode.state,
    customStatus: JSON.stringify(outcome.customStatus) ?? 'null',
    actionsSeen: outcome.actions.length,
    tasks: [...episode.state.tasks, ...scheduler.tasks],
    nextTaskId: scheduler.nextTaskId,
    history: [...episode.state.history, ...scheduler.events],
  };
  if (!outcome.isDone) return completeEpisode(state, timestamp);
  const last = outcome.actions.at(-1);
  if (last?.actionType === actionTypes.ContinueAsNew) {
    return continueAsNew(state, outcome.actions, last.input, newExecutionId, timestamp);
  }
  return finish(state, 'Completed', JSON.stringify(outcome.output) ?? 'null', timestamp);
}

function completeEpisode(state: InstanceState, timestamp: string): InstanceState {
  return {
    ...state,
    lastUpdatedTime: timestamp,
    history: [...state.history, historyEvent('OrchestratorCompleted', timestamp)],
  };
}

function finish(state: InstanceState, status: RuntimeStatus, output: string, timestamp: string): InstanceState {
  const event =
    status === 'Terminated'
      ? historyEvent('ExecutionTerminated', timestamp, { Input: output })
      : historyEvent(
          'ExecutionCompleted',
          timestamp,
          { OrchestrationStatus: status === 'Completed' ? 1 : 3, Result: output },
          state.nextTaskId,
        );
  return {
    ...state,
    runtimeStatus: status,
    output,
    lastUpdatedTime: timestamp,
    tasks: [],
    held: [],
    history: [...state.history, event, historyEvent('OrchestratorCompleted', timestamp)],
  };
}

/** A new execution with an empty history; events that nobody waited for go with it. */
function continueAsNew(
  state: InstanceState,
  actions: readonly Action[],
  input: unknown,
  executionId: string,
  timestamp: string,
): InstanceState {
  const waited = new Map<string, number>();
  const visit = (action: Action): void => {
    if (action.externalEventName !== undefined) {
      waited.set(action.externalEventName, (waited.get(action.externalEventName) ?? 0) + 1);
    }
    action.compoundActions?.forEach(visit);
  };
  actions.forEach(visit);
  const left: Message[] = [];
  for (const event of state.history) {
    if (event.EventType !== eventTypes.EventRaised) continue;
    const name = String(event.Name);
    const waiting = waited.get(name) ?? 0;
    if (waiting > 0) waited.set(name, waiting - 1);
    else left.push({ type: 'raised', name, input: String(event.Input) });
  }
  return {
    ...newInstance(
      state.instanceId,
      state.name,
      typeof input === 'string' ? input : (JSON.stringify(input) ?? 'null'),
      executionId,
      timestamp,
      state.parent,
    ),
    createdTime: state.createdTime,
    runtimeStatus: 'Running',
    customStatus: state.customStatus,
    held: [...left, ...state.held],
  };
}

/** An orchestrator's clock never goes back, and is never before what it has waited for. */
function later(state: InstanceState, now: string): string {
  const last = state.history.at(-1)?.Timestamp ?? state.createdTime;
  return last > now ? last : now;
}
