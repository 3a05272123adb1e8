/**
 * What the functions say, in one form: a sentence for people, then one JSON object for queries, with an `event` and fields
 * of which each has one meaning everywhere (`docs/operations.md` lists them; `infra/queries` uses them). It goes through the
 * invocation context, so the host adds function and invocation; the same fields become attributes of the span of the
 * invocation, and numbers are counted (`metrics.ts`).
 *
 * No field holds a path, the name of a file, or a message, which may hold one: sources, batches, snapshots, codes and
 * numbers only.
 */
import { createHash } from 'node:crypto';
import type { InvocationContext } from '@azure/functions';
import type { BatchOutcome } from '../../src/archive/archive-batch.ts';
import type { BatchReference } from '../../src/archive/batches.ts';
import type { FirnError } from '../../src/errors.ts';
import type { RepairReport } from '../../src/index/repair.ts';
import type { Snapshot } from '../../src/snapshots/snapshot.ts';
import { count, measurePublish, noteSnapshot } from './metrics.ts';
import { describeSpan, failSpan } from './spans.ts';

/** All fields there are. Batches are those of a snapshot. */
export interface Fields {
  /** Of one execution of a publish: the same in all its steps, and the id of its trace. 32 hex digits. */
  readonly run?: string | undefined;
  readonly source?: string | undefined;
  readonly batch?: string | undefined;
  readonly batches?: readonly string[] | undefined;
  readonly snapshot?: string | undefined;
  readonly step?: string | undefined;
  readonly code?: string | undefined;
  readonly outcome?: string | undefined;
  /** Whether trying again may help. */
  readonly retryable?: boolean | undefined;
  /** 1 for the first try or delivery. */
  readonly tries?: number | undefined;
  readonly seconds?: number | undefined;
  readonly ageSeconds?: number | undefined;
  readonly files?: number | undefined;
  readonly bytes?: number | undefined;
  readonly newChunks?: number | undefined;
  readonly knownChunks?: number | undefined;
  readonly newBytes?: number | undefined;
  readonly storedBytes?: number | undefined;
  readonly gone?: number | undefined;
  readonly skipped?: number | undefined;
  readonly added?: number | undefined;
  readonly changed?: number | undefined;
  readonly removed?: number | undefined;
  readonly roots?: number | undefined;
  readonly entries?: number | undefined;
}

export type EventName =
  | 'firn.batch-queued'
  | 'firn.batch'
  | 'firn.publish'
  | 'firn.snapshot'
  | 'firn.repair'
  | 'firn.step-failed'
  | 'firn.failure';

/** What all steps of one execution of a publish share. */
export interface RunInfo {
  readonly id: string;
  readonly source: string;
  /** RFC 3339. */
  readonly startedAt: string;
}

/** Follows from what is the same in every replay of an execution. */
export function runIdFor(text: string): string {
  return createHash('sha256').update(`firn run ${text}`).digest('hex').slice(0, 32);
}

/** The run that an activity of a publish is given with its input. */
export function runOf(input: unknown): RunInfo | undefined {
  const run = typeof input === 'object' && input !== null && 'run' in input ? input.run : undefined;
  const isRun = typeof run === 'object' && run !== null && 'id' in run && 'source' in run && 'startedAt' in run;
  return isRun ? (run as RunInfo) : undefined;
}

function line(text: string, event: EventName, fields: Fields): string {
  return `${text} ${JSON.stringify({ event, ...fields })}`;
}

function say(context: InvocationContext, text: string, event: EventName, fields: Fields): void {
  context.info(line(text, event, fields));
  describeSpan(context, fields);
}

export function tellRecorded(context: InvocationContext, source: string, sealed: readonly BatchReference[]): void {
  count('firn.uploads', 1, { source });
  describeSpan(context, { source });
  tellQueued(context, sealed);
}

export function tellQueued(context: InvocationContext, batches: readonly BatchReference[]): void {
  for (const { source, batch } of batches) {
    count('firn.batches.sealed', 1, { source });
    context.info(line(`batch ${source}/${batch} queued`, 'firn.batch-queued', { source, batch }));
  }
}

export function tellBatch(
  context: InvocationContext,
  { source, batch }: BatchReference,
  result: BatchOutcome,
  { tries, seconds }: { readonly tries: number; readonly seconds: number },
): void {
  const { outcome } = result;
  const text = `batch ${source}/${batch}: ${outcome}`;
  count('firn.batches', 1, { source, outcome });
  if (outcome !== 'archived') {
    say(context, text, 'firn.batch', { source, batch, outcome, tries, seconds });
    return;
  }
  const { totals, skipped } = result.receipt;
  const { files, bytes, newChunks, knownChunks, newBytes, storedBytes, gone } = totals;
  count('firn.files', files, { source });
  count('firn.bytes.in', bytes, { source });
  count('firn.bytes.new', newBytes, { source });
  count('firn.bytes.stored', storedBytes, { source });
  count('firn.chunks.new', newChunks, { source });
  count('firn.chunks.known', knownChunks, { source });
  const stored = { files, bytes, newChunks, knownChunks, newBytes, storedBytes, gone, skipped: skipped.count };
  say(context, text, 'firn.batch', { source, batch, outcome, tries, seconds, ...stored });
}

/** A delivery or step that comes again. */
export function tellTry(step: string, source: string, tries: number): void {
  if (tries > 1) count('firn.retries', 1, { step, source });
}

/** How a publish ended. `snapshot` is the one that was written, or the latest when nothing differs from it. */
export function tellPublish(
  context: InvocationContext,
  run: RunInfo,
  end: { readonly outcome: string; readonly code?: string; readonly snapshot?: Snapshot | undefined },
): void {
  const { source, id } = run;
  const { outcome, code, snapshot } = end;
  const seconds = (Date.now() - Date.parse(run.startedAt)) / 1000;
  count('firn.publishes', 1, { source, outcome, ...(code !== undefined && { code }) });
  measurePublish(seconds, { source, outcome });
  if (code === 'FIRN_PUBLISH_CONFLICT') count('firn.conflicts', 1, { source, kind: 'publish' });
  const written = outcome === 'published' ? snapshot : undefined;
  say(context, `publish of ${source}: ${outcome}`, 'firn.publish', {
    run: id,
    source,
    outcome,
    code,
    seconds,
    snapshot: snapshot?.id,
    batches: written?.batches.map(({ batch }) => batch),
    ...written?.totals,
    ...written?.changes,
    ...written?.stored,
  });
  if (snapshot) noteSnapshot(source, snapshot.time);
}

export function tellFlushed(source: string, conflicts: number): void {
  if (conflicts > 0) count('firn.conflicts', conflicts, { source, kind: 'shard' });
}

export function tellLatest(context: InvocationContext, { source, id, time }: Snapshot): void {
  noteSnapshot(source, time);
  const ageSeconds = (Date.now() - Date.parse(time)) / 1000;
  const text = `the latest snapshot of ${source} is ${id}`;
  context.info(line(text, 'firn.snapshot', { source, snapshot: id, ageSeconds }));
}

export function tellRepair(context: InvocationContext, text: string, report: RepairReport): void {
  const { roots, entries } = report;
  say(context, text, 'firn.repair', { roots, entries });
}

/** Waits for a lock that another holds, and goes on. */
export function tellLockWait(context: InvocationContext, { code, message }: FirnError): void {
  count('firn.lock.waits', 1);
  context.warn(`${code}: ${message}`);
}

/** A step failed; whether that is a failure of the whole is not known here. `problem` is for people. */
export function tellStepFailed(
  context: InvocationContext,
  { code, problem, retryable, run }: { code: string; problem: string; retryable: boolean; run: RunInfo | undefined },
): void {
  const step = context.functionName;
  const source = run?.source;
  count('firn.failures', 1, { step, code, ...(source !== undefined && { source }) });
  if (code === 'FIRN_LOCK_BUSY') count('firn.lock.waits', 1, source === undefined ? {} : { source });
  context.warn(line(`${code}: ${problem}`, 'firn.step-failed', { run: run?.id, source, step, code, retryable }));
  failSpan(context, code);
}

/** Alerts look for the code (`infra/modules/alerts.bicep`). */
export function logFailure(context: InvocationContext, error: FirnError): void {
  const { code, message, advice, details } = error;
  const text = (name: string) => (typeof details[name] === 'string' ? details[name] : undefined);
  const fields = { source: text('source'), batch: text('batch'), code };
  if (code === 'FIRN_BATCH_FAILED') count('firn.poison', 1, { source: fields.source ?? '' });
  context.error(line(`${code}: ${message} ${advice}`, 'firn.failure', fields));
  failSpan(context, code);
}
