/**
 * Runs one invocation of a hosted function through the programming model of `@azure/functions`, so that inputs, the
 * invocation context and outputs are converted by the very code that converts them in Azure.
 *
 * The order is that of the real worker: arguments, pre-invocation hooks (which may change inputs and handler), the
 * handler, post-invocation hooks (which may change result and error), response; then the host delivers the outputs. An
 * invocation has succeeded only when its outputs are delivered.
 *
 * A handler that runs past `functionTimeout` fails its invocation, but cannot be stopped: in Azure the worker process
 * is ended then, here it runs on, unobserved.
 */
import { randomUUID } from 'node:crypto';
import { FirnError, problemOf } from '../errors.ts';
import type { HookContext, HookName, Registrations } from './core-api.ts';
import type { HostedFunction } from './functions.ts';
import type { HostLogSink } from './log.ts';
import type { BindingInfo, CoreInvocationContext, FunctionCallback, RpcLogLevel, RpcTypedData } from './rpc.ts';

export interface InvocationRequest {
  readonly input: RpcTypedData;
  readonly triggerMetadata?: Readonly<Record<string, RpcTypedData>>;
}

export interface InvocationOutcome {
  readonly returnValue: RpcTypedData | null | undefined;
  /** Outputs that are no business of storage: those of type `http`, by binding name. */
  readonly outputs: ReadonlyMap<string, RpcTypedData>;
}

export interface Invoker {
  /** Invocations under way. */
  readonly running: number;
  /** Rejects with what the handler (or a hook, or the delivery of an output) failed with. */
  invoke(target: HostedFunction, request: InvocationRequest): Promise<InvocationOutcome>;
}

export interface InvokerOptions {
  readonly registrations: Registrations;
  readonly log: HostLogSink;
  /** 0 means no limit. */
  readonly timeoutMs: number;
  /** The data of an input binding that is not the trigger. */
  readonly extraInput: (binding: BindingInfo) => RpcTypedData;
  /** Delivers one output binding's data. */
  readonly deliver: (target: HostedFunction, binding: BindingInfo, data: RpcTypedData) => Promise<void>;
}

export function createInvoker(options: InvokerOptions): Invoker {
  const { registrations } = options;
  const appHookData: Record<string, unknown> = {};
  let running = 0;

  async function run(target: HostedFunction, request: InvocationRequest): Promise<InvocationOutcome> {
    const invocationId = randomUUID();
    const model = registrations.programmingModel();
    if (model === undefined) throw new FirnError('FIRN_INTERNAL', { problem: 'no programming model is registered' });

    const core: CoreInvocationContext = {
      invocationId,
      metadata: target.metadata,
      request: {
        invocationId,
        inputData: [
          { name: target.trigger.name, data: request.input },
          ...target.extraInputs.map(({ name, binding }) => ({ name, data: options.extraInput(binding) })),
        ],
        triggerMetadata: request.triggerMetadata ?? {},
      },
      state: undefined,
      log: (level, category, message) => {
        if (category !== 'customMetric') writeLog(level, category, message);
      },
    };
    let context: unknown;
    function writeLog(level: RpcLogLevel, category: 'user' | 'system', message: string): void {
      const hook: HookContext = { hookData: {}, level, category, message, invocationContext: context };
      for (const callback of registrations.hooks('log')) {
        try {
          callback(hook);
        } catch {
          // A log hook must not fail an invocation; the entry is written as it stands.
        }
      }
      options.log({
        time: new Date().toISOString(),
        level: hook.level as RpcLogLevel,
        category,
        message: String(hook.message),
        functionName: target.name,
        invocationId,
      });
    }

    const invocation = model.getInvocationModel(core);
    const args = await invocation.getArguments();
    context = args.context;

    const before: HookContext = {
      hookData: {},
      appHookData,
      inputs: args.inputs,
      functionCallback: target.callback,
      invocationContext: context,
    };
    core.state = 'preInvocationHooks';
    await runHooks(registrations, 'preInvocation', before);

    const after: HookContext = {
      hookData: before.hookData,
      appHookData,
      inputs: before.inputs,
      invocationContext: context,
      result: null,
      error: null,
    };
    core.state = 'invocation';
    try {
      after.result = await limited(
        invocation.invokeFunction(context, before.inputs as unknown[], before.functionCallback as FunctionCallback),
        options.timeoutMs,
        target.name,
      );
    } catch (error) {
      after.error = error ?? new Error('The function failed without an error.');
    }
    core.state = 'postInvocationHooks';
    await runHooks(registrations, 'postInvocation', after);
    core.state = undefined;
    if (after.error !== null && after.error !== undefined) throw after.error;

    const response = await invocation.getResponse(context, after.result);
    const outputs = new Map((response.outputData ?? []).map(({ name, data }) => [name, data]));
    for (const { name, binding } of target.outputs) {
      const data = name === '$return' ? response.returnValue : outputs.get(name);
      if (data === undefined || data === null || binding.type === 'http') continue;
      await options.deliver(target, binding, data);
    }
    return { returnValue: response.returnValue, outputs };
  }

  return {
    get running() {
      return running;
    },
    async invoke(target, request) {
      running += 1;
      try {
        return await run(target, request);
      } finally {
        running -= 1;
      }
    },
  };
}

/** Hooks run one after the other, each on what the former left. */
export async function runHooks(registrations: Registrations, name: HookName, context: HookContext): Promise<void> {
  for (const callback of registrations.hooks(name)) await callback(context);
}

async function limited<T>(work: Promise<T>, timeoutMs: number, name: string): Promise<T> {
  if (timeoutMs === 0) return work;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new FirnError('FIRN_FUNCTION_TIMEOUT', { function: name, seconds: timeoutMs / 1000 })),
      timeoutMs,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
    // Whoever lost the race may still fail; that failure has no one to go to.
    work.catch(() => undefined);
  }
}

/** For logs and messages: the failure of an invocation in one line. */
export function failureLine(error: unknown): string {
  return problemOf(error).split('\n', 1)[0] ?? '';
}
