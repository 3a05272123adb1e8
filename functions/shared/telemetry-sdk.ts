/**
 * The OpenTelemetry SDK: metrics and spans over OTLP/HTTP (JSON). The exporters read their own settings,
 * OTEL_EXPORTER_OTLP_ENDPOINT, …_HEADERS and …_TIMEOUT; here are the few others. Only `telemetry.ts` imports this, when it
 * is needed. What is not exported when the process ends abruptly is lost.
 */
import { randomUUID } from 'node:crypto';
import { metrics, trace } from '@opentelemetry/api';
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { defaultResource, detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';

export interface Telemetry {
  /** Sends what is left. */
  shutdown(): Promise<void>;
}

const METRIC_INTERVAL_MS = 60_000;

/** Registers the SDK for the process. @param env OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are read as well. */
export function startTelemetry(env: Readonly<Record<string, string | undefined>>): Telemetry {
  const resource = defaultResource()
    .merge(
      resourceFromAttributes({
        'service.name': env.WEBSITE_SITE_NAME || 'firn',
        'service.instance.id': env.WEBSITE_INSTANCE_ID || randomUUID(),
      }),
    )
    .merge(detectResources({ detectors: [envDetector] }));
  const exportIntervalMillis = Number(env.OTEL_METRIC_EXPORT_INTERVAL) || METRIC_INTERVAL_MS;
  const meters = new MeterProvider({
    resource,
    readers: [new PeriodicExportingMetricReader({ exporter: new OTLPMetricExporter(), exportIntervalMillis })],
  });
  const tracers = new TracerProvider({
    resource,
    spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter() })],
  });
  metrics.setGlobalMeterProvider(meters);
  trace.setGlobalTracerProvider(tracers);
  return {
    async shutdown() {
      await Promise.allSettled([tracers.shutdown(), meters.shutdown()]);
    },
  };
}
