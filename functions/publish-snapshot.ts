/**
 * The publish of one source as a durable orchestration: plan, then all shard flushes and the filetrees in parallel, then,
 * only when every one of them succeeded, the snapshot. Activities answer instead of failing, so that all of them have
 * ended when the orchestrator decides; what failed and may pass is tried again, alone, a few times. When it does not,
 * the orchestration fails, no snapshot is written, and the receipts wait for the next publish.
 */

import type { OrchestrationContext } from 'durable-functions';
import * as df from 'durable-functions';
import { FirnError, problemOf } from '../src/errors.ts';
import { groupRoots, type PlanReference, planPublish, type RootRange } from '../src/publish/plan.ts';
import { type BuiltTree, buildFiletrees, commitSnapshot, flushShards } from '../src/publish/steps.ts';
import { type Answer, answeringExcept } from './shared/answering.ts';
import { appSettings, logFailure, repositoryOf } from './shared/application.ts';
import { PUBLISH_ORCHESTRATOR } from './shared/publishing.ts';

const TRIES_MAX = 4;
const RETRY_AFTER_MS = appSettings.publishRetrySeconds * 1000;

/** The plan is gone then; only a new plan helps. */
const answering = answeringExcept(['FIRN_PUBLISH_CONFLICT', 'FIRN_RECEIPT_DAMAGED']);

interface PlannedPublish {
  readonly plan: PlanReference;
  readonly groups: readonly RootRange[];
}

interface FlushInput extends RootRange {
  readonly plan: PlanReference;
}

interface CommitInput {
  readonly plan: PlanReference;
  readonly tree: BuiltTree;
}

df.app.activity('planPublish', {
  handler: answering(async (source: string, context): Promise<PlannedPublish | null> => {
    const repository = await repositoryOf(context);
    const plan = await planPublish(repository, source);
    return plan ? { plan, groups: groupRoots(repository.settings.flushRootsPerActivity) } : null;
  }),
});

df.app.activity('flushShards', {
  handler: answering(async ({ plan, from, to }: FlushInput, context) =>
    flushShards(await repositoryOf(context), plan, { from, to }),
  ),
});

df.app.activity('buildFiletrees', {
  handler: answering(async ({ plan }: { plan: PlanReference }, context) =>
    buildFiletrees(await repositoryOf(context), plan),
  ),
});

df.app.activity('commitSnapshot', {
  handler: answering(async ({ plan, tree }: CommitInput, context) => {
    const { outcome, snapshot } = await commitSnapshot(await repositoryOf(context), plan, tree);
    return { outcome, snapshot: snapshot?.id };
  }),
});

interface Call {
  readonly activity: string;
  readonly input: unknown;
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
    const tasks = open.map(({ activity, input }) => context.df.callActivity(activity, input));
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

function* publish(context: OrchestrationContext, source: unknown): Steps<unknown> {
  const [planned] = (yield* runAll(context, [{ activity: 'planPublish', input: source }])) as [PlannedPublish | null];
  if (planned === null) return { outcome: 'nothing' };
  const { plan, groups } = planned;
  const [tree] = yield* runAll(context, [
    { activity: 'buildFiletrees', input: { plan } },
    ...groups.map((range) => ({ activity: 'flushShards', input: { plan, ...range } })),
  ]);
  const [committed] = yield* runAll(context, [{ activity: 'commitSnapshot', input: { plan, tree } }]);
  return committed;
}

df.app.orchestration(PUBLISH_ORCHESTRATOR, function* (context): Steps<unknown> {
  try {
    return yield* publish(context, context.df.getInput());
  } catch (error) {
    // Another publisher carried out the plan: the snapshot is there.
    if (error instanceof StepFailure && error.code === 'FIRN_PUBLISH_CONFLICT') return { outcome: 'superseded' };
    const source = String(context.df.getInput());
    logFailure(context, new FirnError('FIRN_PUBLISH_FAILED', { source, problem: problemOf(error) }));
    throw error;
  }
});
