import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { parseTraceParent } from '../../functions/shared/spans.ts';

const script = fileURLToPath(new URL('./loaded-telemetry.ts', import.meta.url));

async function loadedWith(environment: Record<string, string>): Promise<{ hooks: number; loaded: string[] }> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(OTEL_|FIRN_|APPLICATIONINSIGHTS_)/.test(name));
  const env = { ...Object.fromEntries(inherited), FIRN_STORAGE: 'UseDevelopmentStorage=true', ...environment };
  const { stdout } = await promisify(execFile)(process.execPath, [script], { env });
  return JSON.parse(stdout) as { hooks: number; loaded: string[] };
}

describe('loading the functions', () => {
  test.each<[string, Record<string, string>, number]>([
    ['without a setting, hooks on to no invocation', {}, 0],
    [
      'with Application Insights, hooks on to none either',
      { APPLICATIONINSIGHTS_CONNECTION_STRING: 'InstrumentationKey=0' },
      0,
    ],
    ['with an OTLP endpoint, hooks on to invocations', { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' }, 1],
  ])('%s, and loads nothing of the SDK of OpenTelemetry', async (_, environment, hooks) => {
    expect(await loadedWith(environment)).toEqual({ hooks, loaded: ['@opentelemetry/api'] });
  });
});

test('the trace that the host gives is read, and what is no W3C trace context is none', () => {
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const spanId = 'b7ad6b7169203331';
  const context = { traceId, spanId, isRemote: true };
  expect(parseTraceParent(`00-${traceId}-${spanId}-01`)).toEqual({ ...context, traceFlags: 1 });
  expect(parseTraceParent(`00-${traceId}-${spanId}-00`)).toEqual({ ...context, traceFlags: 0 });
  for (const text of [
    undefined,
    null,
    '',
    `00-${traceId}-${spanId}`,
    `ff-${traceId}-${spanId}-01`,
    `00-${spanId}-01`,
  ]) {
    expect(parseTraceParent(text)).toBeUndefined();
  }
});
