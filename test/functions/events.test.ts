import { InvocationContext } from '@azure/functions';
import { metrics } from '@opentelemetry/api';
import { MeterProvider, MetricReader } from '@opentelemetry/sdk-metrics';
import { beforeAll, expect, test } from 'vitest';
import {
  logFailure,
  runIdFor,
  runOf,
  tellFlushed,
  tellLockWait,
  tellPublish,
  tellStepFailed,
  tellTry,
} from '../../functions/shared/events.ts';
import { FirnError } from '../../src/errors.ts';

/** Is asked, never sends. */
class AskedReader extends MetricReader {
  protected override async onForceFlush(): Promise<void> {}
  protected override async onShutdown(): Promise<void> {}
}

const reader = new AskedReader();
beforeAll(() => {
  metrics.setGlobalMeterProvider(new MeterProvider({ readers: [reader] }));
});

/** `<name> <attributes>` → value; of a histogram the number of its measurements. */
async function measured(): Promise<Record<string, number>> {
  const { resourceMetrics } = await reader.collect();
  const series = resourceMetrics.scopeMetrics.flatMap((scope) =>
    scope.metrics.flatMap(({ descriptor, dataPoints }) =>
      dataPoints.map(({ attributes, value }) => [
        `${descriptor.name} ${JSON.stringify(attributes)}`,
        typeof value === 'number' ? value : value.count,
      ]),
    ),
  );
  return Object.fromEntries(series);
}

function contextOf(functionName: string) {
  const lines: string[] = [];
  const context = new InvocationContext({
    functionName,
    logHandler: (level, ...args) => void lines.push(`${level} ${args.join(' ')}`),
  });
  return { context, lines };
}

const run = { id: runIdFor('one'), source: 'photos', startedAt: new Date().toISOString() };

test('failures, retries, conflicts, waits and poison are counted by step, source and code', async () => {
  const { context, lines } = contextOf('flushShards');
  tellStepFailed(context, { code: 'FIRN_INDEX_CONTENDED', problem: 'contended', retryable: true, run });
  tellStepFailed(context, { code: 'FIRN_LOCK_BUSY', problem: 'busy', retryable: true, run });
  tellTry('flushShards', 'photos', 1);
  tellTry('flushShards', 'photos', 2);
  tellFlushed('photos', 3);
  tellFlushed('photos', 0);
  tellPublish(context, run, { outcome: 'superseded', code: 'FIRN_PUBLISH_CONFLICT' });
  tellLockWait(context, new FirnError('FIRN_LOCK_BUSY', { lock: 'publish-photos', owner: 'another' }));
  logFailure(context, new FirnError('FIRN_BATCH_FAILED', { source: 'photos', batch: 'b1', problem: 'no' }));
  expect(await measured()).toEqual({
    'firn.failures {"step":"flushShards","code":"FIRN_INDEX_CONTENDED","source":"photos"}': 1,
    'firn.failures {"step":"flushShards","code":"FIRN_LOCK_BUSY","source":"photos"}': 1,
    'firn.lock.waits {"source":"photos"}': 1,
    'firn.lock.waits {}': 1,
    'firn.retries {"step":"flushShards","source":"photos"}': 1,
    'firn.conflicts {"source":"photos","kind":"shard"}': 3,
    'firn.conflicts {"source":"photos","kind":"publish"}': 1,
    'firn.publishes {"source":"photos","outcome":"superseded","code":"FIRN_PUBLISH_CONFLICT"}': 1,
    'firn.publish.duration {"source":"photos","outcome":"superseded"}': 1,
    'firn.poison {"source":"photos"}': 1,
  });
  const failed = { event: 'firn.step-failed', run: run.id, source: 'photos', step: 'flushShards' };
  expect(lines[0]).toBe(
    `warning FIRN_INDEX_CONTENDED: contended ${JSON.stringify({ ...failed, code: 'FIRN_INDEX_CONTENDED', retryable: true })}`,
  );
});

test('the fields of a failure hold its source, batch and code, and none of the names in its message', () => {
  const { context, lines } = contextOf('recordUpload');
  logFailure(context, new FirnError('FIRN_PATH_UNUSABLE', { path: 'photos/zanzibar', problem: 'no' }));
  const [line = ''] = lines;
  expect(line).toContain('error FIRN_PATH_UNUSABLE: ');
  expect(line.slice(line.indexOf('{"event"'))).toBe('{"event":"firn.failure","code":"FIRN_PATH_UNUSABLE"}');
});

test('a run is 32 hex digits, the same for the same execution, and found in the input of an activity', () => {
  expect(run.id).toMatch(/^[0-9a-f]{32}$/);
  expect(runIdFor('one')).toBe(run.id);
  expect(runIdFor('two')).not.toBe(run.id);
  expect(runOf({ run, plan: {}, tries: 1 })).toEqual(run);
  for (const input of [undefined, null, 'photos', {}, { run: null }, { run: { id: run.id } }]) {
    expect(runOf(input)).toBeUndefined();
  }
});
