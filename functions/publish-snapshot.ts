/**
 * The publish of one source as a durable orchestration: plan, then all shard flushes and the filetrees in parallel, then,
 * only when every one of them succeeded, the snapshot. Activities answer instead of failing, so that all of them have
 * ended when the orchestrator decides; what failed and may pass is tried again, alone, a few times. When it does not,
 * the orchestration fails, no snapshot is written, and the receipts wait for the next publish.
 *
 * One run holds the lock of its source from its plan to its commit: every activity brings the same lease id, which follows
 * from the run and so is the same again after a replay, on whatever host. An activity that ends leaves the lock to the
 * others; the commit gives it back, or the last activity of a run that failed. Where neither comes to it the lease ends.
 * When the waits between tries are longer than the lease, the next activity takes the lock again, or is told who has it.
 */

import type { InvocationContext } from '@azure/functions';
import type { OrchestrationContext } from 'durable-functions';
import * as df from 'durable-functions';
import { FirnError, problemOf } from '../src/errors.ts';
import { groupRoots, type HashPrefixes, planPublish, prefixesOf } from '../src/publish/plan.ts';
import type { PlanReference } from '../src/publish/plan-blob.ts';
import { endPublish, type HeldPublish, underPublishLock } from '../src/publish/publish-lock.ts';
import { type BuiltTree, buildFiletrees, commitSnapshot, flushShards } from '../src/publish/steps.ts';
import type { Repository } from '../src/repository.ts';
import { leaseIdFor } from '../src/storage/locks.ts';
import { type Answer, answeringExcept } from './shared/answering.ts';
import { appSettings, repositoryOf } from './shared/application.ts';
import { logFailure, type RunInfo, runIdFor, tellFlushed, tellPublish, tellTry } from './shared/events.ts';
import { PUBLISH_ORCHESTRATOR, publishInstanceId } from './shared/publishing.ts';

const TRIES_MAX = 4;
const RETRY_AFTER_MS = appSettings.publishRetrySeconds * 1000;

/** A repair or another publisher is at work: the run ends, and the timer starts the next. */
const waitingFor = ['FIRN_REPAIR_UNFINISHED', 'FIRN_LOCK_BUSY'] as const;

/** With the first two the plan is gone; only a new plan helps. */
const answering = answeringExcept(['FIRN_PUBLISH_CONFLICT', 'FIRN_RECEIPT_DAMAGED', ...waitingFor]);

/** How a publish ended that failed with this code. Where another publisher carried out the plan, the snapshot is there. */
function outcomeOf(code: string): 'superseded' | 'waiting' | 'failed' {
  if (code === 'FIRN_PUBLISH_CONFLICT') return 'superseded';
  return waitingFor.some((each) => each === code) ? 'waiting' : 'failed';
}

/** What all activities of a run are given. */
interface Run extends RunInfo {
  readonly leaseId: string;
}

interface PlannedPublish {
  readonly plan: PlanReference;
  readonly groups: readonly HashPrefixes[];
}

/** Every call is told which try it is. */
interface AnyInput {
  readonly run: Run;
  readonly tries: number;
}

interface StepInput extends AnyInput {
  readonly plan: PlanReference;
}

interface FlushInput extends StepInput {
  /** Something else where another version planned the run: then everything is flushed, by each of its activities. */
  readonly prefixes: unknown;
}

interface CommitInput extends StepInput {
  readonly tree: BuiltTree;
}

/** An activity that holds the lock of its run. It does not wait for another's: the orchestrator tries again later. */
function step<I extends AnyInput, T>(
  work: (repository: Repository, input: I, held: HeldPublish, context: InvocationContext) => Promise<T>,
) {
  return answering(async (input: I, context): Promise<T> => {
    const repository = await repositoryOf(context);
    const { source, leaseId } = input.run;
    tellTry(context.functionName, source, input.tries);
    const options = { leaseId, by: `the orchestration ${publishInstanceId(source)}`, waitMsMax: 0 };
    return await underPublishLock(repository, source, options, (held) => work(repository, input, held, context));
  });
}

df.app.activity('planPublish', {
  handler: step(async (repository, { run }: AnyInput, held, context): Promise<PlannedPublish | null> => {
    const plan = await planPublish(repository, run.source, held);
    if (plan) return { plan, groups: groupRoots(repository.settings.flushRootsPerActivity) };
    await held.release();
    tellPublish(context, run, { outcome: 'nothing' });
    return null;
  }),
});

df.app.activity('flushShards', {
  handler: step(async (repository, { run, plan, prefixes }: FlushInput, held) => {
    const report = await flushShards(repository, plan, prefixesOf(prefixes), held);
    tellFlushed(run.source, report.conflicts);
    return report;
  }),
});

df.app.activity('buildFiletrees', {
  handler: step((repository, { plan }: StepInput, held) => buildFiletrees(repository, plan, held)),
});

df.app.activity('commitSnapshot', {
  handler: step(async (repository, { run, plan, tree }: CommitInput, held, context) => {
    const { outcome, snapshot } = await commitSnapshot(repository, plan, tree, held);
    await held.release();
    tellPublish(context, run, { outcome, snapshot });
    return { outcome, snapshot: snapshot?.id };
  }),
});

df.app.activity('endPublish', {
  handler: answering(async ({ run, code }: { readonly run: Run; readonly code: string }, context) => {
    tellPublish(context, run, { outcome: outcomeOf(code), code });
    await endPublish(await repositoryOf(context), run.source, run.leaseId);
  }),
});

interface Call {
  readonly activity: string;
  readonly input: object;
}

class StepFailure extends Error {
  readonly code: string;

  constructor(code: string, reason: string) {
    super(`${code}: ${reason}`);
    this.code = code;
  }
}

type Steps<T> = Generator<df.Task, T, unknown>;

/** Runs calls in parallel until all have succeeded; tries again only those that failed. Throws the last failure. */
function* runAll(context: OrchestrationContext, calls: readonly Call[]): Steps<unknown[]> {
  const values: unknown[] = new Array(calls.length);
  let open = calls.map((call, at) => ({ ...call, at }));
  for (let tries = 1; ; tries += 1) {
    const tasks = open.map(({ activity, input }) => context.df.callActivity(activity, { ...input, tries }));
    const answers = (yield context.df.Task.all(tasks)) as Answer<unknown>[];
    const failures = answers.filter((answer) => !answer.ok);
    answers.forEach((answer, n) => {
      const at = open[n]?.at;
      if (answer.ok && at !== undefined) values[at] = answer.value;
    });
    open = open.filter((_, n) => answers[n]?.ok !== true);
    // A step that finds a receipt damaged removes the plan, and the steps beside it then miss the plan: that is no cause.
    const first = failures.find(({ code }) => code !== 'FIRN_PUBLISH_CONFLICT') ?? failures[0];
    if (first === undefined) return values;
    if (tries === TRIES_MAX || failures.some(({ retryable }) => !retryable)) {
      throw new StepFailure(first.code, first.reason);
    }
    const next = new Date(context.df.currentUtcDateTime.getTime() + RETRY_AFTER_MS * 2 ** (tries - 1));
    yield context.df.createTimer(next);
  }
}

function* publishSteps(context: OrchestrationContext, run: Run): Steps<unknown> {
  const [planned] = (yield* runAll(context, [{ activity: 'planPublish', input: { run } }])) as [PlannedPublish | null];
  if (planned === null) return { outcome: 'nothing' };
  const { plan, groups } = planned;
  const [tree] = yield* runAll(context, [
    { activity: 'buildFiletrees', input: { run, plan } },
    ...groups.map((prefixes) => ({ activity: 'flushShards', input: { run, plan, prefixes } })),
  ]);
  const [committed] = yield* runAll(context, [{ activity: 'commitSnapshot', input: { run, plan, tree } }]);
  return committed;
}

function* publish(context: OrchestrationContext, source: string): Steps<unknown> {
  const { instanceId } = context.df;
  // The same in every replay of this execution, and another in the next of the same instance.
  const execution = context.df.newGuid(instanceId);
  const run: Run = {
    id: runIdFor(execution),
    source,
    startedAt: context.df.currentUtcDateTime.toISOString(),
    leaseId: leaseIdFor(`${instanceId} ${execution}`),
  };
  try {
    return yield* publishSteps(context, run);
  } catch (error) {
    // All activities have ended then. What this one answers changes nothing: the lease ends by itself.
    if (error instanceof StepFailure) yield context.df.callActivity('endPublish', { run, code: error.code });
    throw error;
  }
}

df.app.orchestration(PUBLISH_ORCHESTRATOR, function* (context): Steps<unknown> {
  try {
    return yield* publish(context, String(context.df.getInput()));
  } catch (error) {
    if (error instanceof StepFailure) {
      const outcome = outcomeOf(error.code);
      if (outcome === 'superseded') return { outcome };
      if (outcome === 'waiting') return { outcome, reason: error.message };
    }
    const source = String(context.df.getInput());
    logFailure(context, new FirnError('FIRN_PUBLISH_FAILED', { source, problem: problemOf(error) }));
    throw error;
  }
});
