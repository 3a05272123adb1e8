/**
 * The repair of the chunk index as a durable orchestration. On its timer it looks first and repairs only what drifted,
 * or finishes a repair that died; asked for over HTTP it repairs. One at a time, by its instance id. What it found and did
 * is its output.
 */
import { app } from '@azure/functions';
import type { OrchestrationContext } from 'durable-functions';
import * as df from 'durable-functions';
import { FirnError, problemOf } from '../src/errors.ts';
import type { RepairReport } from '../src/index/repair.ts';
import { findRepairNeed, isRoot, type RepairNeed, runRepair } from '../src/index/repair-run.ts';
import { type Answer, answeringExcept } from './shared/answering.ts';
import { appSettings, repositoryOf } from './shared/application.ts';
import { logFailure, tellLockWait, tellRepair } from './shared/events.ts';
import { startSingle } from './shared/publishing.ts';

const REPAIR_ORCHESTRATOR = 'repairChunkIndex';
const REPAIR_INSTANCE = 'repair-chunk-index';
const TRIES_MAX = 6;
/** A repair that died keeps its lock for half a minute. */
const RETRY_AFTER_MS = 15_000;

/** `check`: look first. `roots`: these, or all where null. */
type RepairRequest = { readonly check: true } | { readonly roots: readonly string[] | null };

/** A repair that covers more has to be run instead; waiting does not help. */
const answering = answeringExcept(['FIRN_REPAIR_UNFINISHED']);

df.app.activity('findRepairNeed', {
  handler: answering(async (_: unknown, context): Promise<RepairNeed> => {
    const need = await findRepairNeed(await repositoryOf(context));
    context.info(`${need.checked} roots of the chunk index checked, ${need.drifted.length} drifted`);
    return need;
  }),
});

df.app.activity('repairRoots', {
  handler: answering(async ({ roots }: { roots: readonly string[] | null }, context): Promise<RepairReport> => {
    const onWait = (busy: FirnError) => tellLockWait(context, busy);
    const report = await runRepair(await repositoryOf(context), { roots: roots ?? undefined, onWait });
    const { entries, shardsWritten, shardsRemoved, quarantinedCount } = report;
    const counts = `${report.roots} roots, ${entries} entries, ${shardsWritten} shards written, ${shardsRemoved} removed`;
    tellRepair(context, `chunk index repaired: ${counts}, ${quarantinedCount} blobs set aside`, report);
    for (const { blob, reason } of report.quarantined) context.warn(`${blob} was set aside: ${reason}`);
    return report;
  }),
});

type Steps<T> = Generator<df.Task, T, unknown>;

function* call<T>(context: OrchestrationContext, activity: string, input: unknown): Steps<T> {
  for (let tries = 1; ; tries += 1) {
    const answer = (yield context.df.callActivity(activity, input)) as Answer<T>;
    if (answer.ok) return answer.value;
    if (tries === TRIES_MAX || !answer.retryable) throw new Error(`${answer.code}: ${answer.reason}`);
    const next = new Date(context.df.currentUtcDateTime.getTime() + RETRY_AFTER_MS * 2 ** (tries - 1));
    yield context.df.createTimer(next);
  }
}

function* repair(context: OrchestrationContext, request: RepairRequest): Steps<unknown> {
  if ('roots' in request) return { repaired: yield* call<RepairReport>(context, 'repairRoots', request) };
  const need = yield* call<RepairNeed>(context, 'findRepairNeed', {});
  const { checked, drifted, unfinished } = need;
  if (unfinished === undefined && drifted.length === 0) return { checked, drifted, repaired: null };
  const roots = unfinished === undefined ? drifted.map(({ root }) => root) : unfinished.roots;
  const repaired = yield* call<RepairReport>(context, 'repairRoots', { roots });
  return { checked, drifted, finished: unfinished !== undefined, repaired };
}

df.app.orchestration(REPAIR_ORCHESTRATOR, function* (context): Steps<unknown> {
  try {
    return yield* repair(context, context.df.getInput() as RepairRequest);
  } catch (error) {
    logFailure(context, new FirnError('FIRN_REPAIR_FAILED', { problem: problemOf(error) }));
    throw error;
  }
});

app.timer('checkChunkIndex', {
  schedule: appSettings.repairSchedule,
  extraInputs: [df.input.durableClient()],
  handler: async (_timer, context) => {
    await startSingle(context, REPAIR_ORCHESTRATOR, REPAIR_INSTANCE, { check: true } satisfies RepairRequest);
  },
});

/** `POST /api/repair-index`, or with `?root=a` of one root only. */
app.http('requestRepair', {
  methods: ['POST'],
  route: 'repair-index',
  authLevel: 'function',
  extraInputs: [df.input.durableClient()],
  handler: async (request, context) => {
    const root = request.query.get('root');
    if (root !== null && !isRoot(root)) {
      const problem = 'A root of the chunk index is one hex digit.';
      return { status: 400, jsonBody: new FirnError('FIRN_USAGE', { problem }).toJSON() };
    }
    const input: RepairRequest = { roots: root === null ? null : [root] };
    const started = await startSingle(context, REPAIR_ORCHESTRATOR, REPAIR_INSTANCE, input);
    return { status: 202, jsonBody: { instance: REPAIR_INSTANCE, started } };
  },
});
