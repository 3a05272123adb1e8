/**
 * Sends metrics and traces to the OTLP endpoint that OTEL_EXPORTER_OTLP_ENDPOINT names. Without that setting it hooks on to
 * nothing and loads no SDK. With it, the SDK is loaded at the first invocation, not when the app is: cold start stays what
 * it was. Telemetry that cannot be set up or sent never fails an invocation.
 */
import { app, type PreInvocationContext } from '@azure/functions';
import { problemOf } from '../../src/errors.ts';
import { runOf } from './events.ts';
import { inSpan } from './spans.ts';
import type { Telemetry } from './telemetry-sdk.ts';

/** A collector that does not answer must not hold up the end of the process. */
const SHUTDOWN_MS_MAX = 5_000;

let started: Promise<Telemetry | undefined> | undefined;

async function start(context: PreInvocationContext): Promise<Telemetry | undefined> {
  try {
    const { startTelemetry } = await import('./telemetry-sdk.ts');
    return startTelemetry(process.env);
  } catch (error) {
    context.invocationContext.warn(`Telemetry is not sent: ${problemOf(error)}`);
    return undefined;
  }
}

if (process.env.OTEL_EXPORTER_OTLP_ENDPOINT) {
  app.hook.preInvocation(async (hook) => {
    started ??= start(hook);
    await started;
    const context = hook.invocationContext;
    // An orchestrator is replayed from its beginning after each of its steps; the steps are what took time.
    if (context.options.trigger.type === 'orchestrationTrigger') return;
    const handler = hook.functionHandler;
    const run = runOf(hook.inputs[0]);
    hook.functionHandler = (...inputs) => inSpan(context, run, async () => await handler(...inputs));
  });

  app.hook.appTerminate(async () => {
    const late = new Promise<void>((resolve) => setTimeout(resolve, SHUTDOWN_MS_MAX).unref());
    await Promise.race([(await started)?.shutdown(), late]);
  });
}
