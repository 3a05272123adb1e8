/**
 * What Firn measures: every metric in one table, with its unit. It uses the OpenTelemetry API only, which does nothing
 * where no SDK is registered (`telemetry.ts` registers one).
 *
 * An instrument is made at its first use: one that was made before the SDK is registered would stay silent.
 */
import { type Attributes, type Counter, type Histogram, metrics } from '@opentelemetry/api';

/** Names, units and what is counted. Attributes are sources, outcomes, steps and error codes; never a path or a name. */
export const metricTable = {
  'firn.uploads': { unit: '{upload}', about: 'Events of uploads that were taken in' },
  'firn.batches.sealed': { unit: '{batch}', about: 'Batches named to the queue' },
  'firn.batches': { unit: '{batch}', about: 'Deliveries of batches that ended well, by outcome' },
  'firn.files': { unit: '{file}', about: 'Files and links archived' },
  'firn.bytes.in': { unit: 'By', about: 'Bytes of the files archived' },
  'firn.bytes.new': { unit: 'By', about: 'Bytes of the chunks that were new' },
  'firn.bytes.stored': { unit: 'By', about: 'Bytes that new chunks take on storage' },
  'firn.chunks.new': { unit: '{chunk}', about: 'Chunks stored' },
  'firn.chunks.known': { unit: '{chunk}', about: 'Times that a chunk was needed which was there already' },
  'firn.publishes': { unit: '{publish}', about: 'Publishes that ended, by outcome' },
  'firn.publish.duration': { unit: 's', about: 'From the start of a publish to its end, with its waits' },
  'firn.lock.waits': { unit: '{wait}', about: 'Times that a step met a lock held by another' },
  'firn.conflicts': { unit: '{conflict}', about: 'Writes that another writer won: of a shard, or of a whole publish' },
  'firn.failures': { unit: '{failure}', about: 'Steps and deliveries that failed, by error code' },
  'firn.retries': { unit: '{try}', about: 'Steps and deliveries that are not the first try' },
  'firn.poison': { unit: '{batch}', about: 'Batches that came to the poison queue' },
  'firn.snapshot.age': { unit: 's', about: 'Age of the latest snapshot that this instance knows of a source' },
} as const satisfies Record<string, { readonly unit: string; readonly about: string }>;

type DurationName = 'firn.publish.duration';
type AgeName = 'firn.snapshot.age';
export type CounterName = Exclude<keyof typeof metricTable, DurationName | AgeName>;

/** Seconds; from a publish that does nothing to one of a first snapshot. */
const DURATION_BOUNDARIES = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200];

const counters = new Map<CounterName, Counter>();
let durations: Histogram | undefined;
/** When the latest snapshot of each source was taken; undefined until a first one is known. */
let latest: Map<string, number> | undefined;

const meter = () => metrics.getMeter('firn');

function optionsOf(name: keyof typeof metricTable) {
  const { unit, about } = metricTable[name];
  return { unit, description: about };
}

export function count(name: CounterName, value: number, attributes: Attributes = {}): void {
  let counter = counters.get(name);
  if (counter === undefined) {
    counter = meter().createCounter(name, optionsOf(name));
    counters.set(name, counter);
  }
  counter.add(value, attributes);
}

export function measurePublish(seconds: number, attributes: Attributes): void {
  const name: DurationName = 'firn.publish.duration';
  const advice = { explicitBucketBoundaries: DURATION_BOUNDARIES };
  durations ??= meter().createHistogram(name, { ...optionsOf(name), advice });
  durations.record(seconds, attributes);
}

/**
 * From now on the age of this snapshot is reported, until a younger one of the source is known. Of several instances the
 * one that reports the smallest age knows the latest.
 * @param time RFC 3339.
 */
export function noteSnapshot(source: string, time: string): void {
  if (latest === undefined) {
    const known = new Map<string, number>();
    const name: AgeName = 'firn.snapshot.age';
    meter()
      .createObservableGauge(name, optionsOf(name))
      .addCallback((gauge) => {
        for (const [each, takenAt] of known) gauge.observe((Date.now() - takenAt) / 1000, { source: each });
      });
    latest = known;
  }
  latest.set(source, Math.max(Date.parse(time), latest.get(source) ?? Number.NEGATIVE_INFINITY));
}
