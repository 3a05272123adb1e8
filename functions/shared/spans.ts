/**
 * One span for each invocation, kept beside its context: what the invocation is about becomes attributes of the span.
 * Uses the OpenTelemetry API only. A failure is told by its code; an error's message may hold the name of a file.
 */
import type { InvocationContext } from '@azure/functions';
import {
  type Attributes,
  type Link,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  trace,
} from '@opentelemetry/api';
import { isFirnError } from '../../src/errors.ts';

const spans = new WeakMap<InvocationContext, Span>();

/** Fields of an event as attributes `firn.…`; those that are absent are left out. */
export function describeSpan(context: InvocationContext, fields: object): void {
  const named = Object.entries(fields).flatMap(([name, value]) =>
    value === undefined ? [] : [[`firn.${name}`, value]],
  );
  spans.get(context)?.setAttributes(Object.fromEntries(named) as Attributes);
}

export function failSpan(context: InvocationContext, code: string): void {
  spans.get(context)?.setAttribute('firn.code', code).setStatus({ code: SpanStatusCode.ERROR, message: code });
}

/**
 * Runs an invocation in a span.
 * @param run of the publish that it is a step of: its steps share the trace of that id, whatever hosts run them. Other
 * invocations go on with the trace that the host gives, or begin one.
 */
export async function inSpan<T>(
  context: InvocationContext,
  run: { readonly id: string; readonly source: string } | undefined,
  work: () => Promise<T>,
): Promise<T> {
  const ofHost = parseTraceParent(context.traceContext?.traceParent);
  const parent = run === undefined ? ofHost : spanContextOf(run.id, run.id.slice(0, 16));
  const links: Link[] = run === undefined || ofHost === undefined ? [] : [{ context: ofHost }];
  const span = trace
    .getTracer('firn')
    .startSpan(
      context.functionName,
      { kind: SpanKind.CONSUMER, links, attributes: { 'faas.invocation_id': context.invocationId } },
      parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent),
    );
  spans.set(context, span);
  if (run !== undefined) describeSpan(context, { run: run.id, source: run.source });
  try {
    return await work();
  } catch (error) {
    failSpan(context, isFirnError(error) ? error.code : 'FIRN_INTERNAL');
    throw error;
  } finally {
    span.end();
  }
}

function spanContextOf(traceId: string, spanId: string, traceFlags = TraceFlags.SAMPLED): SpanContext {
  return { traceId, spanId, traceFlags, isRemote: true };
}

/** W3C Trace Context, `00-<trace>-<span>-<flags>`. Exported for its test. */
export function parseTraceParent(text: string | null | undefined): SpanContext | undefined {
  const [, traceId, spanId, flags] = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(text ?? '') ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined;
  return spanContextOf(traceId, spanId, Number.parseInt(flags, 16) & TraceFlags.SAMPLED);
}
