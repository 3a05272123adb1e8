/**
 * The rules of an instance, held against the real library: a small host in memory runs orchestrators of
 * `durable-functions` episode by episode. If tasks were numbered otherwise than the library numbers them, an orchestrator
 * would wait for ever or get another task's result.
 */
import { createRequire } from 'node:module';
import * as df from 'durable-functions';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  applyOutcome,
  type Episode,
  firstEpisode,
  type InstanceState,
  isTerminal,
  type Message,
  newInstance,
  receive,
} from '../../../src/local/durable/instance.ts';
import { failedOutcomeOf, orchestratorInput, outcomeOf } from '../../../src/local/durable/protocol.ts';
import type { CallTask, Task } from '../../../src/local/durable/scheduler.ts';

/** What `df.app.orchestration` makes of a generator; it is not exported. */
const { createOrchestrator } = createRequire(import.meta.url)('durable-functions/lib/src/util/testingUtils.js') as {
  createOrchestrator: (orchestrator: Orchestrator) => (input: unknown, context: unknown) => Promise<unknown>;
};

type Steps = Generator<df.Task, unknown, unknown>;
type Orchestrator = (context: df.OrchestrationContext) => Steps;
const START_MS = Date.parse('2024-01-01T00:00:00.000Z');
const EPISODES_MAX = 500;

interface Answer {
  readonly ok: boolean;
  readonly value: unknown;
}

interface Run {
  readonly state: InstanceState;
  readonly elapsedMs: number;
}

/** Runs to the end. `pick` chooses which of the open tasks completes next; `answer` is what calls give. */
async function drive(
  orchestrator: Orchestrator,
  answer: (task: CallTask) => Answer,
  pick: (tasks: readonly Task[]) => Task = (tasks) => tasks[0]!,
  events: readonly Message[] = [],
): Promise<Run> {
  const handler = createOrchestrator(orchestrator);
  let nowMs = START_MS;
  let executions = 0;
  const now = (): string => new Date(nowMs).toISOString();

  async function run(episode: Episode): Promise<InstanceState> {
    const input: unknown = JSON.parse(orchestratorInput({ ...episode.state, parentInstanceId: undefined }));
    let outcome: ReturnType<typeof outcomeOf>;
    try {
      const context = new df.DummyOrchestrationContext('test', 'id', () => undefined);
      outcome = outcomeOf(JSON.parse(JSON.stringify(await handler(input, context))));
    } catch (error) {
      outcome = failedOutcomeOf(error);
    }
    executions += 1;
    return applyOutcome(episode, outcome, `execution-${executions}`, () => true);
  }
  async function deliver(state: InstanceState, message: Message): Promise<InstanceState> {
    const step = receive(state, message, now());
    return 'episode' in step ? run(step.episode) : step.state;
  }

  let state = await run(firstEpisode(newInstance('id', 'test', 'null', 'execution-0', now()), now()));
  const pending = [...events];
  for (let episodes = 0; !isTerminal(state.runtimeStatus); episodes += 1) {
    if (episodes > EPISODES_MAX) throw new Error('the orchestration does not end');
    if (!state.started) {
      state = await run(firstEpisode(state, now()));
      const { held } = state;
      state = { ...state, held: [] };
      for (const message of held) state = await deliver(state, message);
      continue;
    }
    const event = pending.shift();
    if (event !== undefined) {
      state = await deliver(state, event);
      continue;
    }
    if (state.tasks.length === 0) throw new Error('the orchestration waits for nothing');
    const task = pick(state.tasks);
    const { executionId } = state;
    if (task.kind === 'timer') {
      nowMs = Math.max(nowMs, Date.parse(task.fireAt));
      state = await deliver(state, { type: 'fired', executionId, taskId: task.id });
    } else {
      const { ok, value } = answer(task);
      state = await deliver(
        state,
        ok
          ? { type: 'completed', executionId, taskId: task.id, result: JSON.stringify(value) }
          : { type: 'failed', executionId, taskId: task.id, reason: String(value), details: 'details' },
      );
    }
  }
  return { state, elapsedMs: nowMs - START_MS };
}

const outputOf = ({ state }: Run): unknown => {
  expect(state.runtimeStatus, state.output).toBe('Completed');
  return JSON.parse(state.output);
};

test('whatever the order in which tasks end, each result reaches the call it belongs to', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ failures: fc.integer({ min: 0, max: 3 }), retried: fc.boolean() }), {
        minLength: 1,
        maxLength: 5,
      }),
      fc.array(fc.nat(), { minLength: 1, maxLength: 40 }),
      async (calls, choices) => {
        const attempts = new Map<string, number>();
        let choice = 0;
        const result = await drive(
          function* (context): Steps {
            const tasks = calls.map(({ retried }, n) =>
              retried
                ? context.df.callActivityWithRetry(`call-${n}`, new df.RetryOptions(10, 4), n)
                : context.df.callActivity(`call-${n}`, n),
            );
            const first = yield context.df.Task.all([
              ...tasks,
              context.df.createTimer(new Date(context.df.currentUtcDateTime.getTime() + 25)),
            ]);
            const second = yield context.df.callActivity('last', 'text');
            return [(first as unknown[]).slice(0, -1), second];
          },
          (task) => {
            const tried = (attempts.get(task.name) ?? 0) + 1;
            attempts.set(task.name, tried);
            const call = task.name === 'last' ? undefined : calls[Number(task.name.slice('call-'.length))];
            if (call?.retried && tried <= call.failures) return { ok: false, value: 'again' };
            return { ok: true, value: `${task.name}(${task.input})` };
          },
          (tasks) => tasks[(choices[choice++ % choices.length] ?? 0) % tasks.length]!,
        );
        expect(outputOf(result)).toEqual([calls.map((_, n) => `call-${n}(${n})`), 'last("text")']);
        for (const [n, { retried, failures }] of calls.entries()) {
          expect(attempts.get(`call-${n}`)).toBe(retried ? failures + 1 : 1);
        }
      },
    ),
    { numRuns: 60 },
  );
});

test('delays between tries grow by the coefficient up to their maximum', async () => {
  const options = new df.RetryOptions(1_000, 4);
  options.backoffCoefficient = 3;
  options.maxRetryIntervalInMilliseconds = 5_000;
  const run = await drive(
    function* (context): Steps {
      try {
        yield context.df.callActivityWithRetry('fails', options);
      } catch (error) {
        return (error as Error).message;
      }
      return 'no failure';
    },
    () => ({ ok: false, value: 'no' }),
  );
  expect(outputOf(run)).toContain('no');
  // Between four tries, and once after the last of them, as the library expects.
  expect(run.elapsedMs).toBe(1_000 + 3_000 + 5_000 + 5_000);
});

test('a timer further away than six days fires in steps and on time', async () => {
  const dayMs = 86_400_000;
  const run = await drive(
    function* (context): Steps {
      const due = new Date(context.df.currentUtcDateTime.getTime() + 10 * dayMs);
      const results = yield context.df.Task.all([context.df.createTimer(due), context.df.callActivity('other')]);
      return (results as unknown[])[1];
    },
    () => ({ ok: true, value: 'other' }),
  );
  expect(outputOf(run)).toBe('other');
  expect(run.elapsedMs).toBe(10 * dayMs);
});

test('a message that comes twice, or from an earlier execution, changes nothing', async () => {
  const state = newInstance('id', 'test', 'null', 'now', new Date(START_MS).toISOString());
  const { state: started } = firstEpisode(state, new Date(START_MS).toISOString());
  const task: Task = { kind: 'activity', id: 0, name: 'a', input: 'null', instanceId: '' };
  const waiting: InstanceState = { ...started, tasks: [task] };
  const completed = (executionId: string, taskId: number): Message => ({
    type: 'completed',
    executionId,
    taskId,
    result: '1',
  });
  const at = new Date(START_MS).toISOString();
  expect(receive(waiting, completed('before', 0), at)).toEqual({ state: waiting });
  expect(receive(waiting, completed('now', 1), at)).toEqual({ state: waiting });
  const step = receive(waiting, completed('now', 0), at);
  if (!('episode' in step)) throw new Error('the completion was not taken');
  expect(receive(step.episode.state, completed('now', 0), at)).toEqual({ state: step.episode.state });
});

test('what the local host does not support fails the orchestration with a clear message', async () => {
  const { state } = await drive(
    function* (context): Steps {
      return yield context.df.callEntity(new df.EntityId('counter', 'one'), 'add');
    },
    () => ({ ok: true, value: null }),
  );
  expect(state.runtimeStatus).toBe('Failed');
  expect(JSON.parse(state.output)).toContain('The local host does not support');
});
