/**
 * A process of its own: loads the functions as the worker does, and prints as JSON how many hooks of invocations they
 * registered and which packages of OpenTelemetry were loaded for it.
 */
import { registerHooks } from 'node:module';
import { installCoreApi } from '../../src/local/core-api.ts';

const loaded = new Set<string>();
registerHooks({
  load(url, context, next) {
    const [, name] = /node_modules\/(@opentelemetry\/[^/]+)\/(?!.*node_modules)/.exec(url) ?? [];
    if (name !== undefined) loaded.add(name);
    return next(url, context);
  },
});
const registrations = installCoreApi(() => undefined);
await import('../../functions/index.ts');
process.stdout.write(JSON.stringify({ hooks: registrations.hooks('preInvocation').length, loaded: [...loaded] }));
