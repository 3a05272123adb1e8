/** What the functions send to an OTLP collector and write to their log, through the real local host. */
import { expect, test } from 'vitest';
import { startCollector } from '../kit/collector.ts';
import { until } from '../kit/until.ts';
import { startHosted } from './hosted.ts';

const SOURCE = 'photos';
/** Neither a word of Firn nor of OpenTelemetry. */
const SECRET = 'zanzibar';

test('an upload that becomes a snapshot is told in metrics, in one trace and in the log, and nothing tells its name', async () => {
  await using collector = await startCollector();
  const hosted = await startHosted({
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    FIRN_SNAPSHOT_CHECK_SCHEDULE: '* * * * * *',
  });
  const before = Date.now();
  try {
    await hosted.put(`${SOURCE}/${SECRET}-1.txt`, `${SECRET} ${SECRET}`);
    await hosted.put(`${SOURCE}/${SECRET}-2.txt`, `${SECRET} ${SECRET}`);
    await hosted.recorded(SOURCE, 2);
    await hosted.publish(SOURCE);
    const snapshot = await hosted.published(SOURCE, undefined);
    const line = await until('the publish is logged', () =>
      eventsIn(hosted.logs, 'firn.publish').find(({ outcome }) => outcome === 'published'),
    );
    await until('the age is logged', () => eventsIn(hosted.logs, 'firn.snapshot')[0]);
    await hosted.stack.stop();
    const seconds = (Date.now() - before) / 1000;

    expect(collector.paths).toEqual(new Set(['/v1/metrics', '/v1/traces']));
    const metrics = collector.metrics().filter(({ attributes }) => attributes.source === SOURCE);
    const totalOf = (name: string, attributes = {}) => {
      const found = metrics.filter((each) => each.name === name);
      for (const each of found) expect(each.attributes).toMatchObject(attributes);
      return found.reduce((sum, { value }) => sum + value, 0);
    };
    const { bytes } = snapshot.totals;
    expect(bytes).toBe(2 * `${SECRET} ${SECRET}`.length);
    expect(totalOf('firn.uploads')).toBeGreaterThanOrEqual(2);
    expect(totalOf('firn.batches.sealed')).toBe(1);
    expect(totalOf('firn.batches', { outcome: 'archived' })).toBe(1);
    expect(totalOf('firn.files')).toBe(2);
    expect(totalOf('firn.bytes.in')).toBe(bytes);
    expect(totalOf('firn.chunks.new')).toBe(snapshot.stored.newChunks);
    expect(totalOf('firn.chunks.known')).toBe(1);
    expect(totalOf('firn.bytes.new')).toBe(bytes / 2);
    expect(totalOf('firn.bytes.stored')).toBe(snapshot.stored.storedBytes);
    expect(metrics.filter(({ name }) => name === 'firn.publishes')).toContainEqual(
      expect.objectContaining({ attributes: { source: SOURCE, outcome: 'published' }, value: 1 }),
    );
    expect(metrics.filter(({ name }) => name === 'firn.publish.duration')).toContainEqual(
      expect.objectContaining({ attributes: { source: SOURCE, outcome: 'published' }, value: 1, unit: 's' }),
    );
    const age = metrics.find(({ name }) => name === 'firn.snapshot.age')?.value;
    expect(age).toBeGreaterThan(0);
    expect(age).toBeLessThan(seconds);

    const spans = collector.spans();
    const committed = spans.find(({ name }) => name === 'commitSnapshot');
    expect(committed).toMatchObject({
      failed: false,
      trace: line.run,
      attributes: { 'firn.source': SOURCE, 'firn.run': line.run, 'firn.snapshot': snapshot.id },
    });
    const steps = spans.filter(({ trace }) => trace === line.run).map(({ name }) => name);
    expect(new Set(steps)).toEqual(new Set(['planPublish', 'buildFiletrees', 'flushShards', 'commitSnapshot']));
    const [batch] = snapshot.batches;
    expect(spans.find(({ name }) => name === 'archiveBatch')?.attributes).toMatchObject({
      'firn.source': SOURCE,
      'firn.batch': batch?.batch,
    });

    expect(line).toMatchObject({
      source: SOURCE,
      outcome: 'published',
      snapshot: snapshot.id,
      batches: [batch?.batch],
    });
    expect(eventsIn(hosted.logs, 'firn.batch')).toContainEqual(
      expect.objectContaining({ source: SOURCE, batch: batch?.batch, files: 2, knownChunks: 1 }),
    );
    expect(collector.raw()).not.toContain(SECRET);
    expect(hosted.logs.join('\n')).not.toContain(SECRET);
    expect(collector.raw()).not.toContain(hosted.stack.environment.FIRN_PASSPHRASE);
  } finally {
    await hosted[Symbol.asyncDispose]();
  }
});

/** The JSON objects of the lines of an event. */
function eventsIn(logs: readonly string[], event: string): Record<string, unknown>[] {
  return logs
    .filter((line) => line.includes(`{"event":"${event}"`))
    .map((line) => JSON.parse(line.slice(line.indexOf('{"event"'))) as Record<string, unknown>);
}
