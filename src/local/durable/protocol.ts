/**
 * The protocol between the Durable Functions extension and an orchestrator in another process: the history that goes
 * in, the actions that come out. Names and numbers are those of the extension; `durable-functions` reads them.
 *
 * History timestamps and fire times are ISO text; inputs and results inside events are JSON text.
 */
import { FirnError } from '../../errors.ts';

export const eventTypes = {
  ExecutionStarted: 0,
  ExecutionCompleted: 1,
  ExecutionTerminated: 3,
  TaskScheduled: 4,
  TaskCompleted: 5,
  TaskFailed: 6,
  SubOrchestrationInstanceCreated: 7,
  SubOrchestrationInstanceCompleted: 8,
  SubOrchestrationInstanceFailed: 9,
  TimerCreated: 10,
  TimerFired: 11,
  OrchestratorStarted: 12,
  OrchestratorCompleted: 13,
  EventRaised: 15,
  ExecutionSuspended: 19,
  ExecutionResumed: 20,
} as const;
export type EventName = keyof typeof eventTypes;

/** `EventId` counts the tasks that the orchestrator has scheduled; -1 for every other event. */
export interface HistoryEvent {
  readonly EventType: number;
  readonly EventId: number;
  readonly Timestamp: string;
  readonly [property: string]: unknown;
}

export function historyEvent(
  name: EventName,
  timestamp: string,
  properties: Readonly<Record<string, unknown>> = {},
  eventId = -1,
): HistoryEvent {
  return { EventType: eventTypes[name], EventId: eventId, Timestamp: timestamp, ...properties };
}

export const actionTypes = {
  CallActivity: 0,
  CallActivityWithRetry: 1,
  CallSubOrchestrator: 2,
  CallSubOrchestratorWithRetry: 3,
  ContinueAsNew: 4,
  CreateTimer: 5,
  WaitForExternalEvent: 6,
  CallEntity: 7,
  CallHttp: 8,
  SignalEntity: 9,
  WhenAny: 11,
  WhenAll: 12,
} as const;

export interface RetryOptions {
  readonly firstRetryIntervalInMilliseconds: number;
  readonly maxNumberOfAttempts: number;
  readonly backoffCoefficient?: number;
  readonly maxRetryIntervalInMilliseconds?: number;
}

export interface Action {
  readonly actionType: number;
  readonly functionName?: string;
  readonly instanceId?: string;
  readonly input?: unknown;
  readonly retryOptions?: RetryOptions;
  readonly fireAt?: string;
  readonly isCanceled?: boolean;
  readonly externalEventName?: string;
  readonly compoundActions?: readonly Action[];
}

/** What an orchestrator answers: everything it has scheduled since its execution began. */
export interface OrchestratorOutcome {
  readonly isDone: boolean;
  readonly actions: readonly Action[];
  readonly output: unknown;
  readonly customStatus: unknown;
  /** Set where the orchestrator threw. */
  readonly error: string | undefined;
}

/** Version 3 of the replay schema, as the extension announces it: `upperSchemaVersion` stays at 2 for old libraries. */
const UPPER_SCHEMA_VERSION = 1;
const UPPER_SCHEMA_VERSION_NEW = 2;
/** A timer that is due later than this is split by the library into steps; both as .NET time spans and in ms. */
export const LONG_TIMER_MS = 6 * 86_400_000;
export const LONG_TIMER_STEP_MS = 3 * 86_400_000;

/** The trigger input of an orchestrator function. */
export function orchestratorInput(instance: {
  readonly instanceId: string;
  readonly input: string;
  readonly parentInstanceId: string | undefined;
  readonly history: readonly HistoryEvent[];
}): string {
  const { history } = instance;
  const lastStart = history.findLastIndex(({ EventType }) => EventType === eventTypes.OrchestratorStarted);
  return JSON.stringify({
    history: history.map((event, index) => ({ ...event, IsPlayed: index < lastStart })),
    input: JSON.parse(instance.input),
    instanceId: instance.instanceId,
    isReplaying: lastStart > 0,
    parentInstanceId: instance.parentInstanceId ?? null,
    upperSchemaVersion: UPPER_SCHEMA_VERSION,
    upperSchemaVersionNew: UPPER_SCHEMA_VERSION_NEW,
    longRunningTimerIntervalDuration: '3.00:00:00',
    maximumShortTimerDuration: '6.00:00:00',
    defaultHttpAsyncRequestSleepTimeMillseconds: 30_000,
  });
}

const OUT_OF_PROC_LABEL = '$OutOfProcData$:';

/** Reads the return value of an orchestrator function. */
export function outcomeOf(value: unknown): OrchestratorOutcome {
  if (typeof value !== 'object' || value === null || !('isDone' in value) || !('actions' in value)) {
    throw new FirnError('FIRN_INTERNAL', { problem: 'an orchestrator function answered something else than actions' });
  }
  const { isDone, actions, ...rest } = value as Record<string, unknown>;
  return {
    isDone: isDone === true,
    actions: (actions as Action[][]).flat(),
    output: rest.output,
    customStatus: rest.customStatus,
    error: typeof rest.error === 'string' ? rest.error : undefined,
  };
}

/** The same for an orchestrator that threw: the library puts its answer into the message of the error. */
export function failedOutcomeOf(error: unknown): OrchestratorOutcome {
  const message = error instanceof Error ? error.message : String(error);
  const at = message.indexOf(OUT_OF_PROC_LABEL);
  if (at >= 0) {
    const outcome = outcomeOf(JSON.parse(message.slice(at + OUT_OF_PROC_LABEL.length)));
    return { ...outcome, isDone: false, error: outcome.error ?? message.slice(0, at).trim() };
  }
  return { isDone: false, actions: [], output: undefined, customStatus: undefined, error: message };
}

/** How long to wait after the given attempt (1 is the first) has failed. */
export function retryDelayMs(options: RetryOptions, attempt: number): number {
  const delay = options.firstRetryIntervalInMilliseconds * (options.backoffCoefficient ?? 1) ** (attempt - 1);
  return Math.min(delay, options.maxRetryIntervalInMilliseconds ?? Number.MAX_SAFE_INTEGER);
}
