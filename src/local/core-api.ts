/**
 * Answers the module `@azure/functions-core`, which the library `@azure/functions` looks for at run time, as the real
 * Node worker does, and collects what an app registers: functions, hooks and the programming model.
 *
 * Registration is global to a process and cannot be undone, so a process hosts one app. This module knows neither
 * triggers nor storage.
 */
import { registerHooks } from 'node:module';
import { FirnError } from '../errors.ts';
import type { FunctionCallback, FunctionMetadata, ProgrammingModel, RpcLogCategory, RpcLogLevel } from './rpc.ts';

export type HookName = 'appStart' | 'appTerminate' | 'preInvocation' | 'postInvocation' | 'log';
const hookNames: readonly HookName[] = ['appStart', 'appTerminate', 'preInvocation', 'postInvocation', 'log'];

/** A hook may change the fields of its context. */
export type HookContext = Record<string, unknown> & { hookData: Record<string, unknown> };
export type HookCallback = (context: HookContext) => unknown;

export interface Registration {
  readonly metadata: FunctionMetadata;
  readonly callback: FunctionCallback;
}

export interface Registrations {
  /** By name, in the order of registration. */
  readonly functions: ReadonlyMap<string, Registration>;
  programmingModel(): ProgrammingModel | undefined;
  hooks(name: HookName): readonly HookCallback[];
}

const MODULE = '@azure/functions-core';
const MODULE_URL = 'firn-local:functions-core';
const EXPORTS = Symbol.for('firn.local.functions-core');

/** The version of the worker whose interface is answered. */
const WORKER_VERSION = '3.11.0';

let installed = false;

/**
 * Installs the module for the rest of the process. Call it before the app is imported.
 *
 * Registering a name twice fails with FIRN_FUNCTION_INVALID (thrown inside the app's own import). A second install
 * fails, for the library would still register with the first.
 */
export function installCoreApi(
  log: (level: RpcLogLevel, category: RpcLogCategory, message: string) => void,
): Registrations {
  if (installed) {
    throw new FirnError('FIRN_LOCAL_STACK_FAILED', { problem: 'this process already hosts an app' });
  }
  installed = true;

  const functions = new Map<string, Registration>();
  const hooks = new Map<HookName, HookCallback[]>(hookNames.map((name) => [name, []]));
  let programmingModel: ProgrammingModel | undefined;

  const coreApi = {
    version: WORKER_VERSION,
    hostVersion: '4.1000.0',
    workerConfig: {},
    setProgrammingModel(model: ProgrammingModel): void {
      programmingModel = model;
    },
    getProgrammingModel: () => programmingModel,
    registerFunction(metadata: FunctionMetadata, callback: FunctionCallback): Disposable & { dispose(): void } {
      // Azure compares the names of functions without regard to case.
      for (const name of functions.keys()) {
        if (name.toLowerCase() === metadata.name.toLowerCase()) {
          throw new FirnError('FIRN_FUNCTION_INVALID', {
            function: metadata.name,
            problem: 'a function of that name is registered already',
          });
        }
      }
      functions.set(metadata.name, { metadata, callback });
      return disposable(() => functions.delete(metadata.name));
    },
    registerHook(name: string, callback: HookCallback): Disposable & { dispose(): void } {
      const callbacks = hooks.get(name as HookName);
      if (callbacks === undefined) {
        const error = new RangeError(`Unrecognized hook "${name}"`);
        throw Object.assign(error, { isAzureFunctionsSystemError: true });
      }
      callbacks.push(callback);
      return disposable(() => callbacks.splice(callbacks.indexOf(callback), 1));
    },
    log,
    Disposable: class {},
  };
  Object.assign(globalThis, { [EXPORTS]: coreApi });

  registerHooks({
    resolve: (specifier, context, next) =>
      specifier === MODULE ? { url: MODULE_URL, format: 'commonjs', shortCircuit: true } : next(specifier, context),
    load: (url, context, next) =>
      url === MODULE_URL
        ? {
            format: 'commonjs',
            source: `module.exports = globalThis[Symbol.for(${JSON.stringify(Symbol.keyFor(EXPORTS))})];`,
            shortCircuit: true,
          }
        : next(url, context),
  });

  return {
    functions,
    programmingModel: () => programmingModel,
    hooks: (name) => hooks.get(name) ?? [],
  };
}

function disposable(dispose: () => void): Disposable & { dispose(): void } {
  return { dispose, [Symbol.dispose]: dispose };
}
