/**
 * What the hooks of a deployment reach the world with: the Azure CLI (`az`, signed in), HTTP and the terminal. Nothing
 * secret is put on a command line or printed.
 */
import { execFile } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

export interface World {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Runs `az` in the subscription of the environment. @returns what it printed. @throws with what it complained about. */
  az(args: readonly string[]): Promise<string>;
  fetch(url: string, init: RequestInit): Promise<Response>;
  wait(ms: number): Promise<void>;
  say(text: string): void;
}

const OUTPUT_BYTES_MAX = 16 * 1024 ** 2;
const run = promisify(execFile);

export function realWorld(environment: World['environment'] = process.env): World {
  const subscription = environment.AZURE_SUBSCRIPTION_ID;
  return {
    environment,
    async az(args) {
      const all = [...args, ...(subscription ? ['--subscription', subscription] : [])];
      // On Windows `az` is a script, which only a shell can run.
      const options = { maxBuffer: OUTPUT_BYTES_MAX, shell: process.platform === 'win32' };
      const { stdout } = await run('az', all, options);
      return stdout.trim();
    },
    fetch: (url, init) => fetch(url, init),
    wait: (ms) => delay(ms),
    say: (text) => void process.stdout.write(`${text}\n`),
  };
}

/** A setting of the environment; azd puts the outputs of `main.bicep` there. */
export function need({ environment }: World, name: string): string {
  const value = environment[name];
  if (value) return value;
  throw new Error(`${name} is not set. azd sets it; without azd, see docs/deploy.md.`);
}

/** Without azd: the outputs of the deployment that AZURE_DEPLOYMENT names. Azure changes the case of their names. */
export async function withOutputs(world: World, names: readonly string[]): Promise<World> {
  const deployment = world.environment.AZURE_DEPLOYMENT;
  if (!deployment) return world;
  const query = ['--query', 'properties.outputs', '--output', 'json'];
  const outputs = JSON.parse(await world.az(['deployment', 'sub', 'show', '--name', deployment, ...query])) as {
    readonly [name: string]: { readonly value: string };
  };
  const values = new Map(Object.entries(outputs).map(([name, { value }]) => [name.toUpperCase(), value]));
  const environment = Object.fromEntries(names.map((name) => [name, values.get(name)]));
  return { ...world, environment: { ...world.environment, ...environment } };
}

/** As `main.bicep` names it. */
export function archiveGroupOf(world: World): string {
  return `rg-${need(world, 'AZURE_ENV_NAME')}-archive`;
}

/** Runs a hook as the process that this is: it prints why it failed, and fails. */
export async function runHook(hook: (world: World) => Promise<void>): Promise<void> {
  try {
    await hook(realWorld());
  } catch (error) {
    process.stderr.write(`firn: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}
