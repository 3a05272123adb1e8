/**
 * Runs orchestrations: gives orchestrators their history, runs the activities, timers and sub-orchestrations that they
 * ask for, and keeps all of it in storage, so that a host that dies goes on where it was.
 *
 * Each instance is handled by one loop. It takes all messages that have arrived, runs the orchestrator once for each,
 * stores the result in one write, and only then starts what was newly scheduled and answers who was waiting. So an
 * activity that has completed and was recorded never runs again; one that was running when the host died runs again.
 *
 * One host per task hub at a time: a second one is kept from destroying anything by the ETags, but activities of an
 * instance that both know may run twice.
 */
import { randomUUID } from 'node:crypto';
import { FirnError, problemOf } from '../../errors.ts';
import type { HostedFunction } from '../functions.ts';
import { createGate, pause } from '../gate.ts';
import { failureLine, type Invoker } from '../invoke.ts';
import { systemMetadata } from '../listener.ts';
import type { HostLog } from '../log.ts';
import { dataValue, type RpcTypedData } from '../rpc.ts';
import {
  applyOutcome,
  type Episode,
  firstEpisode,
  type InstanceState,
  isTerminal,
  type Message,
  newInstance,
  type Parent,
  receive,
} from './instance.ts';
import { failedOutcomeOf, type OrchestratorOutcome, orchestratorInput, outcomeOf } from './protocol.ts';
import type { CallTask } from './scheduler.ts';
import type { InstanceStore, InstanceSummary } from './store.ts';

const SAVE_RETRY_MS = 1_000;
/** A timer of Node takes 24.8 days at most. */
const TIMER_MS_MAX = 3_600_000;

export type StartResult = 'started' | 'exists' | 'unknown-function';
export type SendResult = 'accepted' | 'missing' | 'ended';

export interface DurableEngine {
  /** Resolves when the instance is durable. */
  start(name: string, instanceId: string, input: string): Promise<StartResult>;
  /** Resolves when what the message did is durable. */
  send(instanceId: string, message: Message): Promise<SendResult>;
  get(instanceId: string): Promise<InstanceState | undefined>;
  list(): AsyncIterable<InstanceSummary>;
  /** Deletes an instance that has ended; false where there is none. */
  purge(instanceId: string): Promise<boolean>;
  /** Activities under way or waiting, and instances with messages to deal with. */
  readonly pending: number;
  /** Starts nothing new; resolves when what runs has ended and is recorded. */
  stop(): Promise<void>;
}

export interface EngineOptions {
  readonly functions: readonly HostedFunction[];
  readonly store: InstanceStore;
  readonly invoker: Invoker;
  readonly log: HostLog;
  readonly maxConcurrentActivityFunctions: number;
  readonly maxConcurrentOrchestratorFunctions: number;
}

interface Posted {
  readonly message: Message;
  readonly settled: PromiseWithResolvers<void> | undefined;
}

interface Actor {
  state: InstanceState;
  etag: string;
  inbox: Posted[];
  /** The loop, while there is something to do. */
  loop: Promise<void> | undefined;
  /** Tasks that this process has begun, by execution and id. */
  readonly begun: Set<string>;
  readonly timers: Set<NodeJS.Timeout>;
}

/** Takes up every instance that has not ended. */
export async function startDurableEngine(options: EngineOptions): Promise<DurableEngine> {
  const { store, invoker, log } = options;
  const orchestrators = byName(options.functions, 'orchestrationtrigger');
  const activities = byName(options.functions, 'activitytrigger');
  const activityGate = createGate(options.maxConcurrentActivityFunctions);
  const orchestratorGate = createGate(options.maxConcurrentOrchestratorFunctions);
  const actors = new Map<string, Actor>();
  const turns = new Map<string, Promise<unknown>>();
  const background = new Set<Promise<unknown>>();
  const stopping = new AbortController();

  /** Creation, deletion and loading of one instance happen one after the other. */
  function inTurn<T>(instanceId: string, work: () => Promise<T>): Promise<T> {
    const turn = (turns.get(instanceId) ?? Promise.resolve()).then(work, work);
    turns.set(instanceId, turn);
    const forget = (): void => {
      if (turns.get(instanceId) === turn) turns.delete(instanceId);
    };
    turn.then(forget, forget);
    return turn;
  }

  function inBackground(what: string, work: Promise<unknown>): void {
    const tracked = work
      .catch((error: unknown) => log('error', `${what}: ${problemOf(error)}`))
      .finally(() => background.delete(tracked));
    background.add(tracked);
  }

  function adopt(state: InstanceState, etag: string): Actor {
    const actor: Actor = { state, etag, inbox: [], loop: undefined, begun: new Set(), timers: new Set() };
    actors.set(state.instanceId, actor);
    begin(actor);
    wake(actor);
    return actor;
  }

  function wake(actor: Actor): void {
    if (actor.loop !== undefined) return;
    actor.loop = work(actor).finally(() => {
      actor.loop = undefined;
      if (actor.inbox.length > 0) wake(actor);
    });
    inBackground('An orchestration could not go on', actor.loop);
  }

  function post(actor: Actor, message: Message): void {
    actor.inbox.push({ message, settled: undefined });
    wake(actor);
  }

  async function work(actor: Actor): Promise<void> {
    // Callers of `wake` finish what they do first.
    await Promise.resolve();
    for (;;) {
      const before = actor.state;
      const batch = actor.inbox.splice(0);
      if (isTerminal(before.runtimeStatus)) {
        for (const { settled } of batch) settled?.resolve();
        return;
      }
      const after = before.started
        ? await deliver(before, batch)
        : await deliver(await runEpisode(firstEpisode(before, now())), batch);
      if (after === before) {
        for (const { settled } of batch) settled?.resolve();
        if (actor.inbox.length === 0) return;
        continue;
      }
      const saved = await save(actor, after, batch);
      if (saved === 'gone') return;
      if (saved === 'stale') continue;
      for (const { settled } of batch) settled?.resolve();
      if (isTerminal(after.runtimeStatus)) return end(actor);
      begin(actor);
    }
  }

  async function deliver(start: InstanceState, batch: readonly Posted[]): Promise<InstanceState> {
    let state = start;
    if (state.started && state.runtimeStatus !== 'Suspended' && state.held.length > 0) {
      const { held } = state;
      state = { ...state, held: [] };
      for (const message of held) state = await step(state, message);
    }
    for (const { message } of batch) state = await step(state, message);
    return state;
  }

  async function step(state: InstanceState, message: Message): Promise<InstanceState> {
    const next = receive(state, message, now());
    return 'episode' in next ? runEpisode(next.episode) : next.state;
  }

  async function runEpisode(episode: Episode): Promise<InstanceState> {
    const { state } = episode;
    const target = orchestrators.get(state.name.toLowerCase());
    let outcome: OrchestratorOutcome;
    if (target === undefined) {
      outcome = failedOutcomeOf(`The function '${state.name}' doesn't exist or is not an orchestrator function.`);
    } else {
      try {
        const { returnValue } = await orchestratorGate.run(() =>
          invoker.invoke(target, {
            input: { string: orchestratorInput({ ...state, parentInstanceId: state.parent?.instanceId }) },
            triggerMetadata: systemMetadata(target.name),
          }),
        );
        outcome = outcomeOf(dataValue(returnValue));
      } catch (error) {
        outcome = failedOutcomeOf(error);
      }
    }
    if (outcome.error !== undefined)
      log('error', `The orchestration failed: ${failureLine(outcome.error)}`, state.name);
    return applyOutcome(episode, outcome, randomUUID(), (kind, name) =>
      (kind === 'activity' ? activities : orchestrators).has(name.toLowerCase()),
    );
  }

  /** Tries until it is stored; another host's write, or a deletion, has the last word. */
  async function save(actor: Actor, state: InstanceState, batch: Posted[]): Promise<'saved' | 'stale' | 'gone'> {
    const { instanceId } = state;
    for (;;) {
      try {
        const etag = await store.save(state, actor.etag);
        if (etag !== undefined) {
          actor.state = state;
          actor.etag = etag;
          return 'saved';
        }
        const stored = await store.load(instanceId);
        if (stored === undefined) {
          for (const { settled } of batch) settled?.resolve();
          drop(actor);
          return 'gone';
        }
        log('warning', 'An orchestration was changed by another host; its state is read again', state.name);
        actor.state = stored.state;
        actor.etag = stored.etag;
        actor.inbox.unshift(...batch);
        return 'stale';
      } catch (error) {
        log('warning', `The history of an orchestration cannot be stored: ${problemOf(error)}`, state.name);
        await pause(SAVE_RETRY_MS, stopping.signal);
        if (!stopping.signal.aborted) continue;
        for (const { settled } of batch) settled?.reject(error);
        drop(actor);
        return 'gone';
      }
    }
  }

  function drop(actor: Actor): void {
    for (const timer of actor.timers) clearTimeout(timer);
    if (actors.get(actor.state.instanceId) === actor) actors.delete(actor.state.instanceId);
  }

  function end(actor: Actor): void {
    drop(actor);
    for (const { settled } of actor.inbox.splice(0)) settled?.resolve();
    const { parent } = actor.state;
    const waiting = parent === undefined ? undefined : actors.get(parent.instanceId);
    if (parent !== undefined && waiting !== undefined) post(waiting, childEnded(actor.state, parent));
  }

  /** Begins every scheduled task that this process has not begun. */
  function begin(actor: Actor): void {
    const { state } = actor;
    if (stopping.signal.aborted || isTerminal(state.runtimeStatus)) return;
    const settled = new Set(state.held.flatMap((message) => ('taskId' in message ? [message.taskId] : [])));
    for (const task of state.tasks) {
      const key = `${state.executionId}/${task.id}`;
      if (actor.begun.has(key) || settled.has(task.id)) continue;
      actor.begun.add(key);
      if (task.kind === 'timer') beginTimer(actor, task.id, Date.parse(task.fireAt), state.executionId);
      else if (task.kind === 'activity') inBackground('An activity was lost', runActivity(actor, task, state));
      else inBackground('A sub-orchestration could not be started', startChild(actor, task, state));
    }
  }

  function beginTimer(actor: Actor, taskId: number, atMs: number, executionId: string): void {
    const leftMs = atMs - Date.now();
    const timer = setTimeout(
      () => {
        actor.timers.delete(timer);
        if (Date.now() < atMs) beginTimer(actor, taskId, atMs, executionId);
        else post(actor, { type: 'fired', executionId, taskId });
      },
      Math.min(Math.max(leftMs, 0), TIMER_MS_MAX),
    );
    actor.timers.add(timer);
  }

  async function runActivity(actor: Actor, task: CallTask, state: InstanceState) {
    const { executionId } = state;
    await activityGate.run(async () => {
      // The state may have moved on while the activity waited for its turn; a stopping host leaves it to the next one.
      if (stopping.signal.aborted || actor.state.executionId !== executionId) return;
      if (isTerminal(actor.state.runtimeStatus)) return;
      const target = activities.get(task.name.toLowerCase());
      if (target === undefined) return;
      try {
        const { returnValue } = await invoker.invoke(target, {
          input: { string: task.input },
          triggerMetadata: { instanceId: { string: state.instanceId }, ...systemMetadata(target.name) },
        });
        post(actor, { type: 'completed', executionId, taskId: task.id, result: resultText(returnValue) });
      } catch (error) {
        log('error', `The activity failed: ${failureLine(error)}`, target.name);
        post(actor, {
          type: 'failed',
          executionId,
          taskId: task.id,
          reason: `Activity function '${target.name}' failed: ${problemOf(error)}`,
          details: error instanceof Error ? (error.stack ?? error.message) : String(error),
        });
      }
    });
  }

  async function startChild(actor: Actor, task: CallTask, state: InstanceState) {
    const parent: Parent = { instanceId: state.instanceId, executionId: state.executionId, taskId: task.id };
    await inTurn(task.instanceId, async () => {
      const found = await current(task.instanceId);
      const own = found?.state.parent;
      const same =
        own?.instanceId === parent.instanceId && own.executionId === parent.executionId && own.taskId === parent.taskId;
      if (found !== undefined && !isTerminal(found.state.runtimeStatus)) {
        if (same) return;
        post(actor, {
          type: 'failed',
          executionId: parent.executionId,
          taskId: task.id,
          reason: `Sub-orchestration function '${task.name}' failed: an instance ${task.instanceId} is running already`,
          details: '',
        });
      } else if (found !== undefined && same) {
        post(actor, childEnded(found.state, parent));
      } else {
        const child = newInstance(task.instanceId, task.name, task.input, randomUUID(), now(), parent);
        const etag = await store.save(child, found?.etag);
        if (etag === undefined)
          throw new FirnError('FIRN_INTERNAL', { problem: `${task.instanceId} is being changed` });
        adopt(child, etag);
      }
    });
  }

  /** The instance as this process knows it, else as it is stored. */
  async function current(instanceId: string): Promise<{ state: InstanceState; etag: string } | undefined> {
    return actors.get(instanceId) ?? (await store.load(instanceId));
  }

  for await (const { instanceId, runtimeStatus } of store.list()) {
    if (isTerminal(runtimeStatus)) continue;
    const stored = await store.load(instanceId);
    if (stored === undefined || isTerminal(stored.state.runtimeStatus)) continue;
    // Without its function it cannot go on; it waits in storage for a host that has the function.
    if (orchestrators.has(stored.state.name.toLowerCase())) adopt(stored.state, stored.etag);
    else log('warning', 'An orchestration waits for a function that this app does not have', stored.state.name);
  }

  return {
    start: (name, instanceId, input) =>
      inTurn(instanceId, async () => {
        const target = orchestrators.get(name.toLowerCase());
        if (target === undefined) return 'unknown-function';
        const found = await current(instanceId);
        if (found !== undefined && !isTerminal(found.state.runtimeStatus)) return 'exists';
        const state = newInstance(instanceId, target.name, input, randomUUID(), now());
        const etag = await store.save(state, found?.etag);
        if (etag === undefined) return 'exists';
        adopt(state, etag);
        return 'started';
      }),
    async send(instanceId, message) {
      const actor = actors.get(instanceId);
      if (actor === undefined) return (await store.load(instanceId)) === undefined ? 'missing' : 'ended';
      const settled = Promise.withResolvers<void>();
      actor.inbox.push({ message, settled });
      wake(actor);
      await settled.promise;
      return 'accepted';
    },
    get: async (instanceId) => (await current(instanceId))?.state,
    list: () => store.list(),
    purge: (instanceId) =>
      inTurn(instanceId, async () => {
        const found = await current(instanceId);
        return found !== undefined && isTerminal(found.state.runtimeStatus) && (await store.delete(instanceId));
      }),
    get pending() {
      const busy = [...actors.values()].filter(({ loop, inbox }) => loop !== undefined || inbox.length > 0).length;
      return busy + activityGate.running + activityGate.waiting;
    },
    async stop() {
      stopping.abort();
      for (const actor of actors.values()) for (const timer of actor.timers) clearTimeout(timer);
      while (background.size > 0) await Promise.all(background);
    },
  };
}

function byName(functions: readonly HostedFunction[], kind: HostedFunction['kind']): Map<string, HostedFunction> {
  return new Map(
    functions.filter((target) => target.kind === kind).map((target) => [target.name.toLowerCase(), target]),
  );
}

function now(): string {
  return new Date().toISOString();
}

function childEnded(child: InstanceState, parent: Parent): Message {
  const { executionId, taskId } = parent;
  if (child.runtimeStatus === 'Completed') return { type: 'completed', executionId, taskId, result: child.output };
  const reason = `Sub-orchestration function '${child.name}' failed: ${String(JSON.parse(child.output))}`;
  return { type: 'failed', executionId, taskId, reason, details: '' };
}

/** An activity's result as JSON text. */
function resultText(data: RpcTypedData | null | undefined): string {
  const value = dataValue(data);
  return JSON.stringify(value instanceof Uint8Array ? Buffer.from(value).toString('base64') : value) ?? 'null';
}
