/**
 * A process of its own: prints as JSON what the functions register, as the local host sees it, for the app settings in its
 * environment. Registration is global to a process and cannot be undone.
 */
import { createAppSettings } from '../../src/local/app-settings.ts';
import { installCoreApi } from '../../src/local/core-api.ts';
import { type HostedFunction, hostedFunctions } from '../../src/local/functions.ts';

export type Registered = Pick<HostedFunction, 'name' | 'kind' | 'trigger' | 'extraInputs' | 'outputs'>;

const { functions } = installCoreApi(() => undefined);
await import('../../functions/index.ts');
const hosted: Registered[] = hostedFunctions(functions.values(), createAppSettings(process.env)).map(
  ({ name, kind, trigger, extraInputs, outputs }) => ({ name, kind, trigger, extraInputs, outputs }),
);
process.stdout.write(JSON.stringify(hosted));
