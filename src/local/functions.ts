/**
 * Turns what an app registered into functions that the local host can drive, and refuses what it cannot, with the name
 * of the function and the reason. Pure: it reads registrations and settings and touches nothing.
 */
import { FirnError } from '../errors.ts';
import { type AppSettings, HOST_CONNECTION } from './app-settings.ts';
import type { Registration } from './core-api.ts';
import type { BindingInfo, FunctionCallback, FunctionMetadata } from './rpc.ts';

/** Lower case of the types as the library writes them. */
export const triggerKinds = [
  'queuetrigger',
  'blobtrigger',
  'timertrigger',
  'httptrigger',
  'orchestrationtrigger',
  'activitytrigger',
] as const;
export type TriggerKind = (typeof triggerKinds)[number];

export interface NamedBinding {
  readonly name: string;
  /** As registered, but with `%NAME%` replaced. */
  readonly binding: BindingInfo;
}

export interface HostedFunction {
  readonly name: string;
  readonly kind: TriggerKind;
  readonly trigger: NamedBinding;
  readonly extraInputs: readonly NamedBinding[];
  readonly outputs: readonly NamedBinding[];
  readonly callback: FunctionCallback;
  /** As registered; the library reads it. */
  readonly metadata: FunctionMetadata;
}

const inputTypes: readonly string[] = ['durableclient', 'orchestrationclient'];
const outputTypes: readonly string[] = ['queue', 'http'];

/** FIRN_FUNCTION_INVALID, FIRN_SETTING_MISSING. */
export function hostedFunctions(registrations: Iterable<Registration>, settings: AppSettings): HostedFunction[] {
  return [...registrations].map((registration) => hostedFunction(registration, settings));
}

function hostedFunction({ metadata, callback }: Registration, settings: AppSettings): HostedFunction {
  const refuse = (problem: string): never => {
    throw new FirnError('FIRN_FUNCTION_INVALID', { function: metadata.name, problem });
  };
  const triggers: NamedBinding[] = [];
  const extraInputs: NamedBinding[] = [];
  const outputs: NamedBinding[] = [];
  for (const [name, registered] of Object.entries(metadata.bindings)) {
    const binding = expandBinding(registered, metadata.name, settings);
    const type = binding.type.toLowerCase();
    if (type.endsWith('trigger')) {
      triggers.push({ name, binding });
    } else if (binding.direction === 'in') {
      if (!inputTypes.includes(type)) refuse(`input bindings of type ${binding.type} are not supported`);
      extraInputs.push({ name, binding });
    } else {
      if (!outputTypes.includes(type)) refuse(`output bindings of type ${binding.type} are not supported`);
      if (type === 'queue') textOf(binding, 'queueName', metadata.name);
      outputs.push({ name, binding });
    }
  }
  const [trigger] = triggers;
  if (trigger === undefined || triggers.length > 1) return refuse('it must have exactly one trigger');
  const type = trigger.binding.type.toLowerCase();
  const kind = triggerKinds.find((known) => known === type);
  if (kind === undefined) return refuse(`triggers of type ${trigger.binding.type} are not supported`);
  if (typeof callback !== 'function') return refuse('it has no handler');
  return { name: metadata.name, kind, trigger, extraInputs, outputs, callback, metadata };
}

function expandBinding(binding: BindingInfo, functionName: string, settings: AppSettings): BindingInfo {
  const expanded = Object.fromEntries(
    Object.entries(binding).map(([key, value]) => [
      key,
      typeof value === 'string' ? settings.expand(value, functionName) : value,
    ]),
  );
  return { ...expanded, type: binding.type, direction: binding.direction };
}

/** A property that must be there as text. FIRN_FUNCTION_INVALID. */
export function textOf(binding: BindingInfo, property: string, functionName: string): string {
  const value = binding[property];
  if (typeof value === 'string' && value !== '') return value;
  throw new FirnError('FIRN_FUNCTION_INVALID', {
    function: functionName,
    problem: `its ${binding.type} binding has no ${property}`,
  });
}

export function connectionOf(binding: BindingInfo): string {
  return typeof binding.connection === 'string' && binding.connection !== '' ? binding.connection : HOST_CONNECTION;
}
