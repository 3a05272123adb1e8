/**
 * The shapes in which a Functions host and its Node worker exchange data: what `@azure/functions` expects from the
 * module `@azure/functions-core`. That module exists only inside the real worker and has no package, so its shapes are
 * written down here, as far as the local host uses them.
 */

/** One value on its way in or out; exactly one of the fields is set. */
export interface RpcTypedData {
  /** Parsed as JSON by the library where it can be. */
  readonly string?: string;
  readonly json?: string;
  readonly bytes?: Uint8Array;
  readonly int?: number;
  readonly double?: number;
  readonly http?: RpcHttpData;
  readonly modelBindingData?: ModelBindingData;
}

/** A reference that the app resolves with a factory of `ResourceFactoryResolver`. */
export interface ModelBindingData {
  readonly version: string;
  readonly source: string;
  readonly contentType: string;
  readonly content: Buffer;
}

export interface RpcHttpData {
  readonly method?: string;
  readonly url?: string;
  readonly headers?: Record<string, string>;
  readonly query?: Record<string, string>;
  readonly params?: Record<string, string>;
  readonly body?: RpcTypedData;
  readonly statusCode?: string;
  readonly cookies?: readonly RpcHttpCookie[];
}

export interface RpcHttpCookie {
  readonly name: string;
  readonly value: string;
  readonly domain?: { readonly value?: string };
  readonly path?: { readonly value?: string };
  readonly expires?: { readonly value?: { readonly seconds: number } };
  readonly secure?: { readonly value?: boolean };
  readonly httpOnly?: { readonly value?: boolean };
  /** `explicitNone` where the app said none; `none` where it said nothing. */
  readonly sameSite?: string;
  readonly maxAge?: { readonly value?: number };
}

export interface BindingInfo {
  readonly type: string;
  readonly direction: 'in' | 'out' | 'inout';
  readonly [property: string]: unknown;
}

export interface FunctionMetadata {
  readonly name: string;
  readonly bindings: Readonly<Record<string, BindingInfo>>;
  readonly retryOptions?: unknown;
}

export type FunctionCallback = (...args: unknown[]) => unknown;

export type RpcLogLevel = 'trace' | 'debug' | 'information' | 'warning' | 'error' | 'critical' | 'none';
export type RpcLogCategory = 'user' | 'system' | 'customMetric';

export interface CoreInvocationContext {
  readonly invocationId: string;
  readonly metadata: FunctionMetadata;
  readonly request: {
    readonly invocationId: string;
    readonly inputData: readonly { readonly name: string; readonly data: RpcTypedData }[];
    readonly triggerMetadata: Readonly<Record<string, RpcTypedData>>;
  };
  state: 'preInvocationHooks' | 'postInvocationHooks' | 'invocation' | undefined;
  log(level: RpcLogLevel, category: RpcLogCategory, message: string): void;
}

export interface InvocationResponse {
  readonly invocationId?: string;
  readonly returnValue?: RpcTypedData | null;
  readonly outputData?: readonly { readonly name: string; readonly data: RpcTypedData }[];
}

/** How one invocation is run; made by the library. The context it hands out is opaque to the host. */
export interface InvocationModel {
  getArguments(): Promise<{ context: unknown; inputs: unknown[] }>;
  invokeFunction(context: unknown, inputs: unknown[], callback: FunctionCallback): Promise<unknown>;
  getResponse(context: unknown, result: unknown): Promise<InvocationResponse>;
}

export interface ProgrammingModel {
  readonly name: string;
  readonly version: string;
  getInvocationModel(context: CoreInvocationContext): InvocationModel;
  getCapabilities?(capabilities: Record<string, string>): Promise<Record<string, string>>;
}

/** The JSON value in a piece of typed data; text that is not JSON is itself. Undefined where there is none. */
export function dataValue(data: RpcTypedData | null | undefined): unknown {
  if (data === null || data === undefined) return undefined;
  if (data.json !== undefined) return JSON.parse(data.json);
  return data.string ?? data.int ?? data.double ?? data.bytes;
}
