/** A collector of OTLP over HTTP on 127.0.0.1: keeps what it is sent, as it came and decoded. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

type Value = { stringValue?: string; intValue?: number; doubleValue?: number; boolValue?: boolean };
type Attributes = { key: string; value: Value }[];
type Point = { attributes: Attributes; asInt?: number; asDouble?: number; count?: number; sum?: number };
type Metric = { name: string; unit: string; sum?: Points; gauge?: Points; histogram?: Points };
type Points = { dataPoints: Point[] };
type Span = {
  traceId: string;
  name: string;
  attributes: Attributes;
  status: { code: number; message?: string };
};
type Body = {
  resourceMetrics?: { scopeMetrics: { metrics: Metric[] }[] }[];
  resourceSpans?: { scopeSpans: { spans: Span[] }[] }[];
};

export interface Measured {
  readonly name: string;
  readonly unit: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  /** Of a histogram, the number of its measurements. */
  readonly value: number;
}

export interface Collected {
  readonly name: string;
  readonly trace: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly failed: boolean;
}

export interface Collector extends AsyncDisposable {
  readonly url: string;
  /** Paths that were asked for. */
  readonly paths: ReadonlySet<string>;
  /** Everything that came, in one text. */
  raw(): string;
  /** The last state of every series. */
  metrics(): Measured[];
  spans(): Collected[];
}

export async function startCollector(): Promise<Collector> {
  const bodies: string[] = [];
  const paths = new Set<string>();
  const server = createServer((request, response) => {
    paths.add(request.url ?? '');
    void buffer(request).then((body) => {
      bodies.push(JSON.stringify(request.headers) + body.toString(), body.toString());
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const decoded = () => bodies.filter((_, at) => at % 2 === 1).map((body) => JSON.parse(body) as Body);
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    paths,
    raw: () => bodies.join('\n'),
    metrics() {
      const series = new Map<string, Measured>();
      const all = decoded().flatMap(({ resourceMetrics = [] }) => resourceMetrics.flatMap((each) => each.scopeMetrics));
      for (const { name, unit, sum, gauge, histogram } of all.flatMap(({ metrics }) => metrics)) {
        for (const point of (sum ?? gauge ?? histogram)?.dataPoints ?? []) {
          const attributes = recordOf(point.attributes);
          const value = Number(point.asInt ?? point.asDouble ?? point.count);
          series.set(`${name} ${JSON.stringify(attributes)}`, { name, unit, attributes, value });
        }
      }
      return [...series.values()];
    },
    spans() {
      const all = decoded().flatMap(({ resourceSpans = [] }) => resourceSpans.flatMap((each) => each.scopeSpans));
      return all
        .flatMap(({ spans }) => spans)
        .map(({ name, traceId, attributes, status }) => ({
          name,
          trace: traceId,
          attributes: recordOf(attributes),
          failed: status.code === 2,
        }));
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function recordOf(attributes: Attributes): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
}
